"""What a job was asked for: all that its bytes depend on, and its way to disk and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, get_args

from masqclip.batch.reading import MAX_FILE_BYTES, Kind
from masqclip.clip.name_limits import DEFAULT_LIMITS
from masqclip.clip.saved_vocabulary import from_json, to_json
from masqclip.clip.vocabulary import Vocabulary
from masqclip.errors import MasqclipError
from masqclip.options import check_count, check_countable, check_share, check_size, check_task
from masqclip.result import Task
from masqclip.word_levels import words_at


@dataclass(frozen=True)
class JobSettings:
    """What a job was asked for: all that its bytes depend on.

    Attributes:
        inputs: as given.
        kind: of the inputs.
        column: of Parquet inputs.
        model: a name or folder.
        dtype: of the computation; None = the device's own.
        size: the edges that pictures are resized by, as ``800:1333``; None = the model's own.
        vocabulary: what to look for; None = embeddings only.
        task: instance, semantic or panoptic.
        min_score: what scores less is left out; None = the default.
        level: of the vocabulary's hierarchy that is reported, 0 = the widest names; None = all
            names as they are.
        format: of the shards, parquet or coco.
        overlay: draw the masks.
        save_embeddings: keep the encoded pictures.
        shard_size: pictures a shard.
        memory: gigabytes that a batch may take; it decides how many pictures go together.
        max_file: megabytes; a picture with a larger file is an error.
        schemes: of addresses that are followed besides the usual ones.
        weights: digest of the model's files; None = not known.
    """

    inputs: tuple[str, ...]
    kind: Kind
    model: str
    vocabulary: Vocabulary | None
    column: str | None = None
    dtype: str | None = None
    size: str | None = None
    task: Task = "panoptic"
    min_score: float | None = None
    level: int | None = None
    format: str = "parquet"
    overlay: bool = False
    save_embeddings: bool = False
    shard_size: int = 256
    memory: float = 1.0
    max_file: float = MAX_FILE_BYTES / 1e6
    schemes: tuple[str, ...] = ()
    weights: str | None = None

    def __post_init__(self) -> None:
        """Refuse options that no job can have, before one is planned."""
        check_task(self.task)
        if self.min_score is not None:
            check_share(self.min_score, what="min_score")
        if self.size is not None:
            check_size(self.size, what="size")
        check_count(self.shard_size, what="shard_size")
        if self.reported is not None:
            check_countable(self.reported, self.task)

    @cached_property
    def reported(self) -> Vocabulary | None:
        """The names that results have."""
        if self.vocabulary is None or self.level is None:
            return self.vocabulary
        return words_at(self.vocabulary, self.level)

    @property
    def max_bytes(self) -> int:
        """The largest file of a picture that is read."""
        return int(self.max_file * 1e6)

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        document = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.vocabulary is not None:
            document["vocabulary"] = to_json(self.vocabulary.document())
        return json.loads(json.dumps(document))  # tuples become lists, as they would on disk

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> JobSettings:
        """The settings that `to_json` gave.

        Raises:
            MasqclipError: they are none, or hold a setting that this version does not know.
        """
        if not isinstance(document, dict):
            raise MasqclipError("the settings are no object")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(document.keys() - known):
            raise MasqclipError(
                f"there is no setting {unknown[0][:60]!r} in this version of masqclip"
            )
        for name, value in document.items():
            if not _fits(name, value):
                raise MasqclipError(f"the setting {name!r} is {str(value)[:60]!r}")
        try:
            words = document["vocabulary"]
            if words is not None:
                saved = from_json(words, source="the setting 'vocabulary'", limits=DEFAULT_LIMITS)
                words = Vocabulary.from_document(saved)
            lists = {name: tuple(document.get(name, ())) for name in ("inputs", "schemes")}
            return cls(**(document | lists | {"vocabulary": words}))
        except (KeyError, TypeError, AttributeError) as error:
            raise MasqclipError(f"the settings are not whole ({error})") from error


_FITS: dict[str, tuple[type, ...]] = {
    "inputs": (list,),
    "schemes": (list,),
    "model": (str,),
    "vocabulary": (dict, type(None)),
    "column": (str, type(None)),
    "dtype": (str, type(None)),
    "size": (str, type(None)),
    "weights": (str, type(None)),
    "min_score": (float, int, type(None)),
    "level": (int, type(None)),
    "overlay": (bool,),
    "save_embeddings": (bool,),
    "shard_size": (int,),
    "memory": (float, int),
    "max_file": (float, int),
}
_CHOICES = {"kind": get_args(Kind), "task": get_args(Task), "format": ("parquet", "coco")}


def _fits(name: str, value: Any) -> bool:
    """Whether a value can be that of a setting."""
    if name in _CHOICES:
        return isinstance(value, str) and value in _CHOICES[name]
    if isinstance(value, bool) and bool not in _FITS[name]:
        return False
    if isinstance(value, list):
        return _FITS[name] == (list,) and all(isinstance(entry, str) for entry in value)
    if name in ("shard_size", "memory", "max_file"):
        return isinstance(value, int | float) and isinstance(value, _FITS[name]) and value > 0
    return isinstance(value, _FITS[name])
