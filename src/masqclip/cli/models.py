"""The models of a command line: fetched, with a word about it, before anything heavy is loaded."""

from __future__ import annotations

from masqclip.cli.console import print_error


def fetch_models(
    model: str | None = None, *, clip: str | None = None, proposer: str | None = None
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


def _tell(line: str) -> None:
    print_error(line, kind="")
