"""Where and in which precision a model runs: one rule, for the model and for `masqclip info`.

Not given, the device is a CUDA GPU, else Apple's MPS, else the CPU; the precision is bfloat16 on
CUDA GPUs that have it and float32 elsewhere.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from masqclip.errors import MasqclipError

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, or the best one there is.

    Raises:
        MasqclipError: no such device, or this torch or this machine does not have it.
    """
    if device is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        if chosen.type not in ("cpu", "cuda", "mps"):  # such as meta, which holds no numbers
            raise RuntimeError("it is not used here")
    except (RuntimeError, TypeError) as error:
        raise MasqclipError(
            f"there is no device {str(device)!r}: give cpu, cuda, cuda:1 or mps"
        ) from error
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise MasqclipError(f"device {device}: torch sees no CUDA GPU here; use cpu")
        if (chosen.index or 0) >= count:
            raise MasqclipError(f"device {device}: there are {count} GPUs, counted from 0")
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise MasqclipError(f"device {device}: torch sees no Apple GPU here; use cpu")
    return chosen


def choose_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    """The precision asked for, or the default of the device.

    Raises:
        MasqclipError: a name other than float32, bfloat16 and float16.
    """
    if dtype is None:
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if native else torch.float32
    chosen = _DTYPES.get(str(dtype).removeprefix("torch."))
    if chosen is None:
        raise MasqclipError(f"dtype {dtype} is not used here: give {', '.join(_DTYPES)}")
    return chosen


def overflow_advice(dtype: torch.dtype) -> str:
    """What to say and do when a model makes numbers that are none."""
    if dtype == torch.float32:
        return "the model's weights are damaged: load or convert it anew"
    return f"the model overflows in {dtype}: load it with dtype='float32'"


def slow_dtype_advice(dtype: torch.dtype, device: torch.device) -> str | None:
    """What to say where a precision costs time and gains nothing; None where it does not."""
    if device.type == "cpu" and dtype == torch.float16:
        return "float16 is several times slower than float32 on a CPU: use float32 or bfloat16"
    return None


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself (AVX-512 BF16 or AMX)."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, check, bool)()) for check in checks)


def wait_for(device: torch.device) -> None:
    """Wait until a device has done its work, which it otherwise does beside what follows."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def full_precision(tensor: torch.Tensor) -> AbstractContextManager[object]:
    """No autocast where a tensor is: for sums that half precision rounds away, or overflows in."""
    if tensor.device.type == "meta":  # which has nothing to round, and no autocast
        return nullcontext()
    return torch.autocast(tensor.device.type, enabled=False)
