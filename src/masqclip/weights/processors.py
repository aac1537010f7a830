"""The image processor's settings in a folder of transformers', and what they make of values.

transformers writes them as ``preprocessor_config.json``, or within ``processor_config.json``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.weights.folders import inside

_CHANNELS = 3


def processor_document(folder: Path) -> dict[str, Any]:
    """The settings of a folder's image processor; empty where it has none.

    Raises:
        MasqclipError: the file is no JSON, or leads out of the folder.
    """
    if os.path.lexists(folder / "preprocessor_config.json"):
        return _object(read_json(inside(folder, "preprocessor_config.json"), what="the file"))
    if os.path.lexists(folder / "processor_config.json"):
        whole = _object(read_json(inside(folder, "processor_config.json"), what="the file"))
        return _object(whole.get("image_processor"))
    return {}


def normalisation(
    told: Mapping[str, Any], *, source: str, scale: float = 1.0
) -> dict[str, tuple[float, float, float]]:
    """``pixel_mean`` and ``pixel_std`` of values in 0..255, times `scale`.

    A processor multiplies values by ``rescale_factor``, subtracts ``image_mean`` and divides by
    ``image_std``, each step unless it is switched off.

    Args:
        told: its settings.
        source: what they are, for the errors.
        scale: 1/255 for values in 0..1.

    Raises:
        MasqclipError: they are no numbers.
    """
    factor = told.get("rescale_factor", 1 / 255)
    if not isinstance(factor, int | float) or isinstance(factor, bool) or not 0 < factor < math.inf:
        raise MasqclipError(f"{source} has rescale_factor = {str(factor)[:40]}: a number above 0")
    if told.get("do_rescale") is False:
        factor = 1.0
    # A factor that is written with few digits is meant as 1/255, and the published values as whole.
    divisor = scale * (255.0 if math.isclose(factor, 1 / 255, rel_tol=1e-6) else 1 / factor)
    if told.get("do_normalize") is False:
        return {"pixel_mean": (0.0, 0.0, 0.0), "pixel_std": (divisor, divisor, divisor)}
    found = {}
    for name, key in (("pixel_mean", "image_mean"), ("pixel_std", "image_std")):
        if (value := told.get(key)) is None:
            if not math.isclose(divisor, 255 * scale):
                raise MasqclipError(f"{source} rescales by {factor:g} and has no {key}: add it")
            continue
        channels = value if isinstance(value, list) else [value] * _CHANNELS
        if len(channels) != _CHANNELS or not all(
            isinstance(n, int | float) and not isinstance(n, bool) for n in channels
        ):
            raise MasqclipError(f"{source} has {key} = {str(value)[:60]}: one number, or three")
        found[name] = (divisor * channels[0], divisor * channels[1], divisor * channels[2])
    return found


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
