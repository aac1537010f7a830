"""What a run leaves for its next call: checkpoints, inputs, the log, recipes; damaged or not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from masqclip.errors import MasqclipError
from masqclip.training.checkpoint_files import read_checkpoint, write_checkpoint
from masqclip.training.curves import write_curves
from masqclip.training.inputs import claim_inputs
from masqclip.training.recipes import load_recipe
from masqclip.training.trackers import JsonLines, read_log

STATE = {"weights": {"a": torch.arange(1000.0)}, "step": 3, "names": ["x"]}


def test_a_checkpoint_is_torchs_own_format_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "of" / "runs" / "a.pt"  # folders are made
    write_checkpoint(path, STATE)
    for state in (read_checkpoint(path), torch.load(path, weights_only=True)):
        assert torch.equal(state["weights"]["a"], STATE["weights"]["a"])  # type: ignore[index]
        assert (state["step"], state["names"]) == (3, ["x"])
    assert [path.name for path in path.parent.iterdir()] == ["a.pt"]


def test_every_flipped_bit_of_a_checkpoint_is_told(tmp_path: Path) -> None:
    """torch by itself reads on, where the bit is one of a tensor's."""
    path = tmp_path / "a.pt"
    write_checkpoint(path, STATE)
    whole = path.read_bytes()
    for place in range(0, len(whole), 97):
        changed = bytearray(whole)
        changed[place] ^= 1 << place % 8
        path.write_bytes(bytes(changed))
        with pytest.raises(MasqclipError, match="delete it") as caught:
            read_checkpoint(path)
        assert "weights_only" not in str(caught.value)


def test_what_is_wrong_with_a_checkpoint_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    write_checkpoint(path, STATE)
    whole = path.read_bytes()
    torch.save(STATE, tmp_path / "foreign.pt")
    write_checkpoint(tmp_path / "half.pt", STATE)
    (tmp_path / "half.pt").write_bytes(whole[:-1])
    damaged = whole[:300] + bytes([whole[300] ^ 1]) + whole[301:]
    (tmp_path / "damaged.pt").write_bytes(damaged)
    for name, said in (
        ("gone.pt", "No such file"),
        ("foreign.pt", "does not end with a digest"),
        ("half.pt", "does not end with a digest"),
        ("damaged.pt", "it is damaged"),
    ):
        with pytest.raises(
            MasqclipError, match=rf"{name} cannot be read \(.*{said}.*\); delete it"
        ):
            read_checkpoint(tmp_path / name)


def test_a_run_goes_on_with_its_own_inputs_only(tmp_path: Path) -> None:
    claim_inputs(tmp_path, {"--data": "1", "--model": "2"})
    claim_inputs(tmp_path, {"--data": "1", "--model": "2"})
    for other in ({"--data": "1", "--model": "3"}, {"--data": "1"}, {}):
        with pytest.raises(MasqclipError, match=r"other content of .*--model"):
            claim_inputs(tmp_path, other)


def test_what_is_no_number_is_null_in_the_log(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl", 0)
    log.log(1, {"loss": 1.0, "recall": math.nan})
    log.flush()
    log.close()
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {
        "step": 1,
        "loss": 1.0,
        "recall": None,
    }
    write_curves(tmp_path)
    assert (tmp_path / "curves.png").exists()


@pytest.mark.parametrize("line", ["{", "7", "{}", '{"step": "x"}', "[" * 100_000, '{"step": NaN}'])
def test_a_damaged_line_of_the_log_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(f'{{"step": 1, "loss": 2.0}}\n{line}\n')
    with pytest.raises(MasqclipError, match=r"line 2.* delete that line"):
        read_log(tmp_path / "log.jsonl")


@pytest.mark.parametrize(
    "text",
    [
        "tune = 7",
        "[tune]\nloop = 7",
        "a = " + "[" * 100_000,
        "\udcff",
        "[tune]\nseed = 1\nseed = 2",
    ],
)
def test_a_damaged_recipe_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(MasqclipError) as caught:
        load_recipe(tmp_path / "mine.toml", "tune")
    assert "mine" in str(caught.value)


def test_a_value_that_is_nested_deeply_is_a_text(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="must be of type int"):
        load_recipe("miniature", "tune", ["steps=" + "[" * 100_000])
