"""Distillation: which of a teacher's masks count, and that rounds train, resume and hand on."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open
from torch import Tensor

from masqclip.training.distill import select_masks

GOLDEN = Path(__file__).parent.parent / "data" / "mask_distill.safetensors"


@pytest.mark.parametrize("case", range(5))
def test_the_published_choice(case: int) -> None:
    """The same masks in the same order as the authors' code (see the file's own settings)."""
    with safe_open(GOLDEN, "pt") as file:
        settings = {name: float(value) for name, value in file.metadata().items()}

        def read(name: str) -> Tensor:
            return file.get_tensor(f"{case}.{name}")

        kept = select_masks(
            read("gt_masks").bool(),
            read("teacher_masks").bool(),
            read("teacher_scores"),
            **settings,
        )
        assert kept.tolist() == read("kept").tolist()
