"""Where and in which precision a model runs."""

from __future__ import annotations

import pytest
import torch

from masqclip.devices import choose_device, choose_dtype, cpu_has_bfloat16, overflow_advice
from masqclip.errors import MasqclipError

CPU = torch.device("cpu")


def test_what_is_asked_for() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device(CPU) == CPU
    assert choose_dtype("bfloat16", CPU) is torch.bfloat16
    assert choose_dtype(torch.float16, CPU) is torch.float16


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_dtype(None, CPU) is torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device() == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert choose_device() == torch.device("cuda")
    assert choose_dtype(None, choose_device()) is torch.bfloat16


def test_what_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    told = [("cuda", "no CUDA GPU"), ("mps", "no Apple GPU"), ("abacus", "abacus")]
    for device, said in [*told, ("meta", "no device 'meta': give cpu"), ("xpu", "'xpu': give")]:
        with pytest.raises(MasqclipError, match=said):
            choose_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(MasqclipError, match="2 GPUs"):
        choose_device("cuda:2")
    for dtype in ("int8", "torch.int64", torch.float64):
        with pytest.raises(MasqclipError, match="float32, bfloat16"):
            choose_dtype(dtype, CPU)


def test_the_best_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA before MPS before the processor; bfloat16 on GPUs that have it themselves only."""
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **how: asked.append(how))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device() == choose_device("mps") == torch.device("mps")
    assert choose_dtype(None, torch.device("mps")) is torch.float32
    assert not asked
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == torch.device("cuda")
    assert choose_dtype(None, torch.device("cuda")) is torch.float32
    assert asked == [{"including_emulation": False}]


def test_devices_are_counted_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name in ("cuda", "cuda:0"):
        assert choose_device(name) == torch.device(name)
    with pytest.raises(MasqclipError, match="device cuda:1: there are 1 GPUs, counted from 0"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(MasqclipError, match="no CUDA GPU here"):
        choose_device("cuda")


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_a_precision_has_a_name_of_torch(name: str) -> None:
    own = getattr(torch, name)
    for given in (name, f"torch.{name}", own):
        assert choose_dtype(given, CPU) is own
    advice = overflow_advice(own)
    assert ("damaged" in advice) == (name == "float32")
    assert ("dtype='float32'" in advice) == (name != "float32")


def test_either_kind_of_bfloat16_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    for first, second in ((False, False), (True, False), (False, True)):
        for check, here in zip(checks, (first, second), strict=True):
            monkeypatch.setattr(torch.cpu, check, lambda here=here: here, raising=False)
        assert cpu_has_bfloat16() == (first or second)
    for check in checks:
        monkeypatch.delattr(torch.cpu, check)
    assert not cpu_has_bfloat16()
