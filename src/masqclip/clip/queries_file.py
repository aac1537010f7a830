"""The MasQ add-on: a file of what MasQ-Tuning learned, for the CLIP that it was tuned on.

It holds a model's `MaskQueries` and the position embedding of CLIP's class token (the published
training moves that too, see `convert/masqclip.py`), and in its metadata what tells the CLIP: sizes,
and a digest of the tower's frozen numbers. About 100 MB for a ViT-L, where a model takes 2 GB.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from masqclip.clip.masked_vision import MaskQueries
from masqclip.data.files import write_atomically
from masqclip.data.json_files import parse_json
from masqclip.errors import MasqclipError
from masqclip.weights.tensor_files import named_tensors, read_safetensors, require_finite

_FORMAT = "masqclip-queries"
_CLASS_POSITION = "class_position"


def save_queries(path: str | Path, queries: MaskQueries, vision: Any) -> None:
    """Write an add-on file.

    Args:
        path: the file, ``.safetensors``.
        queries: what was learned.
        vision: the frozen tower (transformers' CLIP vision model), in float32.

    Raises:
        MasqclipError: the tower is not in float32, so its digest would be another one; or masks
            have more of their own than queries.
    """
    _refuse_other_projections(queries)
    positions = vision.embeddings.position_embedding.weight
    if positions.dtype != torch.float32:
        raise MasqclipError("queries are saved from a model in float32: load it with that dtype")
    tensors = {name: t.detach().cpu().contiguous() for name, t in queries.state_dict().items()}
    tensors[_CLASS_POSITION] = positions[0].detach().cpu().clone()
    identity = {"format": _FORMAT, "clip": json.dumps(_sizes(vision)), "digest": digest(vision)}
    write_atomically(path, save(tensors, metadata=identity))


@torch.no_grad()
def load_queries(path: str | Path, queries: MaskQueries, vision: Any) -> None:
    """Read an add-on file into a model's queries and its tower's class position.

    Args:
        path: the file.
        queries: takes what was learned.
        vision: the frozen tower, in float32.

    Raises:
        MasqclipError: there is no such file, it is no add-on, or it belongs to another CLIP; or
            masks have more of their own than queries.
    """
    _refuse_other_projections(queries)
    loaded, about = read_safetensors(path, what="the file of queries")
    if about.get("format") != _FORMAT:
        raise MasqclipError(
            f"{str(path)!r} holds no queries of masqclip (save_queries writes them)"
        )
    source = f"the file of queries {str(path)!r}"
    tensors = named_tensors(loaded, source=source)
    sizes, expected = parse_json(about.get("clip", ""), source=source), _sizes(vision)
    if not isinstance(sizes, dict) or sizes.keys() != expected.keys():
        raise MasqclipError(f"{source} does not say which CLIP it fits")
    if sizes != expected:
        raise MasqclipError(
            f"the queries {str(path)!r} fit a CLIP of {_words(sizes)}; this one has "
            f"{_words(expected)}"
        )
    wanted = {name: tensor.shape for name, tensor in queries.state_dict().items()}
    wanted[_CLASS_POSITION] = vision.embeddings.position_embedding.weight[0].shape
    for name in sorted(wanted.keys() | tensors.keys()):
        given = tensors.get(name)
        if given is None or given.shape != wanted.get(name) or not given.is_floating_point():
            raise MasqclipError(f"{source} is damaged: its {name!r} is not that of such queries")
    require_finite(tensors, source=source)
    if about.get("digest") != digest(vision):
        raise MasqclipError(
            f"the queries {str(path)!r} were tuned on another CLIP of the same sizes: its frozen "
            "numbers differ from this one's"
        )
    vision.embeddings.position_embedding.weight[0] = tensors.pop(_CLASS_POSITION)
    queries.load_state_dict(tensors)


def _refuse_other_projections(queries: MaskQueries) -> None:
    if queries.own != "q":
        raise MasqclipError(
            "a file of queries holds query projections alone, and the masks of this model have own "
            f"projections {queries.own!r}: save and load the whole model"
        )


def digest(vision: Any) -> str:
    """What tells a CLIP vision tower: a hash of all its numbers but the class token's position."""
    found = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(vision.state_dict().items()):
        numbers = tensor[1:] if name == "embeddings.position_embedding.weight" else tensor
        found.update(numbers.detach().float().cpu().contiguous().numpy())
    return found.hexdigest()


def _sizes(vision: Any) -> dict[str, int]:
    config = vision.config
    return {
        "width": config.hidden_size,
        "blocks": config.num_hidden_layers,
        "patch": config.patch_size,
        "pixels": config.image_size,
    }


def _words(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sizes.items())
