"""Checkpoints that nobody would train: damaged ones of every kind, and some built to harm.

Everything follows from a seed, so a case that fails can be made again.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

MARK = "executed"  # a file that appears below the folder if anything of a checkpoint is run


class Runs:
    """What a pickle does that runs code when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch {self.path}",)


def cases(seed: int, number: int) -> Iterator[tuple[str, Callable[[Path], Path]]]:
    """Hostile checkpoints: a name, and what writes one below a folder and returns its path."""
    for index in range(number):
        random = np.random.default_rng((seed, index))
        name, make = list(KINDS.items())[index % len(KINDS)]
        suffix, content = make(random)

        def write(
            folder: Path, content: bytes = content, name: str = f"{index:04d}-{name}{suffix}"
        ) -> Path:
            path = folder / name
            path.write_bytes(content.replace(b"@MARK@", os.fsencode(folder / MARK)))
            return path

        yield f"{index:04d}-{name}", write


def _weights(random: np.random.Generator) -> dict[str, torch.Tensor]:
    names = (
        "visual.conv1.weight",
        "sem_seg_head.a",
        "masqclip.b",
        "vision_model.c",
        "proposer.d",
        "",
    )
    return {f"{names[int(random.integers(len(names)))]}{n}": torch.rand(3, 4) for n in range(5)}


