"""What is on this machine: folders that people name, and the Hub's own cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError

_MAX_SHARDS = 1_000
#: What describes a model in open_clip's layout.
OPEN_CLIP_CONFIG = "open_clip_config.json"
#: What describes a model, by layout: transformers' own, and open_clip's.
CONFIGS = ("config.json", OPEN_CLIP_CONFIG)
#: Kinds of weights in the order in which they are taken; of each, one file or an index of several.
WEIGHTS = {
    "config.json": ("model.safetensors", "pytorch_model.bin"),
    OPEN_CLIP_CONFIG: ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
}
#: What says how pictures are prepared.
PICTURES = ("preprocessor_config.json", "processor_config.json", OPEN_CLIP_CONFIG)
#: The parts of a model whose parts lie beside one another in a folder.
PARTS = ("clip", "proposer")
#: What a MasQ add-on is called in such a folder.
QUERIES = "queries.safetensors"
#: What the ``config.json`` of a folder of ONNX graphs says under ``format``.
EXPORTED = "masqclip-onnx"
#: Says where a folder of downloaded files came from.
ORIGIN = "masqclip_origin.json"


@dataclass(frozen=True)
class Parts:
    """A model in parts that lie on this machine, or have names; see `Segmenter.from_parts`."""

    clip: Path
    proposer: Path
    queries: Path | None = None


def cache_folder() -> Path:
    """Where the Hub's libraries keep what they download."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repository_folder(repository: str) -> Path:
    """A repository's place in the cache, whether or not it is there."""
    return cache_folder() / ("models--" + repository.replace("/", "--"))


def cached(repository: str, *, weights: bool = True) -> Path | None:
    """The folder of a repository that was downloaded whole.

    Args:
        repository: the Hub's owner/name.
        weights: with its weights; else its small files will do.
    """
    home = repository_folder(repository)
    try:
        revision = (home / "refs" / "main").read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    folder = home / "snapshots" / revision
    if not revision or not folder.is_dir():
        return None
    if not weights:
        return folder
    return folder if has_weights(folder) else None


def has_settings(folder: Path) -> bool:
    """Whether a folder says how pictures are prepared; other programs fetch weights without."""
    return any((folder / name).is_file() for name in PICTURES)


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a tokenizer's files."""
    return any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json"))


def has_weights(folder: Path) -> bool:
    """Whether a folder holds all weights of one kind."""
    return any(
        (folder / name).is_file() or _has_shards(folder, f"{name}.index.json")
        for config, names in WEIGHTS.items()
        if (folder / config).is_file()
        for name in names
    )


def _has_shards(folder: Path, index: str) -> bool:
    try:
        return all((folder / name).is_file() for name in shard_names(folder / index))
    except MasqclipError:
        return False


def shard_names(index: Path) -> list[str]:
    """The files that an index of weights names, each in the index's own folder.

    Raises:
        MasqclipError: it is none, or names a file of another kind or place.
    """
    document = read_json(index, what="the index of weights")
    table = document.get("weight_map") if isinstance(document, dict) else None
    names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
    if not 0 < len(names) <= _MAX_SHARDS:
        raise MasqclipError(f"the index of weights {str(index)!r} names no files")
    suffix = Path(index.name.removesuffix(".index.json")).suffix
    for name in names:
        if Path(name).name != name or Path(name).suffix != suffix:
            raise MasqclipError(
                f"the index of weights {str(index)!r} names {name[:80]!r}: it must be a "
                f"{suffix} file of the same folder"
            )
    return names


def parts_in(folder: Path) -> Parts | None:
    """The parts that lie in a folder as ``clip`` and ``proposer``, with `QUERIES` beside them."""
    clip, proposer = (folder / part for part in PARTS)
    if not all(any((part / name).is_file() for name in CONFIGS) for part in (clip, proposer)):
        return None
    queries = folder / QUERIES
    return Parts(clip, proposer, queries if queries.is_file() else None)


def is_exported(name_or_path: str | Path) -> bool:
    """Whether something is a folder of ONNX graphs, or was one before a file of it was lost."""
    folder = Path(name_or_path)
    if not (folder / "config.json").is_file():
        return (folder / "image.onnx").is_file()
    try:
        document = read_json(folder / "config.json", what="the settings")
    except MasqclipError:
        return (folder / "image.onnx").is_file()
    return isinstance(document, dict) and document.get("format") == EXPORTED


def origin(folder: Path) -> str | None:
    """The Hub's owner/name that a folder was downloaded from, if that is known."""
    home = folder.resolve().parent
    if home.name == "snapshots" and home.parent.name.startswith("models--"):
        return home.parent.name.removeprefix("models--").replace("--", "/", 1)
    if not (folder / ORIGIN).is_file():
        return None
    document = read_json(folder / ORIGIN, what="the note of where a model came from")
    found = document.get("repository") if isinstance(document, dict) else None
    return found if isinstance(found, str) else None


def state_folder(name: str) -> Path:
    """A place for models that are made on this machine of what was fetched."""
    return own_cache("models") / name


def own_cache(kind: str) -> Path:
    """Where this package keeps what it made or fetched, by kind."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "masqclip" / kind


def model_summary(name: str) -> str:
    """What a model says of itself in its model_card.json; empty if it says nothing."""
    shipped = Path(__file__).parents[1] / "models" / name
    card = (shipped if shipped.is_dir() else Path(name)) / "model_card.json"
    try:
        document = read_json(card, what="the model card")
    except MasqclipError:
        return ""
    return str(document.get("summary", "")) if isinstance(document, dict) else ""
