"""The MasQ add-on: a file of what MasQ-Tuning learned, for the CLIP that it was tuned on.

It holds a model's `MaskQueries` and what else tuning moves (`Tower.moving`: of a CLIP the position
of its class token, see `convert/masqclip.py`), and in its metadata what tells the CLIP: its family,
sizes, and a digest of the tower's frozen numbers. About 100 MB for a ViT-L, where a model takes
2 GB.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import save

from masqclip.clip.masked_vision import MaskQueries
from masqclip.data.files import write_atomically
from masqclip.data.json_files import parse_json
from masqclip.errors import MasqclipError
from masqclip.towers.tower import Tower
from masqclip.weights.tensor_files import named_tensors, read_safetensors, require_finite

_FORMAT = "masqclip-queries"


def save_queries(path: str | Path, queries: MaskQueries, tower: Tower) -> None:
    """Write an add-on file.

    Args:
        path: the file, ``.safetensors``.
        queries: what was learned.
        tower: the frozen tower, in float32.

    Raises:
        MasqclipError: the tower is not in float32, so its digest would be another one; or masks
            have more of their own than queries.
    """
    _refuse_other_projections(queries)
    if tower.own_embedding().dtype != torch.float32:
        raise MasqclipError("queries are saved from a model in float32: load it with that dtype")
    learned = queries.state_dict() | dict(tower.moving())
    tensors = {name: t.detach().cpu().clone().contiguous() for name, t in learned.items()}
    identity = {"format": _FORMAT, "clip": json.dumps(_sizes(tower)), "digest": digest(tower)}
    write_atomically(path, save(tensors, metadata=identity))


@torch.no_grad()
def load_queries(path: str | Path, queries: MaskQueries, tower: Tower) -> None:
    """Read an add-on file into a model's queries and its tower's class position.

    Args:
        path: the file.
        queries: takes what was learned.
        tower: the frozen tower, in float32.

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
    sizes, expected = parse_json(about.get("clip", ""), source=source), _sizes(tower)
    if not isinstance(sizes, dict) or sizes.keys() - {"family"} != expected.keys() - {"family"}:
        raise MasqclipError(f"{source} does not say which CLIP it fits")
    if sizes != expected:
        raise MasqclipError(
            f"the queries {str(path)!r} fit a CLIP of {_words(sizes)}; this one has "
            f"{_words(expected)}"
        )
    moving = tower.moving()
    wanted = {name: tensor.shape for name, tensor in (queries.state_dict() | dict(moving)).items()}
    for name in sorted(wanted.keys() | tensors.keys()):
        given = tensors.get(name)
        if given is None or given.shape != wanted.get(name) or not given.is_floating_point():
            raise MasqclipError(f"{source} is damaged: its {name!r} is not that of such queries")
    require_finite(tensors, source=source)
    if about.get("digest") != digest(tower):
        raise MasqclipError(
            f"the queries {str(path)!r} were tuned on another CLIP of the same sizes: its frozen "
            "numbers differ from this one's"
        )
    for name, numbers in moving.items():
        numbers.copy_(tensors.pop(name))
    queries.load_state_dict(tensors)


def _refuse_other_projections(queries: MaskQueries) -> None:
    if queries.own != "q":
        raise MasqclipError(
            "a file of queries holds query projections alone, and the masks of this model have own "
            f"projections {queries.own!r}: save and load the whole model"
        )


def digest(tower: Tower) -> str:
    """What tells a tower that reads pictures: a hash of its numbers that tuning leaves alone."""
    found = hashlib.blake2b(digest_size=16)
    for _, tensor in sorted(tower.frozen().items()):
        found.update(tensor.detach().float().cpu().contiguous().numpy().data)
    return found.hexdigest()


def _sizes(tower: Tower) -> dict[str, int | str]:
    """What is compared before any number is; OpenAI's family goes without saying."""
    sizes: dict[str, int | str] = {
        "width": tower.width,
        "blocks": tower.first or len(tower.blocks),
        "patch": tower.patch_size,
        "pixels": tower.image_size,
    }
    return sizes if tower.family == "clip" else {"family": tower.family, **sizes}


def _words(sizes: dict[str, int | str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sizes.items())
