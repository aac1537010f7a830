"""The bounds of a configuration's values: the last that is taken, the first that is not."""

from __future__ import annotations

from pickle import UnpicklingError
from typing import Any

import pytest
from transformers import (
    CLIPVisionConfig,
    EomtDinov3Config,
    MaskFormerConfig,
    Sam2Config,
    Sam2HieraDetConfig,
)

from masqclip.errors import MasqclipError
from masqclip.weights.budget import Budget
from masqclip.weights.configs import build_config, describe, num_layers


def taken(name: str, value: Any, config_class: Any = CLIPVisionConfig) -> bool:
    """Whether the bounds let a value through; what a class itself makes of it is its own."""
    try:
        build_config(config_class, {name: value}, source="it", extra=[name])
    except MasqclipError as error:
        if f"it has {name} = " in str(error):
            return False
    return True


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("num_hidden_layers", 0, 256),
        ("hidden_size", 1, 10_000_000),
        ("projection_dim", 1, 10_000_000),
        ("num_attention_heads", 1, 10_000_000),
        ("num_channels", 1, 10_000_000),
        ("window_size", 0, 10_000_000),
        ("pad_token_id", -1000, 10_000_000),
        ("ignore_value", -1000, 10_000_000),
        ("anything", 0, 10_000_000),
    ],
)
def test_a_number_is_from_the_least_to_the_most(name: str, least: int, most: int) -> None:
    assert [taken(name, value) for value in (least - 1, least, most, most + 1)] == [
        False, True, True, False
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("layer_norm_eps", 0.0, True), ("layer_norm_eps", 1.0, True),
        ("layer_norm_eps", 1.001, False), ("layer_norm_eps", -0.001, False),
        ("anything", 1e7, True), ("anything", -1e7, True), ("anything", 1.1e7, False),
        ("anything", -1.1e7, False), ("anything", float("nan"), False),
        ("anything", float("inf"), False), ("anything", None, True), ("anything", True, True),
        ("anything", "x" * 200, True), ("anything", "x" * 201, False), ("anything", "a\n", False),
        ("anything", [0] * 1000, True), ("anything", [0] * 1001, False),
        ("anything", [[1, 2], [3]], True), ("anything", [[[1]]], False),
        ("anything", [{}], False), ("anything", [1, -1], False), ("anything", {}, False),
        ("depths", [128, 128], True), ("depths", [128, 129], False), ("depths", [257], False),
    ],
)  # fmt: skip
def test_values_of_other_kinds_have_their_bounds(name: str, value: Any, fits: bool) -> None:
    assert taken(name, value) == fits


def test_layers_are_counted_in_all_parts() -> None:
    assert num_layers({"num_hidden_layers": 3, "hidden_size": 7}) == 3
    assert num_layers({"a": {"depths": [2, 2, 6], "b": {"encoder_layers": 4}}}) == 14
    config = CLIPVisionConfig(num_hidden_layers=5)
    assert num_layers(config) == num_layers({"vision_config": config}) == 5
    assert num_layers({"num_hidden_layers": True}) == 0


def test_classes_are_listed_or_counted() -> None:
    def labels(**values: Any) -> dict[int, str]:
        config = build_config(MaskFormerConfig, values, source="it")
        return dict(config.id2label)

    assert labels(num_labels=3) == {i: f"LABEL_{i}" for i in range(3)}
    assert labels(id2label={"0": "a", "1": "b"}) == {0: "a", 1: "b"}
    assert labels(id2label={"0": "a" * 201}) == {0: "a" * 200}
    assert len(labels(num_labels=100_000)) == 100_000
    for bad in ({"num_labels": 0}, {"num_labels": 100_001}, {"num_labels": True},
                {"id2label": {"a": "b"}}, {"id2label": {"0": 1}}, {"id2label": {"1" * 10: "a"}},
                {"id2label": ["a"]}):  # fmt: skip
        with pytest.raises(MasqclipError, match="no list of class names"):
            labels(**bad)


def test_what_is_common_to_all_models_is_left_out() -> None:
    config = build_config(
        CLIPVisionConfig,
        {"hidden_size": 24, "_attn_implementation": "evil", "dtype": "float16", "unknown": 1},
        source="it",
    )
    assert config.hidden_size == 24
    assert config.dtype is None
    assert not hasattr(config, "unknown")
    assert "_name_or_path" not in describe(config)
    for other in (None, [], "x"):
        with pytest.raises(MasqclipError, match="holds no description of a CLIPVision"):
            build_config(CLIPVisionConfig, other, source="it")


def test_a_file_may_ask_for_four_times_itself_and_16_mb() -> None:
    budget = Budget(1000)
    budget.spend(16_000_000)
    budget.spend(4000)
    budget.spend(0)
    with pytest.raises(UnpicklingError):
        budget.spend(1)


def test_rotations_are_numbers_of_a_usual_kind() -> None:
    told = {"rope_theta": 50.0, "rope_type": "default"}
    found = build_config(EomtDinov3Config, {"rope_parameters": told}, source="it")
    assert found.rope_parameters["rope_theta"] == 50
    for wrong, said in (
        ({"rope_type": "yarn"}, "rope_parameters of a type that no model here has"),
        ({"rope_theta": 1e99}, "a number of a usual size"),
        ({"rope_theta": {"a": 1}}, "it is a number, a text or a list"),
    ):
        with pytest.raises(MasqclipError, match=said):
            build_config(EomtDinov3Config, {"rope_parameters": wrong}, source="it")


def test_layers_are_counted_wherever_they_are_described() -> None:
    with pytest.raises(MasqclipError, match="more than 256 layers"):
        build_config(Sam2HieraDetConfig, {"blocks_per_stage": [1, 300, 1, 1]}, source="it")
    parts = [{"proposer_config": {"num_hidden_layers": n}} for n in (3, 4)]
    assert num_layers({"proposer_config": {"parts": parts}, "decoder_layers": 2}) == 9
    with pytest.raises(MasqclipError, match="a vision_config of the type 'clip_vision_model'"):
        build_config(
            Sam2Config, {"vision_config": {"model_type": "clip_vision_model"}}, source="it"
        )
