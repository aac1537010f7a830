"""Where and in which precision a model runs."""

from __future__ import annotations

import pytest
import torch

from masqclip.devices import choose_device, choose_dtype
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
    for device, said in [("cuda", "no CUDA GPU"), ("mps", "no Apple GPU"), ("abacus", "abacus")]:
        with pytest.raises(MasqclipError, match=said):
            choose_device(device)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(MasqclipError, match="2 GPUs"):
        choose_device("cuda:2")
    for dtype in ("int8", "torch.int64", torch.float64):
        with pytest.raises(MasqclipError, match="float32, bfloat16"):
            choose_dtype(dtype, CPU)
