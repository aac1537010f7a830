"""How pictures are made ready for a model, as the files beside its weights say it.

transformers writes an image processor's settings as ``preprocessor_config.json`` or, in a model
that has a tokenizer as well, inside ``processor_config.json``. All that such a file says is either
followed or refused by its name: a picture that is prepared in another way than a model was trained
on still gives masks and names, only worse ones.
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

#: A value for each of red, green and blue.
Channels = tuple[float, float, float]

#: The file that an image processor is saved as.
PREPROCESSING = "preprocessor_config.json"
_NESTING = "processor_config.json"
_SAME = 1e-6  # relative: 1/255 is written with some digits more or less


def read_preprocessing(folder: Path) -> tuple[dict[str, Any], str]:
    """A folder's settings of an image processor, and what they are called in errors.

    Where both files have some, the nested ones count, as in transformers. Without any, they are
    empty.

    Raises:
        MasqclipError: a file is damaged.
    """
    nesting = read_object(folder, _NESTING)
    if "image_processor" in nesting:
        source = f"{str(folder / _NESTING)!r} (image_processor)"
        if not isinstance(nesting["image_processor"], dict):
            raise MasqclipError(f"{source} is no object of settings")
        return nesting["image_processor"], source
    return read_object(folder, PREPROCESSING), repr(str(folder / PREPROCESSING))


def read_object(folder: Path, name: str) -> dict[str, Any]:
    """The object in a folder's JSON file; empty where there is no such file.

    Raises:
        MasqclipError: the file is damaged, or holds something else.
    """
    if not os.path.lexists(folder / name):
        return {}
    document = read_json(inside(folder, name), what="the file")
    if not isinstance(document, dict):
        raise MasqclipError(f"{str(folder / name)!r} is no object of settings")
    return document


def flag(told: Mapping[str, Any], name: str, default: bool, *, source: str) -> bool:
    """A setting that is true or false; null is the default, as in transformers.

    Raises:
        MasqclipError: it is something else.
    """
    value = told.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise MasqclipError(f"{source} says {name} = {str(value)[:40]!r}: it is true or false")
    return value


def normalisation(
    told: Mapping[str, Any], *, mean: Channels, std: Channels, source: str
) -> tuple[Channels, Channels]:
    """Mean and deviation of RGB values in 0..1 that have the effect of all that is told.

    transformers computes ``(value * rescale_factor - image_mean) / image_std`` of values in 0..255,
    and either step may be switched off.

    Args:
        told: the settings of an image processor.
        mean, std: where they tell none, in the terms of their own `rescale_factor`.
        source: what they are called in errors.

    Raises:
        MasqclipError: a value is none that pictures can be normalised with.
    """
    factor = 1.0
    if flag(told, "do_rescale", True, source=source):
        factor = 1 / 255 if told.get("rescale_factor") is None else told["rescale_factor"]
        if not _is_number(factor) or not 0 < factor <= 1e6:
            raise MasqclipError(
                f"{source} says rescale_factor = {str(factor)[:40]}: it is a number above 0"
            )
    # Of one unit of the told values, in 0..1; exactly 1 as a rule, so that nothing is rounded.
    unit = 1.0 if abs(255 * factor - 1) < _SAME else 1 / (255 * factor)
    if not flag(told, "do_normalize", True, source=source):
        return (0.0, 0.0, 0.0), (unit, unit, unit)
    found = [
        channels(default if told.get(name) is None else told[name], name=name, source=source)
        for name, default in (("image_mean", mean), ("image_std", std))
    ]
    first, second = ((unit * a, unit * b, unit * c) for a, b, c in found)
    return first, second


def channels(value: object, *, name: str, source: str) -> Channels:
    """Three numbers, or one that stands for three.

    Args:
        value: as a file or a user gives it.
        name: of the setting; what ends with ``std`` divides, and is above 0.
        source: where it stands, for the errors.

    Raises:
        MasqclipError: it is something else.
    """
    numbers: list[Any] = list(value) if isinstance(value, (list, tuple)) else [value] * 3
    if len(numbers) == 1:
        numbers *= 3
    least = 1e-6 if name.endswith("std") else -math.inf
    if len(numbers) != 3 or not all(_is_number(n) and n >= least for n in numbers):
        above = ", above 0" if least > 0 else ""
        raise MasqclipError(
            f"{source} says {name} = {str(value)[:60]}: it is three numbers, for red, green and "
            f"blue, or one for all{above}"
        )
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
