"""What a picture costs is counted: against hand-made counts, the paper, and a real run."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from gpu_calls import BENCHMARKS

from gflops import (
    Part,
    count,
    described,
    frame_of,
    halves,
    main,
    multiply_adds,
    published_parts,
    system_parts,
    table,
)
from masqclip.baselines.loading import SYSTEMS
from masqclip.model import MasQClipModel
from models import tiny

MINI = BENCHMARKS.parent / "src" / "masqclip" / "models" / "masqclip-mini"
# The sizes of `models.tiny`: width, MLP, patches, tokens, words, masks, and pixels of a patch.
D, M, P, T, E, Q, AREA = 32, 64, 16, 17, 16, 8, 64


@pytest.fixture(scope="module")
def model() -> MasQClipModel:
    return tiny().model.requires_grad_(False)


def of_system(model: MasQClipModel, system: str) -> MasQClipModel:
    config = copy.deepcopy(model.config)
    config.system = system
    if system == "openseg":
        config.system_config = {"width": 32, "queries": 8, "layers": 1, "heads": 2}
    return SYSTEMS[system](config).requires_grad_(False).eval()


def block(rows: int, seen: int) -> int:
    """Queries, attention, output and MLP of so many tokens that read so many."""
    return rows * (2 * D * D + 2 * D * M + 2 * seen * D)


PATCHES = P * D * 3 * AREA
KEYS_AND_VALUES = T * 2 * D * D


def test_a_clip_costs_what_a_hand_counts(model: MasQClipModel) -> None:
    vision = model.clip.vision_model
    for device in ("cpu", "meta"):  # fused attention on the first, its parts on the second
        twin = copy.deepcopy(vision).to(device)
        picture = torch.zeros(1, 3, 32, 32, device=device)
        assert multiply_adds(partial(twin, picture)) == PATCHES + 2 * (
            KEYS_AND_VALUES + block(T, T)
        )


def test_the_halves_of_both_systems(model: MasQClipModel) -> None:
    """The last block gives the picture's keys and values alone."""
    masks = torch.zeros(1, Q, 16, 16, device="meta")
    picture = PATCHES + 2 * KEYS_AND_VALUES + block(T, T)
    tokens = 2 * block(Q, T) + Q * D * E
    twin = described(model)
    assert halves(twin, frame_of(twin, None)[0], masks) == (picture, tokens)
    twin = described(of_system(model, "maskclip"))
    # Of four places on two blocks two are beside each: they fall on one another, the last counts.
    beside = Q * P * 2 * AREA * D + P * D * D + Q * P * D
    found = halves(twin, frame_of(twin, None)[0], masks)
    assert found == (picture, tokens + 2 * beside)


def test_fused_attention_is_its_two_products() -> None:
    query, key = torch.zeros(2, 3, 5, 8), torch.zeros(2, 3, 7, 8)
    explicit = multiply_adds(lambda: (query @ key.mT).softmax(-1) @ key)
    assert explicit == 2 * 3 * 5 * 7 * 8 * 2
    for mask in (None, torch.ones(5, 7, dtype=torch.bool)):
        fused = partial(F.scaled_dot_product_attention, query, key, key, attn_mask=mask)
        assert multiply_adds(fused) == explicit


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_described_system_costs_what_a_run_costs(system: str, model: MasQClipModel) -> None:
    asked = of_system(model, system)
    pixels, inside = (torch.zeros(x.shape, dtype=x.dtype) for x in frame_of(asked, (48, 100)))
    assert pixels.shape == (1, 3, 64, 160)
    real = multiply_adds(lambda: asked.see(pixels, ~inside))
    assert count(asked, (48, 100)) == real / 1e9 > 0
    *parts, whole = system_parts(asked, (48, 100))
    assert whole.multiply_adds == real
    assert whole.learned == sum(p.numel() for p in asked.learned.parameters())
    assert sum(part.multiply_adds for part in parts) in (0, real)


def test_table_6() -> None:
    """The paper's rule gives its figures; a multiply-add counted once, those of others."""
    parts = {part.name: part for part in published_parts()}
    for part in parts.values():
        if part.paper is not None:
            assert part.rule is not None
            assert abs(part.rule / 1e9 - part.paper) <= 0.003 * part.paper
    learned = {part.learned for part in parts.values() if part.learned}
    assert learned == {5_817_104, 25_191_424}
    assert round(parts["CLIP ViT-L/14, 336 x 336"].multiply_adds / 1e9) == 191
    lines = table(list(parts.values())).splitlines()
    assert len(lines) == 2 + len(parts)
    assert lines[-1] == ("| MasQCLIP with Mask2Former | 308.7 | 617.3 | 357.0 | 357 | 25.19 |")


def test_a_table_without_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    assert table([Part("a", 1_500_000_000)]).splitlines()[-1] == "| a | 1.500 | 3.000 |  |"
    main(model=str(MINI), size=(64, 64))
    out = capsys.readouterr().out
    assert "| CLIP, mask tokens |" in out
    assert "Table 6" not in out
    with pytest.raises(SystemExit):
        main(model=str(MINI), size=(0, 64))
