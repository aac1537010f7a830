"""The model that a command's options name: fetched, with a word about it, before anything heavy is
loaded; then loaded, with a note where a choice costs time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masqclip.cli.console import print_error
from masqclip.errors import MasqclipError

if TYPE_CHECKING:
    from masqclip.pretrained import ProposerWords
    from masqclip.refinements import Refinements
    from masqclip.result import Task
    from masqclip.runtime import OnnxSegmenter
    from masqclip.segmenter import Segmenter

#: The CLIP, the proposers and the queries of `Segmenter.from_parts`.
Parts = tuple[str, list[str], Path | None]


def check_parts(
    clip: str | None, proposers: Sequence[str] | None, queries: Path | None
) -> Parts | None:
    """The parts of a model, or None where a whole one is asked for.

    Raises:
        MasqclipError: one is missing.
    """
    if clip is not None and proposers:
        return clip, list(proposers), queries
    if clip is None and not proposers and queries is None:
        return None
    missing = "--clip" if clip is None else "--proposer"
    raise MasqclipError(f"--clip and --proposer go together: {missing} is missing")


def fetch_models(
    model: str | None = None,
    *,
    clip: str | Path | None = None,
    proposer: str | Path | Sequence[str | Path] | None = None,
) -> None:
    """Have what a command needs on this machine; what is there already is not touched.

    Args:
        model: a whole model or a preset.
        clip, proposer: or the parts; several proposers may be named.

    Raises:
        MasqclipError: there is none, or it cannot be fetched; told within seconds.
    """
    from masqclip.hub import find_model, find_weights

    if model is not None:
        find_model(model, tell=_tell)
    if clip is not None:
        find_weights(clip, what="CLIP", tell=_tell)
    for one in [proposer] if isinstance(proposer, str | Path) else proposer or ():
        find_weights(one, what="proposer", tell=_tell)


def check_system(model: str, task: Task | None, *, masks: bool = False) -> None:
    """Refuse, before anything is loaded or written, a model whose system cannot do the work.

    Args:
        model: a whole model or a preset, whose files are here.
        task: what it is asked for, if it is.
        masks: its masks are handed on before it hears the names.

    Raises:
        MasqclipError: it is such a model.
    """
    from masqclip.assembly import check_system_task
    from masqclip.baselines.loading import system_of
    from masqclip.hub import model_folders

    folder, *more = model_folders(model)
    if more:  # parts, which make a MasQCLIP
        return
    system = system_of(folder)
    if masks and not system.has_masks:
        raise MasqclipError(
            f"--model {model}: a job hands on the masks of pictures, and a model of the system "
            f'{system.system!r} has none before it knows the names: use "masqclip segment"'
        )
    if task is not None:
        check_system_task(system, task)


def _tell(line: str) -> None:
    print_error(line, kind="")


def check_size_option(size: str | None) -> str | None:
    """``--size`` as it is recorded: ``800`` or ``800:1333``.

    Raises:
        MasqclipError: it is no size.
    """
    if size is None:
        return None
    from masqclip.options import check_size

    return ":".join(str(edge) for edge in check_size(size, what="--size") if edge is not None)


def check_refine(refine: Sequence[str]) -> Refinements:
    """``--refine`` as refinements.

    Raises:
        MasqclipError: there is no such refinement, or a value is out of its bounds.
    """
    from masqclip.refinements import Refinements

    try:
        return Refinements.parse(refine)
    except MasqclipError as error:
        raise MasqclipError(f"--refine: {error}") from error


def load_segmenter(
    model: str,
    *,
    device: str | None,
    dtype: str | None,
    size: str | None,
    parts: Parts | None = None,
    refine: Sequence[str] = (),
    quiet: bool = False,
) -> Segmenter:
    """Load what the options name, and say where the precision is a slow one.

    Args:
        model: the name of a whole model.
        device, dtype: as given; None = the best here.
        size: as given; None = the model's own.
        parts: in place of a whole model.
        refine: texts such as ``prune=0.05``, in place of the model's own refinements.
        quiet: say nothing.

    Raises:
        MasqclipError: there is no such model, device or precision.
    """
    from masqclip.devices import choose_device, choose_dtype
    from masqclip.segmenter import Segmenter

    where = choose_device(device)
    precision = choose_dtype(dtype, where)
    print_slow_dtype(device, dtype, quiet=quiet)
    options: dict[str, Any] = {"device": where, "dtype": precision, "size": size}
    if parts is not None:
        segmenter = Segmenter.from_parts(*parts, **options)
    else:
        segmenter = Segmenter.from_pretrained(model, **options)
    if refine:
        segmenter.refine(check_refine(refine))
        segmenter.name += f" ({', '.join(refine)})"
    if not quiet and where.type == "cpu":
        _print_cost(segmenter)
    return segmenter


def check_exported(model: str, **options: object) -> bool:
    """Whether a model is one that was exported, which some options are not for.

    Args:
        model: the name of a whole model.
        options: by name, those that an exported model has not, as they were given.

    Raises:
        MasqclipError: it is one, and an option is given.
    """
    from masqclip.hub.local import is_exported

    if not is_exported(model):
        return False
    for name, value in options.items():
        if value not in (None, False):
            raise MasqclipError(
                f"--{name.replace('_', '-')}: {model} is exported, and such a model runs as it "
                "was exported: leave the option out, or give the model itself"
            )
    return True


def load_any(
    model: str,
    *,
    exported: bool,
    device: str | None,
    refine: Sequence[str],
    proposer_words: ProposerWords,
    compile: bool,
    **options: Any,
) -> Segmenter | OnnxSegmenter:
    """Load a model, or one that was exported.

    Args:
        model: its name, or the folder of an exported one.
        exported: whether it is that (`check_exported`).
        device, refine, proposer_words, compile: as given.
        options: the others of `load_segmenter`.

    Raises:
        MasqclipError: there is no such model, it is damaged, or an option cannot be had.
    """
    if not exported:
        segmenter = load_segmenter(model, device=device, refine=refine, **options)
        segmenter.proposer_words = proposer_words
        if compile:
            segmenter.compile()
        return segmenter
    from masqclip.runtime import OnnxSegmenter

    graphs = OnnxSegmenter.from_pretrained(model, device=device)
    if refine:
        graphs.refine(check_refine(refine))
        graphs.name += f" ({', '.join(refine)})"
    return graphs


def _print_cost(segmenter: Segmenter) -> None:
    """A note on stderr where a picture will take long, before the first one does."""
    import torch

    from masqclip.proposals.cost import cost_note

    note = cost_note(segmenter.model.proposer, threads=torch.get_num_threads())
    if note is not None:
        print_error(note, kind="note: ")


def print_slow_dtype(device: str | None, dtype: str | None, *, quiet: bool = False) -> None:
    """A note on stderr where the precision asked for is a slow one here."""
    from masqclip.devices import choose_device, choose_dtype, slow_dtype_advice

    where = choose_device(device)
    advice = slow_dtype_advice(choose_dtype(dtype, where), where)
    if advice is not None and not quiet:
        print_error(advice, kind="note: ")
