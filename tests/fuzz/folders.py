"""Model folders that nobody would make: the shipped one with something in it that is not right.

Everything follows from a seed, so a case that fails can be made again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

MINI = Path(str(resources.files("masqclip"))) / "models" / "masqclip-mini"
#: Keys that other programs act upon, with values that would make them ask or run something.
ACTIVE: dict[str, Any] = {
    "attn_implementation": "kernels-community/flash-attn3", "_attn_implementation": "evil/kernel",
    "backbone": "owner/backbone", "use_timm_backbone": True, "use_pretrained_backbone": True,
    "backbone_kwargs": {"checkpoint_path": "/etc/passwd"}, "auto_map": {"AutoModel": "evil.Model"},
    "trust_remote_code": True, "quantization_config": {"quant_method": "bitsandbytes"},
    "kernel_config": {"a": "owner/kernel"}, "_name_or_path": "owner/other", "torch_dtype": "evil",
    "dtype": "float1", "_commit_hash": "../..", "architectures": ["Evil"], "adapter": "owner/a",
    "custom_pipelines": {"a": {"impl": "evil.P"}}, "tokenizer_class": "Evil", "device_map": "auto",
    "use_kernels": True, "experts_implementation": "evil/e", "model_type": "llama",
}  # fmt: skip
VALUES: tuple[Any, ...] = (
    0, -1, 1, 3, 10**7, 2**31, 2**63, 10**400, 0.5, -0.0, True, None, "", "x", "8", [], [0], {},
    {"a": 1}, [[1, 2]], [-1, 8, 0], "../../x", "http://127.0.0.1:9/x",
)  # fmt: skip


@cache
def _config() -> dict[str, Any]:
    return dict(json.loads((MINI / "config.json").read_text()))


@cache
def _weights() -> dict[str, torch.Tensor]:
    return load_file(MINI / "model.safetensors")


def cases(seed: int, number: int) -> Iterator[tuple[str, Callable[[Path], Path]]]:
    """Hostile folders: a name, and what makes one below a folder and returns its path."""
    for index in range(number):
        name, make = list(KINDS.items())[index % len(KINDS)]

        def write(
            below: Path,
            index: int = index,
            make: Callable[[Path, np.random.Generator], None] = make,
        ) -> Path:
            folder = below / f"model-{index:04d}"
            shutil.copytree(MINI, folder)
            make(folder, np.random.default_rng((seed, index)))
            return folder

        yield f"{index:04d}-{name}", write


def _one(choices: Any, random: np.random.Generator) -> Any:
    return choices[int(random.integers(len(choices)))]


def _write(folder: Path, config: Any, name: str = "config.json") -> None:
    (folder / name).write_text(json.dumps(config))


def _tables(config: dict[str, Any]) -> list[dict[str, Any]]:
    """A configuration and all that are nested in it."""
    found = [config]
    for value in config.values():
        if isinstance(value, dict):
            found += _tables(value)
    return found


def _active(folder: Path, random: np.random.Generator) -> None:
    config = json.loads(json.dumps(_config()))
    for key in random.permutation(list(ACTIVE))[:3]:
        _one(_tables(config), random)[str(key)] = ACTIVE[str(key)]
    _write(folder, config)


def _value(folder: Path, random: np.random.Generator) -> None:
    config = json.loads(json.dumps(_config()))
    table = _one([table for table in _tables(config) if table], random)
    table[_one(list(table), random)] = _one(VALUES, random)
    _write(folder, config)


def _number(folder: Path, random: np.random.Generator) -> None:
    """A size that is none, or that no memory has."""
    config = json.loads(json.dumps(_config()))
    places = [
        (table, key)
        for table in _tables(config)
        for key, value in table.items()
        if type(value) in (int, float)
    ]
    table, key = _one(places, random)
    table[key] = _one((0, -1, 7, 10**7, 2**31 - 1, 2**62, 1e308, 0.0), random)
    _write(folder, config)


def _document(folder: Path, random: np.random.Generator) -> None:
    texts = (
        "",
        "[]",
        "null",
        "{",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"a": NaN}',
        "\xff\xfe",
        "1" * 9000,
    )
    name = _one(("config.json", "tokenizer.json", "tokenizer_config.json"), random)
    (folder / name).write_bytes(_one(texts, random).encode("latin-1"))


def _spoilt(folder: Path, random: np.random.Generator) -> None:
    path = _one([path for path in folder.iterdir() if path.is_file()], random)
    data = bytearray(path.read_bytes())
    if random.integers(2):
        data = data[: int(random.integers(0, len(data)))]
    else:
        for at in random.integers(0, min(len(data), 60_000), 20):
            data[at] = int(random.integers(256))
    path.write_bytes(bytes(data))


def _numbers(folder: Path, random: np.random.Generator) -> None:
    weights = dict(_weights())
    name = _one(sorted(weights), random)
    kind = int(random.integers(5))
    if kind == 0 and weights[name].is_floating_point():
        weights[name] = torch.full_like(weights[name], float("nan"))
    elif kind == 1 and weights[name].is_floating_point():
        weights[name] = weights[name].clone()
        weights[name].view(-1)[0] = float("inf")
    elif kind == 2:
        del weights[name]
    elif kind == 3:
        weights[name] = torch.zeros(3, 5)
    else:
        weights["stranger"] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors")


def _files(folder: Path, random: np.random.Generator) -> None:
    target = folder / _one(("model.safetensors", "config.json", "tokenizer.json"), random)
    target.unlink(missing_ok=True)
    kind = int(random.integers(5))
    if kind == 0:
        os.mkfifo(target)
    elif kind == 1:
        target.symlink_to("/dev/zero")
    elif kind == 2:
        target.symlink_to(target)
    elif kind == 3:
        target.mkdir()


def _index(folder: Path, random: np.random.Generator) -> None:
    (folder / "model.safetensors").unlink()
    file = _one(("../../x", "/etc/passwd", "absent.safetensors", "", 3, "config.json"), random)
    _write(folder, {"weight_map": {"a": file}}, "model.safetensors.index.json")


def _extras(folder: Path, random: np.random.Generator) -> None:
    """Files that other programs would read, and code that nobody may run."""
    mark = folder.parent / "executed"
    for name in ("modeling_masqclip.py", "configuration_masqclip.py", "__init__.py", "setup.py"):
        (folder / name).write_text(f"open({str(mark)!r}, 'w').close()\n")
    _write(
        folder,
        {"base_model_name_or_path": "owner/base", "peft_type": "LORA"},
        "adapter_config.json",
    )
    _write(folder, {"auto_map": {"AutoTokenizer": ["evil.T", None]}, "tokenizer_class": "Evil",
                    "chat_template": "{{ x }}", "model_max_length": _one(VALUES[:-2], random)},
           "tokenizer_config.json")  # fmt: skip
    _write(folder, _config() | {"auto_map": {"AutoConfig": "configuration_masqclip.C"}})


KINDS: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "active": _active,
    "value": _value,
    "number": _number,
    "document": _document,
    "spoilt": _spoilt,
    "numbers": _numbers,
    "files": _files,
    "index": _index,
    "extras": _extras,
}
