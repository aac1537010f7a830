"""Reading checkpoint files: tensors, and nothing that can run code."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from masqclip.errors import MasqclipError
from masqclip.weights.checkpoint import read_state_dict


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


@pytest.mark.parametrize("name", ["harmful.pkl", "harmful.pth", "harmful.pt", "harmful.bin"])
def test_no_pickle_runs_code(tmp_path: Path, name: str) -> None:
    harmful = {"model": {"a": np.ones(1)}, "x": Harmful(tmp_path / "harm")}
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / name).write_bytes(pickle.dumps(harmful, protocol))
        with pytest.raises(MasqclipError, match="cannot be read as plain tensors") as caught:
            read_state_dict(tmp_path / name)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm").exists()


def test_what_a_pickle_asks_for_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": Harmful(tmp_path / "harm")}))
    with pytest.raises(
        MasqclipError, match=r"asks for 'posix\.mkdir', which no plain weights need"
    ):
        read_state_dict(tmp_path / "a.pkl")
    objects = np.array([Harmful(tmp_path / "harm")], dtype=object)
    (tmp_path / "b.pkl").write_bytes(pickle.dumps({"x": objects}))
    with pytest.raises(MasqclipError, match=r"posix\.mkdir"):
        read_state_dict(tmp_path / "b.pkl")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_arrays(tmp_path: Path, protocol: int) -> None:
    arrays = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "half": np.ones(2, dtype=np.float16),
        "count": np.array(7),
    }
    zoo = {"model": arrays, "__author__": "somebody", "matching_heuristics": True}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(zoo, protocol))
    read = read_state_dict(tmp_path / "zoo.pkl")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert torch.equal(
            read[name], torch.from_numpy(np.ascontiguousarray(array)).view(array.shape)
        )


def test_arrays_of_python_2(tmp_path: Path) -> None:
    """Their bytes are text, and NumPy's core had another name: {"a": array([1, 2], float32)}."""
    (tmp_path / "old.pkl").write_bytes(
        b"(dp0\nS'a'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\n"
        b"S'b'\np5\ntp6\nRp7\n(I1\n(I2\ntp8\ncnumpy\ndtype\np9\n(S'f4'\np10\nI0\nI1\ntp11\nRp12\n"
        b"(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\n"
        b"S'\\x00\\x00\\x80?\\x00\\x00\\x00@'\np15\ntp16\nbs."
    )
    assert read_state_dict(tmp_path / "old.pkl")["a"].tolist() == [1, 2]


class Tower(torch.nn.Module):
    """Nested modules, a parameter of its own, half precision: an archive like OpenAI's."""

    def __init__(self) -> None:
        super().__init__()
        self.resblocks = torch.nn.Sequential(torch.nn.Linear(3, 2).half(), torch.nn.LayerNorm(2))
        self.proj = torch.nn.Parameter(torch.arange(6.0).view(2, 3).T)
        self.register_buffer("input_resolution", torch.tensor(224))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.resblocks(x) @ self.proj.T


def test_torchscript_is_read_without_running_it(tmp_path: Path) -> None:
    tower = Tower()
    torch.jit.save(torch.jit.script(tower), tmp_path / "jit.pt")
    read = read_state_dict(tmp_path / "jit.pt")
    expected = tower.state_dict()
    assert read.keys() == expected.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in expected.items())
    assert all(read[name].dtype == tensor.dtype for name, tensor in expected.items())


def test_a_harmful_torchscript_archive(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Tower()), tmp_path / "jit.pt")
    with (
        zipfile.ZipFile(tmp_path / "jit.pt") as archive,
        zipfile.ZipFile(tmp_path / "harmful.pt", "w") as other,
    ):
        for name in archive.namelist():
            harmful = name.endswith("/data.pkl")
            pickled = pickle.dumps(Harmful(tmp_path / "harm"))
            other.writestr(name, pickled if harmful else archive.read(name))
    with pytest.raises(MasqclipError, match=r"asks for 'posix\.mkdir'"):
        read_state_dict(tmp_path / "harmful.pt")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", ["cut.pth", "cut.pkl", "cut.safetensors", "cut.pt"])
def test_files_that_end_early(tmp_path: Path, name: str) -> None:
    weights = {"a": torch.randn(200, 50), "b": torch.ones(3)}
    file = tmp_path / name
    if name.endswith(".pkl"):
        file.write_bytes(pickle.dumps({key: value.numpy() for key, value in weights.items()}))
    elif name.endswith(".safetensors"):
        save_file(weights, file)
    elif name.endswith(".pt"):
        torch.jit.save(torch.jit.script(Tower()), file)
    else:
        torch.save(weights, file)
    whole = file.read_bytes()
    for share in (0.1, 0.5, 0.9):
        file.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(MasqclipError, match="cannot be read as plain tensors") as caught:
            read_state_dict(file)
        assert "\n" not in str(caught.value)


def test_names_of_parallel_training(tmp_path: Path) -> None:
    torch.save({"state_dict": {"module.a": torch.ones(1)}}, tmp_path / "parallel.pt")
    assert list(read_state_dict(tmp_path / "parallel.pt")) == ["a"]
