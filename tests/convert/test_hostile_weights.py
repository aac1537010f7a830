"""Weights and model folders that were made to harm: each fault that was found, by its name."""

from __future__ import annotations

import json
import pickle
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import masqclip
from forked import run
from masqclip.errors import MasqclipError
from masqclip.segmenter import Segmenter
from masqclip.weights.checkpoint import read_state_dict

MINI = Path(masqclip.__file__).parent / "models" / "masqclip-mini"
# A NumPy type that is rewritten when an array uses it already: 8-byte floats become objects, and
# each number a pointer.
REWRITTEN = bytes.fromhex(
    "8003636e756d70790a64747970650a28580300000056313689887452284b0358010000007c4e4e4e4a100000"
    "004a010000004a000000007462710030636e756d70792e5f636f72652e6d756c746961727261790a5f726563"
    "6f6e7374727563740a287452284b01284b017468008943104141414141414141414141414141414174627101"
    "306800284b0358010000007c4e28580100000061747d58010000006128636e756d70790a64747970650a2858"
    "020000004f38898874524b0074734a100000004a010000004a3f0000007462307d58050000006d6f64656c7d"
    "580800000076697375616c2e78680173732e"
)


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the shipped model with a change of its configuration."""
    shutil.copytree(MINI, folder)
    config = json.loads((folder / "config.json").read_text())
    change(config)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_pickle_cannot_rewrite_a_type_into_pointers(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(REWRITTEN)
    code = (
        "import sys; from masqclip.weights.checkpoint import read_state_dict as read\n"
        "try: print(read(sys.argv[1]))\nexcept ValueError as error: print('refused:', error)"
    )
    # In a process of its own: a crash must not take the tests with it.
    done = run(code, str(tmp_path / "a.pkl"), scratch=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("refused: ")


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".pt", ".bin"])
def test_nothing_in_a_pickle_runs(suffix: str, tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "executed",)

    path = tmp_path / f"a{suffix}"
    path.write_bytes(pickle.dumps({"model": Runs()}))
    with pytest.raises(MasqclipError) as caught:
        read_state_dict(path)
    assert not (tmp_path / "executed").exists()
    assert "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": "kernels-community/flash-attn3"},
        {"_attn_implementation": "owner/kernel"},
        {"auto_map": {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}},
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        {"_name_or_path": "owner/other", "trust_remote_code": True},
        {"backbone": "owner/backbone", "use_pretrained_backbone": True, "use_timm_backbone": True},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_configuration_reaches_no_host_and_no_code(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def refuse(*args: object) -> None:  # noted as well: loading may take an error for its own
        asked.append(args)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)

    def change(config: dict[str, Any]) -> None:
        config |= settings
        config["proposer_config"] |= settings
        config["clip_config"]["vision_config"] |= settings

    segmenter = Segmenter.from_pretrained(changed(tmp_path / "m", change), device="cpu")
    assert segmenter.model.config._attn_implementation in ("sdpa", "eager")
    assert not asked


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size_divisor", 0),
        ("shortest_edge", 10**9),
        ("logit_scale", 1e400),
        ("pixel_std", [0, 0, 0]),
    ],
)
def test_settings_have_bounds(key: str, value: Any, tmp_path: Path) -> None:
    folder = changed(tmp_path / "m", lambda config: config.update({key: value}))
    with pytest.raises(MasqclipError, match="cannot be loaded"):
        Segmenter.from_pretrained(folder, device="cpu")


def test_ten_million_layers_are_refused_before_they_are_made(tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config["clip_config"]["vision_config"]["num_hidden_layers"] = 10_000_000

    with pytest.raises(MasqclipError, match="10000015 layers"):
        Segmenter.from_pretrained(changed(tmp_path / "m", change), device="cpu")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(number: float, tmp_path: Path) -> None:
    shutil.copytree(MINI, tmp_path / "m")
    weights = load_file(MINI / "model.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    weights[name] = torch.full_like(weights[name], number)
    save_file(weights, tmp_path / "m" / "model.safetensors")
    with pytest.raises(MasqclipError, match=name.replace(".", r"\.")):
        Segmenter.from_pretrained(tmp_path / "m", device="cpu")


@pytest.mark.parametrize("file", ["../../x.safetensors", "/etc/passwd"])
def test_an_index_stays_in_its_folder(file: str, tmp_path: Path) -> None:
    shutil.copytree(MINI, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    (tmp_path / "m" / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"a": file}})
    )
    with pytest.raises(MasqclipError, match="cannot be loaded"):
        Segmenter.from_pretrained(tmp_path / "m", device="cpu")


@pytest.mark.parametrize("value", [{}, [], {"model": {}}, {1: torch.zeros(1)}])
def test_a_checkpoint_without_names_is_refused(value: Any, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(MasqclipError):
        read_state_dict(tmp_path / "a.pth")
