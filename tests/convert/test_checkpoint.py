"""Reading checkpoint files: tensors, and nothing that can run code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from masqclip.convert.checkpoint import read_state_dict
from masqclip.errors import MasqclipError


class Harmful:
    """Would create a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_plain_wrapped_and_safetensors(tmp_path: Path) -> None:
    weights = {"a": torch.arange(3.0), "b": torch.ones(2, dtype=torch.float16)}
    torch.save(weights, tmp_path / "plain.pth")
    torch.save({"model": weights, "iteration": 7, "optimizer": {}}, tmp_path / "wrapped.pth")
    torch.save({"state_dict": weights, "epoch": 1}, tmp_path / "other.ckpt")
    save_file(weights, tmp_path / "weights.safetensors")
    for file in sorted(tmp_path.iterdir()):
        read = read_state_dict(file)
        assert read.keys() == weights.keys()
        assert all(torch.equal(read[name], weights[name]) for name in weights)


def test_code_does_not_run(tmp_path: Path) -> None:
    file = tmp_path / "harmful.pth"
    torch.save({"model": {"a": torch.ones(1)}, "x": Harmful(tmp_path / "harm")}, file)
    with pytest.raises(MasqclipError, match="cannot be read as plain tensors") as caught:
        read_state_dict(file)
    assert not (tmp_path / "harm").exists()
    assert "\n" not in str(caught.value)


def test_missing_broken_and_empty(tmp_path: Path) -> None:
    with pytest.raises(MasqclipError, match="no checkpoint file"):
        read_state_dict(tmp_path / "nowhere.pth")
    for name in ("broken.pth", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"no weights at all")
        with pytest.raises(MasqclipError, match="cannot be read as plain tensors"):
            read_state_dict(tmp_path / name)
    (tmp_path / "zero.pth").write_bytes(b"")
    with pytest.raises(MasqclipError, match="cannot be read as plain tensors"):
        read_state_dict(tmp_path / "zero.pth")
    torch.save({"iteration": 3}, tmp_path / "empty.pth")
    with pytest.raises(MasqclipError, match="holds no named tensors"):
        read_state_dict(tmp_path / "empty.pth")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "jit.pt")
    with pytest.raises(MasqclipError, match="is a TorchScript archive"):
        read_state_dict(tmp_path / "jit.pt")