def _torch(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _spoilt(data: bytes, random: np.random.Generator) -> bytes:
    spoilt = bytearray(data)
    kind = int(random.integers(3))
    if kind == 0:
        return bytes(spoilt[: int(random.integers(0, len(spoilt)))])
    for at in random.integers(0, len(spoilt) if kind == 1 else min(400, len(spoilt)), 8):
        spoilt[at] = int(random.integers(256))
    return bytes(spoilt)


def _value(random: np.random.Generator) -> Any:
    choices: tuple[Any, ...] = (
        {}, [], None, 3, "x", {"model": {}}, {"state_dict": {"a": None}}, {1: torch.zeros(1)},
        {"model": {"model": {"model": {"a": torch.zeros(1)}}}}, {"a": torch.zeros(0)},
        {"visual.conv1.weight": torch.full((3, 3, 2, 2), float("nan"))}, torch.zeros(3),
        {"visual.proj": torch.zeros(1, dtype=torch.complex64)}, {"a" * 100_000: torch.zeros(1)},
        {f"visual.{n}": torch.zeros(1) for n in range(20_000)}, OrderedDict(_weights(random)),
        {"sem_seg_head.x": torch.zeros(1).expand(10**9)}, {"visual.x": torch.zeros(2).to_sparse()},
    )  # fmt: skip
    return choices[int(random.integers(len(choices)))]


def _pth(random: np.random.Generator) -> tuple[str, bytes]:
    return ".pth", _torch(_value(random))


def _spoilt_pth(random: np.random.Generator) -> tuple[str, bytes]:
    return ".pth", _spoilt(_torch(_weights(random)), random)


def _running_pth(random: np.random.Generator) -> tuple[str, bytes]:
    return ".pth", _zip({"archive/data.pkl": _running(random), "archive/version": b"3"})


def _running(random: np.random.Generator) -> bytes:
    protocol = int(random.integers(0, 5))
    return pickle.dumps({"model": Runs("@MARK@")}, protocol=protocol)


def _running_pkl(random: np.random.Generator) -> tuple[str, bytes]:
    return (".pkl", ".pt", ".bin", ".pth")[int(random.integers(4))], _running(random)


def _array_pickle(random: np.random.Generator) -> bytes:
    return pickle.dumps({"model": {"a": random.random((3, 4)), "b": np.float32(2)}}, protocol=2)


def _spoilt_pkl(random: np.random.Generator) -> tuple[str, bytes]:
    return ".pkl", _spoilt(_array_pickle(random), random)


def _opcodes(random: np.random.Generator) -> tuple[str, bytes]:
    """Pickles of opcodes: rewritten types, lying lengths, wrong arguments, endless stacks."""
    dtype = b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR"
    bodies = (
        dtype + b"(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb.",
        dtype + b"(I3\nS'<'\nN(S'a'\ntp1\n(dp2\nI2147483647\nI1\nI0\ntb.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I9223372036854775807\nt"
        + dtype + b"I00\nS''\ntb.",
        b"ccollections\nOrderedDict\n)R(S'__class__'\nNtb.",
        b"ccollections\nOrderedDict\n(I1\ntR.",
        b"c_codecs\nencode\n(S'a'\nS'rot13'\ntR.",
        b"c_codecs\nencode\n(V\\ud800\nS'latin1'\ntR.",
        b"cnumpy.core.multiarray\nscalar\n(" + dtype + b"S'abc'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.", b"cposix\nsystem\n(S'touch @MARK@'\ntR.",
        b"c__builtin__\ngetattr\n(cnumpy\ndtype\nS'__init__'\ntR.",
        b"(" * 1_000_000 + b".", b"]" * 500_000 + b"a" * 499_999 + b".", b"N" * 2_000_000 + b".",
        b"(lp0\n" + b"g0\na" * 200_000 + b".", b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
        b"\x80\x04X\xff\xff\xff\x7fa.", b"I" + b"9" * 100_000 + b"\n.",
        b"L" + b"9" * 200_000 + b"L\n.",
        b"Pperson\n.", b"\x82\x01.", b"0.", b"t.", b"R.", b"b.", b"s.", b"", b"\x80\x7f.",
    )  # fmt: skip
    return ".pkl", bodies[int(random.integers(len(bodies)))]


def _zip(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _zip_bomb(random: np.random.Generator) -> tuple[str, bytes]:
    name = ("archive/data.pkl", "archive/data/0", "archive/constants.pkl")[int(random.integers(3))]
    entries = {"archive/data.pkl": _array_pickle(random), "archive/version": b"3"}
    entries[name] = bytes(int(random.choice([20, 80, 600])) * 1_000_000)
    return ".pth", _zip(entries, zipfile.ZIP_DEFLATED)


def _many_entries(random: np.random.Generator) -> tuple[str, bytes]:
    entries = {f"archive/data/{n}": b"" for n in range(int(random.integers(1000, 60_000)))}
    return ".pth", _zip({"archive/data.pkl": b"}.", "archive/version": b"3"} | entries)


def _torchscript(random: np.random.Generator) -> tuple[str, bytes]:
    class Small(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = torch.nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.visual(x)

    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Small()), buffer)
    with zipfile.ZipFile(buffer) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    pick = list(entries)[int(random.integers(len(entries)))]
    kind = int(random.integers(3))
    if kind == 0:
        del entries[pick]
    elif kind == 1:
        entries[pick] = _spoilt(entries[pick] or b"x", random)
    else:  # a stride or a size that leads out of the storage
        data = next(name for name in entries if name.endswith("/data.pkl"))
        entries[data] = entries[data].replace(b"K\x03", b"K\xff").replace(b"K\x02", b"M\xff\xff")
    return ".pt", _zip(entries)


def _safetensors(random: np.random.Generator) -> tuple[str, bytes]:
    good = save(_weights(random))
    header: Any = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    entry = header["a"]
    kind = int(random.integers(12))
    if kind < 4:
        return ".safetensors", _spoilt(good, random)
    changes: tuple[dict[str, Any], ...] = (
        {"shape": [2**62, 4]}, {"shape": [-1]}, {"dtype": "X"}, {"data_offsets": [8, 0]},
        {"data_offsets": [0, 2**63]}, {"shape": []}, {"shape": [1] * 100_000}, {"extra": 1},
    )  # fmt: skip
    entry |= changes[kind - 4]
    text = json.dumps(header).encode()
    if not random.integers(4):
        text = b'{"a":' * 100_000
    length = (len(text), 2**63, 0, 2**40)[int(random.integers(4)) if not random.integers(3) else 0]
    return ".safetensors", struct.pack("<Q", length) + text + bytes(8)


def _other(random: np.random.Generator) -> tuple[str, bytes]:
    contents = (
        b"",
        b"\0" * 100,
        random.bytes(5000),
        b"PK\x03\x04",
        b"PK\x05\x06" + bytes(18),
        b"{}",
    )
    suffixes = (".pth", ".pkl", ".safetensors", ".bin", ".pt", "")
    return suffixes[int(random.integers(6))], contents[int(random.integers(6))]


KINDS: dict[str, Callable[[np.random.Generator], tuple[str, bytes]]] = {
    "pth": _pth,
    "spoilt-pth": _spoilt_pth,
    "running-pth": _running_pth,
    "running": _running_pkl,
    "spoilt-pkl": _spoilt_pkl,
    "opcodes": _opcodes,
    "opcodes-2": _opcodes,
    "zip-bomb": _zip_bomb,
    "many-entries": _many_entries,
    "torchscript": _torchscript,
    "safetensors": _safetensors,
    "other": _other,
}
