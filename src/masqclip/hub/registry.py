"""The public models that have names here, and the presets that join them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from masqclip.errors import MasqclipError


@dataclass(frozen=True)
class NamedModel:
    """A part that the registry knows.

    Attributes:
        name: what masqclip calls it.
        kind: ``clip`` or ``proposer``.
        repository: what is downloaded: the Hub's owner/name.
        what: what it is, in a line.
        megabytes: of the download, about.
        licence: of the weights; ``unsaid`` where the publisher does not say.
        restricted: whether the licence forbids some uses, commercial ones for instance, so that it
            is agreed to before the download.
        weights: the file of weights in the repository, as far as is known.
        published_size: (shortest, longest) edge in pixels at which its figures were published,
            where the repository's own files say something else.
        labels: how many classes it was trained with, where `published_size` is given.
    """

    name: str
    kind: str
    repository: str
    what: str
    megabytes: int
    licence: str
    restricted: bool = False
    weights: str = "model.safetensors"
    published_size: tuple[int, int] | None = None
    labels: int | None = None

    @property
    def page(self) -> str:
        """Where its licence stands."""
        return f"https://huggingface.co/{self.repository}"


@dataclass(frozen=True)
class Preset:
    """Parts and settings under one name, for ``--model``.

    Attributes:
        name: what masqclip calls it.
        what: what it is for, in a line.
        clip, proposer: names of the registry; of a `drive` preset the CLIP is what its checkpoint
            was tuned on, and there is no proposer.
        memory_gb: the most memory that segmenting one picture took.
        cpu_seconds: for a photograph of 640 x 480 on two processor cores, measured.
        gpu_seconds: the same on one large GPU.
        gpu_measured: whether that was measured; else it is an estimate.
        drive: a folder of checkpoints that is no repository of the Hub.
        checkpoint: the file in it.
        drive_megabytes: of that file, about.
        licence: of that file.
    """

    name: str
    what: str
    clip: str
    proposer: str | None
    memory_gb: float
    cpu_seconds: float
    gpu_seconds: float
    gpu_measured: bool = False
    drive: str | None = None
    checkpoint: str | None = None
    drive_megabytes: int = 0
    licence: str | None = None

    @property
    def parts(self) -> tuple[NamedModel, ...]:
        """The registry's entries that it is made of."""
        known = {model.name: model for model in named_models()}
        return tuple(known[name] for name in (self.clip, self.proposer) if name is not None)

    @property
    def megabytes(self) -> int:
        """Of the download, about."""
        return self.drive_megabytes + sum(part.megabytes for part in self.parts)


@cache
def named_models() -> tuple[NamedModel, ...]:
    """The registry: public models that work here, for `from_parts` and the command line."""
    return tuple(
        NamedModel(**(entry | {"published_size": _pair(entry.get("published_size"))}))
        for entry in _document()["models"]
    )


@cache
def presets() -> tuple[Preset, ...]:
    """Models of several parts under one name, the recommended one first."""
    return tuple(Preset(**entry) for entry in _document()["presets"])


def find_preset(name: object) -> Preset | None:
    """The preset of a name."""
    return next((preset for preset in presets() if preset.name == name), None)


def find_named(name: object) -> NamedModel | None:
    """The registry's entry of a name, its own or that of its repository."""
    found = [model for model in named_models() if name in (model.name, model.repository)]
    return found[0] if found else None


def published_size(
    repository: str | None, settings: object, labels: int | None
) -> tuple[int, int] | None:
    """(shortest, longest) edge at which a proposer's figures were published, if it is known.

    The published files of Mask2Former say 384 x 384, which is where their conversion was tried and
    not how they were measured. A folder whose name is not known is told by the two together: that
    size, and as many classes as an entry has.

    Args:
        repository: the Hub's owner/name, or None for a folder of unknown origin.
        settings: the ``size`` in the repository's image processor.
        labels: how many classes the model has, if it is a Mask2Former.
    """
    entry = None if repository is None else find_named(repository)
    if entry is not None:
        return entry.published_size
    if settings != {"height": 384, "width": 384}:
        return None
    sizes = {model.published_size for model in named_models() if model.labels == labels}
    return sizes.pop() if labels is not None and len(sizes) == 1 else None


def is_repository(name: str) -> bool:
    """Whether a name can be the Hub's owner/name, and not a path."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and name[-1] != "/"


def unknown_name(name: str, *, what: str, among: Iterable[str]) -> MasqclipError:
    """The error for a name that nothing has; the nearest is named."""
    near = difflib.get_close_matches(name.lower(), list(among), n=1, cutoff=0.6)
    meant = f" (did you mean {near[0]!r}?)" if near else ""
    return MasqclipError(
        f"there is no {what} {name!r}{meant}: give a folder, a Hub name such as owner/model, or a "
        "name that 'masqclip info --models' lists"
    )


@cache
def _document() -> dict[str, Any]:
    text = (resources.files("masqclip") / "models" / "named.json").read_text("utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


def _pair(value: list[int] | None) -> tuple[int, int] | None:
    return None if value is None else (value[0], value[1])
