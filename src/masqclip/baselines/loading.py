"""Which systems there are, and the model that a folder holds, of whichever system."""

from __future__ import annotations

from pathlib import Path

import torch

from masqclip.baselines.lseg import LSegModel
from masqclip.baselines.maskclip import MaskClipModel
from masqclip.baselines.openseg import OpenSegModel
from masqclip.baselines.xpm import XpmModel
from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.hub.local import EXPORTED
from masqclip.model import MasQClipModel
from masqclip.weights.folders import inside, load_model

#: By the name that a model's ``config.json`` gives its system.
SYSTEMS: dict[str, type[MasQClipModel]] = {
    model.system: model
    for model in (MasQClipModel, MaskClipModel, OpenSegModel, LSegModel, XpmModel)
}


def system_of(folder: Path) -> type[MasQClipModel]:
    """What a folder's ``config.json`` says that its model is.

    Raises:
        MasqclipError: there is no such file, it is damaged, or it names no known system.
    """
    document = read_json(inside(folder, "config.json"), what="the configuration")
    if isinstance(document, dict) and document.get("format") == EXPORTED:
        raise MasqclipError(
            'it is exported: "masqclip segment --model FOLDER" and '
            "masqclip.runtime.OnnxSegmenter run it; give the model that it was exported from"
        )
    name = document.get("system", "masqclip") if isinstance(document, dict) else "masqclip"
    if not isinstance(name, str) or name not in SYSTEMS:
        raise MasqclipError(
            f"the model is of the system {str(name)[:40]!r}, which is not known: there are "
            f"{', '.join(SYSTEMS)}"
        )
    return SYSTEMS[name]


def load_system(
    folder: Path, *, dtype: torch.dtype = torch.float32
) -> tuple[MasQClipModel, set[str]]:
    """Load the model of a folder, and say which of its parameters are not there.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.
        dtype: of the parameters.

    Raises:
        MasqclipError: there is none, a file of it is damaged, or it is of no known system.
    """
    model, missing = load_model(system_of(folder), folder, pickled=False, dtype=dtype)
    assert isinstance(model, MasQClipModel)
    return model, missing
