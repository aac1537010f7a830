"""What an exported folder says of itself: ``config.json`` to programs, ``README.md`` to people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masqclip.clip.text import TextEncoder
from masqclip.errors import MasqclipError
from masqclip.graphs.storage import Storage
from masqclip.hub.local import EXPORTED, model_summary
from masqclip.runtime.settings import CONFIG, VERSION, Signature
from masqclip.segmenter import Segmenter
from masqclip.towers.families import family_of
from masqclip.towers.tokenizer import reads_as_openai

#: Texts on which an exported tokenizer has to agree with the model's own.
PROBES = (
    "a",
    "cat",
    "A photo of the RED car's wheel, No. 7!",
    "don't  stop",
    "caf\u00e9 8x8",
    "\u732b",
    "",
)


def signatures(
    segmenter: Segmenter, outputs: Sequence[str], frame: tuple[int, int] | None
) -> dict[str, dict[str, Signature]]:
    """What each graph takes and gives.

    Args:
        segmenter: that is exported.
        outputs: of the graph of pictures.
        frame: (H, W) of the only frame; None where it is left open.
    """
    size = segmenter.text.width
    height, width = frame or ("height", "width")
    grid = (frame[0] // 4, frame[1] // 4) if frame else ("height/4", "width/4")
    queries = segmenter.model.proposer.config.num_queries
    length = padding(segmenter.text)["pad_to"] or "tokens"
    statistics = 2 * segmenter.model.tower.width
    kinds: dict[str, tuple[int | str, ...]] = {
        "mask_logits": ("batch", queries, *grid),
        "object_logits": ("batch", queries, 2),
        "mask_embeddings": ("batch", queries, size),
        "untuned_embeddings": ("batch", queries, size),
        "picture_statistics": ("batch", statistics),
    }
    return {
        "image": {
            "inputs": {
                "pixels": ("float32", ("batch", 3, height, width)),
                "size": ("int64", ("batch", 2)),
            },
            "outputs": {name: ("float32", kinds[name]) for name in outputs},
        },
        "text": {
            "inputs": {"token_ids": ("int64", ("names", length))},
            "outputs": {"text_embeddings": ("float32", ("names", size))},
        },
        "masks": {
            "inputs": {
                "pixels": ("float32", (1, 3, height, width)),
                "size": ("int64", (1, 2)),
                "masks": ("uint8", ("masks", "rows", "columns")),
            },
            "outputs": {"mask_embeddings": ("float32", ("masks", size))},
        },
    }


def padding(text: TextEncoder) -> dict[str, int | None]:
    """How a word tower wants its tokens to be filled up."""
    padded = text.words.pad([[1, 1, 1], [1]])
    whole = padded.shape[1] if padded.shape[1] > 3 else None
    return {"pad_id": int(padded[1, 1]), "pad_to": whole}


def write_settings(
    folder: Path,
    segmenter: Segmenter,
    graphs: Mapping[str, Mapping[str, Signature]],
    *,
    frame: tuple[int, int] | None,
    storage: Storage,
    opset: int,
) -> None:
    """Write ``config.json`` and ``README.md`` for the files of a folder.

    Raises:
        MasqclipError: the tokenizer puts more than tokens around a text.
    """
    config, text = segmenter.model.config, segmenter.text
    around = _around(text)
    document: dict[str, Any] = {
        "format": EXPORTED,
        "version": VERSION,
        "name": segmenter.name,
        "summary": model_summary(segmenter.name),
        "dtype": storage,
        "opset": opset,
        "frame": list(frame) if frame else None,
        "shortest_edge": config.shortest_edge,
        "longest_edge": config.longest_edge,
        "size_divisor": config.size_divisor,
        "embedding_size": text.width,
        "text": {
            "context_length": text.context_length,
            **padding(text),
            "prefix_ids": around[0],
            "suffix_ids": around[1],
            "templates": list(family_of(segmenter.model.clip.config.model_type).templates),
            "reads_as_openai": reads_as_openai(text.tokenizer),
        },
        "scores": config.scores,
        "logit_scale": config.logit_scale,
        "logit_bias": config.logit_bias,
        "overlap_threshold": config.overlap_threshold,
        "refinements": dict(config.refinements),
        "tuned_names": list(config.tuned_names),
        "graphs": {
            name: {
                side: {
                    value: {"type": kind, "shape": list(shape)}
                    for value, (kind, shape) in signature.items()
                }
                for side, signature in sides.items()
            }
            for name, sides in graphs.items()
        },
        "files": {
            path.name: {"bytes": path.stat().st_size, "sha256": _digest(path)}
            for path in sorted(folder.iterdir())
        },
    }
    (folder / "README.md").write_text(_readme(document), "utf-8")
    (folder / CONFIG).write_text(json.dumps(document, indent=1), "utf-8")


def _around(text: TextEncoder) -> tuple[list[int], list[int]]:
    """The tokens before and behind each text."""
    plain = text.tokenizer.backend_tokenizer.encode(PROBES[1], add_special_tokens=False).ids
    whole = text.words.token_ids([PROBES[1]])[0]
    for start in range(len(whole) - len(plain) + 1):
        if whole[start : start + len(plain)] == plain:
            return whole[:start], whole[start + len(plain) :]
    raise MasqclipError(
        f"the tokenizer of a {text.clip.config.model_type} cannot be exported: its tokens are not "
        "those of the text with others around them"
    )


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _readme(document: Mapping[str, Any]) -> str:
    lines = [
        f"# {document['name']} as ONNX graphs",
        "",
        "Written by `masqclip export`. `masqclip.runtime.OnnxSegmenter` runs this folder, and so "
        "does `masqclip segment --model FOLDER`; its words are chosen at the call.",
        "",
        "| graph | takes | gives |",
        "| --- | --- | --- |",
    ]
    for name, sides in document["graphs"].items():
        cells = [
            ", ".join(
                f"`{value}` {about['type']} [{', '.join(map(str, about['shape']))}]"
                for value, about in sides[side].items()
            )
            for side in ("inputs", "outputs")
        ]
        lines.append(f"| `{name}.onnx` | {cells[0]} | {cells[1]} |")
    frame = document["frame"]
    sizes = (
        f"Frames are {frame[0]} x {frame[1]} pixels, height first."
        if frame
        else f"Frames are of any size in multiples of {document['size_divisor']}; a picture's "
        f"shorter side becomes {document['shortest_edge']} pixels, or its longer one "
        f"{document['longest_edge']} if that comes first."
    )
    lines += [
        "",
        "`pixels` are red, green, blue, 0 to 255, zero beside the picture, which lies at the upper "
        f"left; `size` is its height and width in the frame. {sizes} `masks` are 0 or 1, on the "
        "picture at its own size.",
        "",
        "The probability of a name: the softmax over `logit_scale` times the cosines of a mask's "
        'embedding with those of all names and of "background", times that of the object, the '
        "softmax of `object_logits`. A name's embedding is that of a sentence, or the sum of those "
        "of several, made to length one. Numbers and tokens stand in `config.json`.",
        "",
        f"Weights are stored as {document['dtype']}; sums are made in float32. ONNX operator set "
        f"{document['opset']}, standard operators only.",
    ]
    return "\n".join(lines) + "\n"
