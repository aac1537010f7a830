"""What the ``config.json`` of a folder of ONNX graphs says: read, checked, and nothing believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.hub.local import EXPORTED
from masqclip.refinements import Refinements

#: The version of the file that is read.
VERSION = 1
CONFIG = "config.json"
#: The graphs of a folder.
GRAPHS = ("image", "text", "masks")

_LARGEST_SIDE = 65_536
_MOST_TOKENS = 100_000
_MOST_FILES = 64

Signature = Mapping[str, tuple[str, tuple[int | str, ...]]]
"""Inputs or outputs of a graph by name: the type, and the sides, of which a name may be any."""


@dataclass(frozen=True)
class TextSettings:
    """How names become tokens.

    Attributes:
        context_length: the most tokens that the word tower reads.
        pad_id: the token that fills texts up; to `pad_to` tokens where that is not None.
        prefix_ids, suffix_ids: tokens around each text.
        templates: that the CLIP's own makers put names into.
        as_openai: whether texts are cut as OpenAI's tokenizer cuts them.
    """

    context_length: int
    pad_id: int
    pad_to: int | None
    prefix_ids: tuple[int, ...]
    suffix_ids: tuple[int, ...]
    templates: tuple[str, ...]
    as_openai: bool


@dataclass(frozen=True)
class OnnxSettings:
    """An exported model, without its weights.

    Attributes:
        folder: where it is.
        name: what the model is called.
        dtype: in which its weights are stored: ``float32``, ``float16`` or ``int8``.
        frame: (H, W) of the only frame that the graphs take; None where they take any.
        shortest_edge, longest_edge, size_divisor: as in `MasQClipConfig`.
        embedding_size: E.
        text: how names become tokens.
        scores, logit_scale, logit_bias, overlap_threshold, tuned_names: as in `MasQClipConfig`.
        refinements: what of the reading and naming of masks is not as published.
        inputs, outputs: of each graph.
        files: the other files of the folder, each with its bytes and their SHA-256.
    """

    folder: Path
    name: str
    dtype: str
    frame: tuple[int, int] | None
    shortest_edge: int
    longest_edge: int
    size_divisor: int
    embedding_size: int
    text: TextSettings
    scores: Literal["softmax", "sigmoid"]
    logit_scale: float
    logit_bias: float | None
    overlap_threshold: float
    tuned_names: tuple[str, ...]
    refinements: Refinements
    inputs: Mapping[str, Signature]
    outputs: Mapping[str, Signature]
    files: Mapping[str, tuple[int, str]]


def read_settings(folder: str | Path) -> OnnxSettings:
    """What a folder says of itself.

    Raises:
        MasqclipError: it is no folder of ONNX graphs, of another version, or damaged.
    """
    folder = Path(folder)
    where = folder / CONFIG
    document = read_json(where, what="the settings")
    if not isinstance(document, dict) or document.get("format") != EXPORTED:
        raise MasqclipError(
            f"{str(folder)!r} is no folder of ONNX graphs: 'masqclip export MODEL OUT' writes one"
        )
    if document.get("version") != VERSION:
        raise MasqclipError(
            f"{str(where)!r} is of version {str(document.get('version'))[:20]}, and this masqclip "
            f"reads version {VERSION}: export the model anew"
        )
    try:
        return _settings(folder, document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        told = str(error) if isinstance(error, MasqclipError) else repr(error)
        raise MasqclipError(
            f"{str(where)!r} is damaged ({told[:200]}): export the model anew"
        ) from error


def _settings(folder: Path, document: Mapping[str, Any]) -> OnnxSettings:
    text, graphs, frame = document["text"], document["graphs"], document["frame"]
    if tuple(sorted(graphs)) != tuple(sorted(GRAPHS)):
        raise MasqclipError(f"graphs are {', '.join(map(str, graphs))[:80]}")
    scores, bias = document["scores"], document["logit_bias"]
    if scores not in ("softmax", "sigmoid") or (scores == "sigmoid" and bias is None):
        raise MasqclipError(f"scores is {str(scores)[:40]!r}, logit_bias {str(bias)[:40]}")
    files = document["files"]
    if not isinstance(files, dict) or len(files) > _MOST_FILES:
        raise MasqclipError("files is no table of files")
    return OnnxSettings(
        folder=folder,
        name=_text(document["name"], "name"),
        dtype=_text(document["dtype"], "dtype"),
        frame=None if frame is None else (_side(frame[0], "frame"), _side(frame[1], "frame")),
        shortest_edge=_side(document["shortest_edge"], "shortest_edge"),
        longest_edge=_side(document["longest_edge"], "longest_edge"),
        size_divisor=_side(document["size_divisor"], "size_divisor"),
        embedding_size=_side(document["embedding_size"], "embedding_size"),
        text=_text_settings(text),
        scores=scores,
        logit_scale=_number(document["logit_scale"], 0, 1_000_000, "logit_scale"),
        logit_bias=None if bias is None else _number(bias, -1_000, 1_000, "logit_bias"),
        overlap_threshold=_number(document["overlap_threshold"], 0, 1, "overlap_threshold"),
        tuned_names=tuple(_text(name, "tuned_names") for name in document["tuned_names"]),
        refinements=Refinements.read(document["refinements"]),
        inputs={name: _signature(graphs[name]["inputs"]) for name in GRAPHS},
        outputs={name: _signature(graphs[name]["outputs"]) for name in GRAPHS},
        files={_file_name(name): _file(about) for name, about in files.items()},
    )


def _text_settings(text: Mapping[str, Any]) -> TextSettings:
    pad_to = text["pad_to"]
    templates = tuple(_text(template, "templates") for template in text["templates"])
    if not templates or not all("{}" in template for template in templates):
        raise MasqclipError("templates are sentences with {} in them")
    length = _whole(text["context_length"], 1, _MOST_TOKENS, "context_length")
    return TextSettings(
        context_length=length,
        pad_id=_whole(text["pad_id"], 0, 1 << 31, "pad_id"),
        pad_to=None if pad_to is None else _whole(pad_to, 1, length, "pad_to"),
        prefix_ids=tuple(_whole(i, 0, 1 << 31, "prefix_ids") for i in text["prefix_ids"]),
        suffix_ids=tuple(_whole(i, 0, 1 << 31, "suffix_ids") for i in text["suffix_ids"]),
        templates=templates,
        as_openai=bool(text["reads_as_openai"]),
    )


def _signature(described: Mapping[str, Any]) -> Signature:
    return {
        _text(name, "graphs"): (
            _text(about["type"], "type"),
            tuple(side if isinstance(side, str) else _side(side, name) for side in about["shape"]),
        )
        for name, about in described.items()
    }


def _file_name(name: str) -> str:
    """The name of a file of the folder itself."""
    if not name or name != Path(name).name or name.startswith(".") or "\\" in name:
        raise MasqclipError(f"files has {name[:60]!r}, which is no name of a file in the folder")
    return name


def _file(about: Mapping[str, Any]) -> tuple[int, str]:
    return _whole(about["bytes"], 0, 1 << 50, "bytes"), _text(about["sha256"], "sha256")


def _side(value: object, name: str) -> int:
    return _whole(value, 1, _LARGEST_SIDE, name)


def _whole(value: object, least: int, most: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise MasqclipError(f"{name} is {str(value)[:40]}; it is a whole number, {least} to {most}")
    return value


def _number(value: object, least: float, most: float, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise MasqclipError(f"{name} is {str(value)[:40]}; it is a number from {least} to {most}")
    return float(value)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise MasqclipError(f"{name} is {str(value)[:40]!r}; it is a text")
    return value
