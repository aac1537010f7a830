"""What a folder of transformers' holds, by the kind that its ``config.json`` names.

A model of another kind may have the tensors' names of one that is supported, load, and answer
nonsense. So a kind is looked at before any weight is read, and another one is refused by its name.
"""

from __future__ import annotations

from pathlib import Path

from masqclip.errors import MasqclipError
from masqclip.weights.preprocessing import read_object


def model_type_of(folder: Path, *, name: str | Path) -> str:
    """The model type in a folder's ``config.json``.

    Args:
        folder: of a model.
        name: what the user calls it, for the errors.

    Raises:
        MasqclipError: there is none.
    """
    if not (folder / "config.json").exists():
        raise MasqclipError(f"{str(name)!r} holds no model: there is no config.json in it")
    kind = read_object(folder, "config.json").get("model_type")
    if not isinstance(kind, str) or not kind:
        raise MasqclipError(
            f"{str(name)!r} does not say what it is: its config.json has no model_type"
        )
    return kind
