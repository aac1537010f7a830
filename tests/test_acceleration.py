"""Compiled models give the same results; on a processor the graph is captured, not generated."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from masqclip.acceleration import MASK_STEP, compile_model
from masqclip.clip.masked_vision import ImageTokens
from masqclip.proposals.base import Proposals
from masqclip.segmenter import Segmenter

BEACH = Path(__file__).parents[1] / "examples" / "beach.png"
NAMES = ["rocket", "tulip", "car", "snake", "stuff: sand"]


def test_a_compiled_model_gives_the_same_results() -> None:
    plain = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    compiled = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    compile_model(compiled.model, backend="eager")
    torch.compiler.reset()
    for min_score in (0.3, 0.6):  # other numbers of masks in one shape
        expected = plain(BEACH, NAMES, min_score=min_score)
        found = next(compiled.stream([BEACH], NAMES, min_score=min_score))
        assert [s.name for s in found.segments] == [s.name for s in expected.segments]
        assert float(np.mean(found.label_map != expected.label_map)) <= 1e-3


class Straw:
    """What is compiled of a model: it writes its results where it wrote the last ones."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        self.result = torch.zeros(1, 2 * MASK_STEP, 4)
        self.seen: list[tuple[int, ...]] = []

    def propose(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        self.result += 1
        return Proposals(self.result, self.result)

    def encode_and_embed(
        self, pixel_values: Tensor, mask_logits: Tensor
    ) -> tuple[ImageTokens, Tensor]:
        self.seen.append(tuple(mask_logits.shape))
        assert not (mask_logits.flatten(2).sum(2) > 0)[:, 3:].any(), "empty masks beside them"
        self.result += 1
        return ImageTokens((self.result,), (self.result,)), self.result[:, : mask_logits.shape[1]]

    def embed_patches(self, tokens: ImageTokens, visible: Tensor) -> Tensor:
        self.seen.append(tuple(visible.shape))
        assert not visible[:, 3:].any()
        self.result += 1
        return self.result[:, : visible.shape[1]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What `torch.compile` is asked for; it compiles nothing here."""
    options: list[dict[str, Any]] = []
    monkeypatch.setattr(torch, "compile", lambda call, **how: options.append(how) or call)
    return options


def test_any_number_of_masks_is_one_of_few_shapes(asked: list[dict[str, Any]]) -> None:
    model: Any = Straw("cpu")
    compile_model(model)
    tokens = ImageTokens((), ())
    for number, padded in ((1, 20), (3, 20), (20, 20), (21, 40)):
        masks = torch.ones(1, number, 2, 5)
        masks[:, 3:] = 0
        _, found = model.encode_and_embed(torch.zeros(1), masks)
        again = model.embed_patches(tokens, masks.flatten(2).bool())
        assert found.shape == again.shape == (1, number, 4)
        assert model.seen[-2:] == [(1, padded, 2, 5), (1, padded, 10)]
    assert asked == 3 * [{"backend": "inductor", "dynamic": False}]


@pytest.mark.parametrize(
    ("device", "backend", "graphs"),
    [("cuda", "inductor", True), ("cuda", "eager", False), ("cpu", "inductor", False)],
)
def test_results_are_copied_out_of_graphs(
    device: str, backend: str, graphs: bool, asked: list[dict[str, Any]]
) -> None:
    """A graph writes its next results over these."""
    model: Any = Straw(device)
    compile_model(model, backend=backend)
    options = {"backend": backend, "dynamic": False} | (
        {"mode": "reduce-overhead"} if graphs else {}
    )
    assert asked == 3 * [options]
    proposals = model.propose(torch.zeros(1), torch.zeros(1))
    tokens, found = model.encode_and_embed(torch.zeros(1), torch.zeros(1, 3, 2, 2))
    late = model.embed_patches(tokens, torch.zeros(1, 3, 4, dtype=torch.bool))
    results = [
        proposals.mask_logits,
        proposals.object_logits,
        *tokens.keys,
        *tokens.values,
        found,
        late,
    ]
    before = [result.flatten()[0].item() for result in results]
    model.result.zero_()
    kept = [result.flatten()[0].item() for result in results] == before
    assert kept == graphs
    if graphs:
        assert before == [1, 1, 2, 2, 2, 3]
        assert not any(result.flatten()[0].item() == 0 for result in results)


def test_a_segmenter_compiles_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr("masqclip.pretrained.compile_model", compiled.append)
    straw: Any = SimpleNamespace(model="the model")
    Segmenter.compile(straw)
    assert compiled == ["the model"]
