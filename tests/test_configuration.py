"""A model's settings: the published defaults, what each may be, and that a folder keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import CLIPConfig

from masqclip.configuration import MasQClipConfig
from masqclip.errors import MasqclipError

PUBLISHED = {
    "proposer_type": "mask2former",
    "query_start": "clip",
    "own_projections": "q",
    "clip_input": "stretch",
    "shortest_edge": 800,
    "longest_edge": 1333,
    "size_divisor": 32,
    "pixel_mean": (123.675, 116.28, 103.53),
    "pixel_std": (58.395, 57.12, 57.375),
    "clip_mean": (0.48145466, 0.4578275, 0.40821073),
    "clip_std": (0.26862954, 0.26130258, 0.27577711),
    "clip_resample": "bicubic",
    "logit_scale": 100.0,
    "logit_bias": None,
    "scores": "softmax",
    "object_threshold": 0.3,
    "overlap_threshold": 0.3,
}
OTHERS: dict[str, Any] = {
    "clip_config": {"projection_dim": 64},
    "proposer_type": "sam",
    "proposer_config": {"num_queries": 7},
    "query_start": "random",
    "own_projections": "qkv",
    "clip_input": "aspect",
    "shortest_edge": 64,
    "longest_edge": 96,
    "size_divisor": 4,
    "pixel_mean": (1.0, 2.0, 3.0),
    "pixel_std": (4.0, 5.0, 6.0),
    "clip_mean": (0.1, 0.2, 0.3),
    "clip_std": (0.4, 0.5, 0.6),
    "clip_resample": "bilinear",
    "logit_scale": 20.0,
    "logit_bias": -16.5,
    "scores": "sigmoid",
    "object_threshold": 0.4,
    "overlap_threshold": 0.7,
}


def test_defaults_are_the_published_settings() -> None:
    config = MasQClipConfig()
    assert {name: getattr(config, name) for name in PUBLISHED} == PUBLISHED
    assert config.proposer_config == {}
    assert CLIPConfig(**config.clip_config).projection_dim == CLIPConfig().projection_dim


def test_every_setting_is_kept_and_comes_back_from_a_folder(tmp_path: Path) -> None:
    given = MasQClipConfig(**OTHERS)
    given.save_pretrained(tmp_path)
    for config in (given, MasQClipConfig.from_pretrained(tmp_path)):
        assert {name: getattr(config, name) for name in OTHERS} == OTHERS


@pytest.mark.parametrize(
    ("name", "least", "most", "below", "above"),
    [
        ("shortest_edge", 1, 2_048, 0, 2_049),
        ("longest_edge", 1, 4_096, 0, 4_097),
        ("size_divisor", 1, 1_024, 0, 1_025),
        ("logit_scale", 1e-6, 10_000, 0, 10_001),
        ("object_threshold", 0, 1, -0.01, 1.01),
        ("overlap_threshold", 0.0, 1.0, -0.01, 1.01),
    ],
)
def test_numbers_have_bounds_which_may_be_reached(
    name: str, least: float, most: float, below: float, above: float
) -> None:
    for value in (least, most):
        assert getattr(MasQClipConfig(**{name: value}), name) == value
    for value in (below, above, float("nan"), True, "1", None):
        with pytest.raises(MasqclipError, match=f"{name} is "):
            MasQClipConfig(**{name: value})


@pytest.mark.parametrize("name", ["shortest_edge", "longest_edge", "size_divisor"])
def test_pixels_are_whole(name: str) -> None:
    with pytest.raises(MasqclipError, match=f"{name} is 64.5; it is a whole number from 1 to "):
        MasQClipConfig(**{name: 64.5})


@pytest.mark.parametrize("name", ["pixel_mean", "pixel_std", "clip_mean", "clip_std"])
def test_channels_are_three_numbers_and_spreads_above_zero(name: str) -> None:
    for right in ((1, 2.5, 1e6), [1, 2, 3]):
        assert getattr(MasQClipConfig(**{name: right}), name) == tuple(right)
    for wrong in ((1, 2), (1, 2, 3, 4), (1, 2, "3"), (1, 2, float("nan")), 3, "123", (1, 2, 2e6)):
        with pytest.raises(MasqclipError, match=f"{name} is .* three numbers"):
            MasQClipConfig(**{name: wrong})
    for low in ((0, 1, 1), (-1.0, 1, 1)):
        if name.endswith("std"):
            with pytest.raises(MasqclipError, match="above zero"):
                MasQClipConfig(**{name: low})
        else:
            assert getattr(MasQClipConfig(**{name: low}), name) == low
    least = 1e-6 if name.endswith("std") else -1e6
    assert getattr(MasQClipConfig(**{name: (least, 1, 1)}), name) == (least, 1, 1)
    with pytest.raises(MasqclipError, match=name):
        MasQClipConfig(**{name: (least - 1, 1, 1)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_config": [1]}, "clip_config is a list; it is a dictionary"),
        ({"proposer_config": "x"}, "proposer_config is a str; it is a dictionary"),
        ({"query_start": "zero"}, "query_start is 'zero'; it is 'clip' or 'random'"),
        ({"own_projections": "kq"}, "own_projections is 'kq'; it is one of q, k, v, qk, qkv"),
        ({"own_projections": ["q"]}, "own_projections is .*; it is one of q, k, v, qk, qkv"),
        ({"clip_resample": "box"}, "clip_resample is 'box'; it is 'bicubic' or 'bilinear'"),
        ({"scores": "top"}, "scores is 'top'; it is 'softmax' or 'sigmoid'"),
        ({"scores": "sigmoid"}, "scores is 'sigmoid', and there is no logit_bias"),
        ({"logit_bias": "x"}, "logit_bias is x; it is a number from -1000 to 1000"),
        ({"logit_bias": float("nan")}, "logit_bias is nan"),
        ({"clip_input": "crop"}, "clip_input is 'crop'; it is 'stretch' or 'aspect'"),
    ],
)
def test_what_is_no_setting(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MasqclipError, match=message):
        MasQClipConfig(**settings)
