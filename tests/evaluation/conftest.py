"""The model that is measured here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from masqclip import Segmenter


@pytest.fixture(scope="module")
def segmenter() -> Iterator[Segmenter]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Segmenter.from_pretrained("masqclip-mini", device="cpu")
    torch.set_num_threads(threads)
