"""What the pages say of models is what the package knows of them."""

from __future__ import annotations

import re
import sys

import pytest
import torch
from documented import ROOT
from transformers import EomtConfig, EomtForUniversalSegmentation

from masqclip import Segmenter
from masqclip.hub import named_models, presets

sys.path.append(str(ROOT / "benchmarks"))
from first_photograph import EOMTS, TOWERS, clip_of

LICENCES, HARDWARE = ((ROOT / f"docs/{name}.md").read_text() for name in ("licences", "hardware"))
ROWS = {
    cells[0].strip("` "): [cell.strip() for cell in cells[1:]]
    for cells in (row.split("|")[1:-1] for row in HARDWARE.splitlines() if row.startswith("| `"))
}


@pytest.mark.parametrize("model", named_models(), ids=lambda model: model.name)
def test_a_part_stands_beside_its_licence(model: object) -> None:
    (row,) = [row for row in LICENCES.splitlines() if f"`{model.name}`" in row]  # type: ignore[attr-defined]
    assert row.split("|")[2].strip() == model.licence  # type: ignore[attr-defined]


@pytest.mark.parametrize("preset", presets(), ids=lambda preset: preset.name)
def test_what_a_preset_needs(preset: object) -> None:
    _, _, _, memory, seconds, gpu = ROWS[preset.name]  # type: ignore[attr-defined]
    known = (preset.memory_gb, preset.cpu_seconds, preset.gpu_seconds)  # type: ignore[attr-defined]
    assert (memory, seconds, gpu) == (f"{known[0]:g} GB", f"{known[1]:g}", f"{known[2]:g}")
    assert f"| `{preset.name}` |" in LICENCES  # type: ignore[attr-defined]


def millions(model: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def clip(name: str) -> tuple[float, float]:
    """The parameters of a CLIP, and those of the queries for it, in millions."""
    width, layers, *_ = TOWERS[name]
    with torch.device("meta"):
        return millions(clip_of(name)), (layers * (width + 1) * width + width) / 1e6


def eomt(name: str) -> float:
    """The parameters of an EoMT in millions."""
    width, layers, heads, side, blocks = EOMTS[name]
    with torch.device("meta"):
        config = EomtConfig(
            hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
            image_size=side, num_blocks=blocks, num_labels=133,
        )  # fmt: skip
        return millions(EomtForUniversalSegmentation(config))


def test_parameters_and_weights_are_those_of_the_published_sizes() -> None:
    sizes = {
        preset.name: clip(preset.clip)[0] + eomt(preset.proposer)
        for preset in presets()
        if preset.proposer
    }
    sizes["masqclip-paper"] = sum(clip("clip-l14-336")) + 44.04  # Mask2Former: docs/training.md
    sizes["masqclip-mini"] = millions(Segmenter.from_pretrained("masqclip-mini").model)
    for name, size in sizes.items():
        told, whole, half = ROWS[name][:3]
        assert float(told) == pytest.approx(size, abs=0.06), name
        assert float(whole.removesuffix(" GB")) == pytest.approx(4 * size / 1e3, abs=0.006), name
        assert float(half.removesuffix(" GB")) == pytest.approx(2 * size / 1e3, abs=0.006), name


@pytest.mark.parametrize(("name", "what"), [("clip-l14-336", "L"), ("dfn-h14-378", "H")])
def test_what_tuning_learns(name: str, what: str) -> None:
    (row,) = re.findall(rf"^\| `train tune`, ViT-{what}/14 \| (\S+) \| (\S+) GB", HARDWARE, re.M)
    learned = clip(name)[1]
    assert float(row[0]) == pytest.approx(learned, abs=0.06)
    assert float(row[1]) == pytest.approx(16 * learned / 1e3, abs=0.006)
