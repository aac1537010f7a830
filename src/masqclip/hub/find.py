"""A name of a model or of a part of one -> folders on this machine, fetched first if need be."""

from __future__ import annotations

from pathlib import Path

from masqclip.errors import MasqclipError
from masqclip.hub.download import (
    Tell,
    check_licence,
    download,
    fetch_together,
    prepare,
    shown_size,
)
from masqclip.hub.local import Parts, cached, has_settings, has_tokenizer, parts_in, state_folder
from masqclip.hub.registry import (
    NamedModel,
    Preset,
    find_named,
    find_preset,
    is_repository,
    named_models,
    presets,
    unknown_name,
)
from masqclip.hub.repository import IMPATIENCE, OutOfReachError

_SHIPPED = Path(__file__).parents[1] / "models"


def find_model(name_or_path: str | Path, *, tell: Tell | None = None) -> Path | Parts:
    """A whole model's folder, or its parts.

    Args:
        name_or_path: a shipped model, a preset, a folder of either kind, or the Hub's owner/name.
        tell: hears of a download, in a line.

    Raises:
        MasqclipError: there is no such model, or it is not here and cannot be downloaded.
    """
    name, given = str(name_or_path), Path(name_or_path)
    shipped = _SHIPPED / name
    if (shipped / "config.json").is_file():
        return shipped
    if given.is_dir() and (parts := parts_in(given)) is not None:
        return parts
    if (preset := find_preset(name_or_path)) is not None:
        return _preset_parts(preset, tell)
    if given.is_dir():
        return given
    if given.exists() or not is_repository(name):
        if (named := find_named(name)) is not None:
            raise MasqclipError(
                f"{name!r} is a {named.kind}, a half of a model: give --clip and --proposer "
                "together, or one of " + ", ".join(preset.name for preset in presets())
            )
        names = [*(path.parent.name for path in _SHIPPED.glob("*/config.json"))]
        names += [preset.name for preset in presets()]
        raise unknown_name(name, what="model", among=names)
    return find_weights(name, what="model", tell=tell)


def model_folders(name_or_path: str | Path) -> tuple[Path, ...]:
    """The folders and files that a model consists of, for what depends on its bytes; see
    `find_model`."""
    found = find_model(name_or_path)
    if isinstance(found, Path):
        return (found,)
    extra = () if found.queries is None else (found.queries,)
    return (found.clip, found.proposer, *extra)


def find_weights(
    name_or_path: str | Path,
    *,
    what: str,
    tell: Tell | None = None,
) -> Path:
    """The folder that holds a model's files, downloaded first if it has to be.

    Args:
        name_or_path: a folder, a name of the registry, or the Hub's owner/name.
        what: what is looked for, for the errors: ``"CLIP"``.
        tell: hears of a download, in a line.

    Raises:
        MasqclipError: it is neither, or it is not here and cannot be downloaded.
    """
    folder = Path(name_or_path)
    if folder.is_dir():
        return folder
    name = str(name_or_path)
    named = find_named(name)
    repository = name if named is None else named.repository
    if folder.exists() or not is_repository(repository):
        raise unknown_name(name, what=what, among=[model.name for model in named_models()])
    here = cached(repository)
    if here is not None and (what == "model" or has_settings(here)):
        return here
    if named is not None and here is None:
        check_licence(named)
    return _downloaded(repository, what=what, tell=tell, here=here)


def find_tokenizer(repository: str) -> Path:
    """The folder of a Hub repository's small files, downloaded first if need be.

    Raises:
        MasqclipError: it is not here and cannot be downloaded.
    """
    here = cached(repository, weights=False)
    if here is not None and has_tokenizer(here):
        return here
    return _downloaded(repository, what="tokenizer", weights=False, here=here)


def fetch_command(preset_or_named: Preset | NamedModel | str) -> str:
    """What to run on a machine with a network, so that just the needed files come into a folder."""
    if isinstance(preset_or_named, Preset):
        return " && ".join(
            _hf_command(part.repository, part.weights, f"{preset_or_named.name}/{part.kind}")
            for part in preset_or_named.parts
        )
    if isinstance(preset_or_named, NamedModel):
        named = preset_or_named
        return _hf_command(named.repository, named.weights, named.name)
    return _hf_command(preset_or_named, "model*.safetensors", preset_or_named.split("/")[1])


def _hf_command(repository: str, weights: str, folder: str) -> str:
    return (
        f"hf download {repository} --include '*.json' --include merges.txt "
        f"--include '{weights}' --local-dir {folder}"
    )


def _preset_parts(preset: Preset, tell: Tell | None) -> Path | Parts:
    """A preset's parts, from the cache, or downloaded now; a drive's must be here."""
    if preset.drive is not None:
        made = state_folder(preset.name)
        if (made / "config.json").is_file():
            return made
        raise MasqclipError(
            f"the model {preset.name!r} is not on this machine: 'masqclip download {preset.name}' "
            f"fetches {shown_size(preset.megabytes * 10**6)} from the authors' drive "
            f"({preset.licence}) and converts it"
        )
    for part in preset.parts:
        if cached(part.repository) is None:
            check_licence(part, asked=preset.name)
    try:
        pending = [
            prepare(part.repository, what=part.kind, patience=IMPATIENCE)
            for part in preset.parts
            if cached(part.repository) is None
        ]
    except OutOfReachError as error:
        raise MasqclipError(
            f"the model {preset.name!r} is not on this machine and cannot be fetched ({error}): "
            f"where there is a network, run: {fetch_command(preset)} "
            f"({shown_size(preset.megabytes * 10**6)}); put the folder {preset.name!r} here, "
            "and run the same command again"
        ) from error
    if pending:
        fetch_together(preset.name, pending, tell=tell)
    clip, proposer = (find_weights(part.name, what=part.kind) for part in preset.parts)
    return Parts(clip, proposer)


def _downloaded(
    repository: str,
    *,
    what: str,
    tell: Tell | None = None,
    weights: bool = True,
    here: Path | None = None,
) -> Path:
    """Download what is missing; without a network, what is `here` has to do."""
    try:
        return download(repository, what=what, tell=tell, weights=weights, patience=IMPATIENCE)
    except OutOfReachError as error:
        if here is not None:
            return here
        raise MasqclipError(
            f"the {what} {repository!r} is not on this machine and cannot be fetched ({error}): "
            f"where there is a network, run: {fetch_command(find_named(repository) or repository)}"
            "; and give that folder here"
        ) from error
