"""The models of a command line: fetched, with a word about it, before anything heavy is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from masqclip.cli.console import print_error
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    import torch

    from masqclip.segmenter import Segmenter


def fetch_models(
    model: str | None = None,
    *,
    clip: str | Path | None = None,
    proposer: str | Path | None = None,
) -> None:
    """Have what a command needs on this machine; what is there already is not touched.

    Args:
        model: a whole model or a preset.
        clip, proposer: or the parts.

    Raises:
        MasqclipError: there is none, or it cannot be fetched; told within seconds.
    """
    from masqclip.hub import find_model, find_weights

    if model is not None:
        find_model(model, tell=_tell)
    if clip is not None:
        find_weights(clip, what="CLIP", tell=_tell)
    if proposer is not None:
        find_weights(proposer, what="proposer", tell=_tell)


def print_slow(dtype: torch.dtype, device: torch.device) -> None:
    """Say, in a line, that a precision is slow on a device, if it is."""
    from masqclip.devices import slow_dtype_advice

    if (advice := slow_dtype_advice(dtype, device)) is not None:
        print_error(advice, kind="note: ")


def given_parts(
    clip: str | None, proposer: str | None, queries: Path | None
) -> tuple[str, str, Path | None] | None:
    """The parts of `Segmenter.from_parts`, or None where a whole model is asked for."""
    if clip is not None and proposer is not None:
        return clip, proposer, queries
    if clip is None and proposer is None and queries is None:
        return None
    missing = "--clip" if clip is None else "--proposer"
    raise MasqclipError(f"--clip and --proposer go together: {missing} is missing")


def load_segmenter(
    model: str,
    parts: tuple[str, str, Path | None] | None,
    device: str | None,
    dtype: str | None,
    size: str | None,
) -> Segmenter:
    """Load a model, or join parts, and say where the precision that was asked for is slow.

    Args:
        model: a name or folder; not looked at where there are parts.
        parts: of `given_parts`.
        device, dtype, size: as in `Segmenter.from_pretrained`.

    Raises:
        MasqclipError: see there.
    """
    from masqclip.devices import choose_device, choose_dtype
    from masqclip.segmenter import Segmenter

    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    print_slow(precision, where)
    if parts is not None:
        return Segmenter.from_parts(*parts, device=where, dtype=precision, size=size)
    return Segmenter.from_pretrained(model, device=where, dtype=precision, size=size)


def _tell(line: str) -> None:
    print_error(line, kind="")
