"""A model's ``config.json``, taken for sizes and nothing else.

transformers acts upon much of what stands in such a file: it asks a hub for a backbone that is
named there, loads kernels and code, quantises, or changes what a forward pass returns. Here only
what the architecture itself has as a setting is taken over, each value within its bounds; all that
is common to transformers' models (attention, dtype, generation, where files lie) is left out, and
is ours to choose.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_BACKBONE_MAPPING_NAMES

from masqclip.data.json_files import read_json
from masqclip.errors import MasqclipError
from masqclip.hub import quiet_transformers
from masqclip.weights.tensor_files import error_line

MAX_LAYERS = 256  # of one tower; the deepest that are published have 48
_LARGEST = 10_000_000
_MAX_ENTRIES = 1_000  # of a list
_MAX_LABELS = 100_000
_MAX_TEXT = 200

_COMMON = {field.name for field in dataclasses.fields(PreTrainedConfig)}
# What a part may be where its class is not fixed: architectures of transformers' own that load
# nothing from elsewhere.
_PARTS = {
    "backbone_config": frozenset(MODEL_FOR_BACKBONE_MAPPING_NAMES) - {"timm_backbone"}
    | {"sam2_hiera_det_model", "sam3_vit_model"},
    "decoder_config": frozenset({"detr"}),
    "vision_config": frozenset({"sam2_vision_model"}),
    "text_config": frozenset({"clip_text_model"}),
}
_DECODER = "detr"  # of which MaskFormer takes the decoder alone, and no backbone
# Settings of training that change what a forward pass takes or gives.
_FIXED = {"is_training": False}
# Descriptions of parts in a model of this package, which are checked when the parts are built.
_DESCRIPTIONS = ("clip_config", "proposer_config", "system_config", "refinements")
_ROTARY = "rope_parameters"  # an object of numbers
_STAGES = ("out_features", "out_indices")  # arguments of every backbone, but no fields of theirs

_LAYERS = re.compile(
    r"layers$|^depths$|^num_blocks$|^num_upscale_blocks$|head_depth$|^blocks_per_stage$"
    r"|^num_upsampling_stages$"
)
_POSITIVE = re.compile(
    r"(?<!window)_sizes?$|_dim$|^dim_|heads$|strides?$|channels$|queries$|feats$|^d_model$|_width$"
    r"|downsample_rate$|_length$|embeddings$|seq_len$"
)
_NEGATIVE = re.compile(r"_token_id$|^ignore_value$|^out_indices$")


def read_config(
    folder: Path, config_class: Any, *, extra: Collection[str] = (), part: str | None = None
) -> Any:
    """The configuration in a folder's ``config.json``. Other arguments as in `build_config`.

    Args:
        part: the setting that holds it, where the file describes more.

    Raises:
        MasqclipError: there is none, it is no JSON, or a value is out of its bounds.
    """
    file = folder / "config.json"
    document = read_json(file, what="the configuration")
    source = f"the configuration {str(file)!r}"
    if part is not None:
        document = document.get(part) if isinstance(document, dict) else None
        source += f", {part},"
    return build_config(config_class, document, source=source, extra=extra)


def build_config(
    config_class: Any, values: Any, *, source: str, extra: Collection[str] = ()
) -> Any:
    """A configuration of the architecture's own settings in a dictionary; the rest is left out.

    Args:
        config_class: of transformers.
        values: as a ``config.json`` has them.
        source: what holds them, for the errors.
        extra: settings that the class does not know and its model here reads.

    Raises:
        MasqclipError: a value is of another kind, or out of its bounds; the message names it.
    """
    kept = _settings(config_class, values, source=source, extra=extra)
    try:
        with quiet_transformers():
            return config_class(**kept)
    except MasqclipError:
        raise
    except Exception as error:  # each architecture checks its settings in ways of its own
        raise MasqclipError(
            f"{source} describes no {_name(config_class)}: {error_line(error)}"
        ) from error


def describe(config: Any) -> dict[str, Any]:
    """A configuration without where its files once lay, which is nobody's business."""
    settings: dict[str, Any] = config.to_dict()
    settings.pop("_name_or_path", None)
    return settings


def num_layers(config: Any) -> int:
    """How many layers a configuration describes, in all parts."""
    count = 0
    for name, value in (config if isinstance(config, Mapping) else vars(config)).items():
        if isinstance(value, (PreTrainedConfig, Mapping)):
            count += num_layers(value)
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            count += sum(num_layers(entry) for entry in value if isinstance(entry, Mapping))
        elif _LAYERS.search(str(name)):
            count += sum(_numbers(value))
    return count


def _settings(
    config_class: Any, values: Any, *, source: str, extra: Collection[str]
) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise MasqclipError(f"{source} holds no description of a {_name(config_class)}")
    if (
        isinstance(values.get("backbone"), str)
        and values.get("backbone_config") is None
        and ("backbone_config" in _fields(config_class) and config_class.model_type != _DECODER)
    ):
        raise MasqclipError(
            f"{source} names the backbone {values['backbone'][:80]!r}, which would have to be "
            "downloaded: only a folder that holds all of its weights can be loaded"
        )
    parts = getattr(config_class, "sub_configs", {})
    read = {} if config_class.model_type == _DECODER else parts
    aliases = getattr(config_class, "attribute_map", {})
    known = (_fields(config_class) | {*extra}) - _COMMON - parts.keys()
    backbone = hasattr(config_class, _STAGES[0])
    known |= {*_STAGES} if backbone else set()
    kept: dict[str, Any] = {}
    for name, value in values.items():
        name = aliases.get(name, name) if aliases.get(name) not in values else name
        if name in known and not name.startswith("_"):
            _check(name, value, source)
            kept[name] = value
    named = values.get("id2label") is not None or values.get("num_labels") is not None
    if named and not backbone:  # whose classes nobody reads
        kept["id2label"] = _labels(values, source)
        kept["label2id"] = {label: i for i, label in kept["id2label"].items()}
    for name, part_class in read.items():
        part = values.get(f"{name}_dict")  # the first CLIPs', which says all
        part = values.get(name) if part is None else part
        if part is not None and (part_class := _part_class(name, part_class, part, source)):
            kept[name] = build_config(part_class, part, source=f"{source}, {name},")
    return kept | {name: value for name, value in _FIXED.items() if name in known}


def _fields(config_class: Any) -> set[str]:
    names = set(inspect.signature(config_class.__init__).parameters) - {"self", "args", "kwargs"}
    if dataclasses.is_dataclass(config_class):
        names |= {field.name for field in dataclasses.fields(config_class)}
    return names


def _part_class(name: str, part_class: Any, part: Any, source: str) -> Any:
    """The class of a part; None where nothing reads it."""
    if issubclass(part_class, PreTrainedConfig):
        return part_class
    if name not in _PARTS or not isinstance(part, Mapping):
        return None
    kind = part.get("model_type")
    if not isinstance(kind, str) or kind not in _PARTS[name]:
        shown = kind[:60] if isinstance(kind, str) else kind
        raise MasqclipError(
            f"{source} has a {name} of the type {shown!r}, which is not loaded from a folder"
        )
    return CONFIG_MAPPING[kind]


def _labels(values: Mapping[str, Any], source: str) -> dict[int, str]:
    labels, count = values.get("id2label"), values.get("num_labels")
    if isinstance(labels, Mapping):
        if len(labels) <= _MAX_LABELS and all(
            re.fullmatch(r"\d{1,9}", str(key)) and isinstance(label, str)
            for key, label in labels.items()
        ):
            return {int(key): label[:_MAX_TEXT] for key, label in labels.items()}
    elif type(count) is int and 0 < count <= _MAX_LABELS:
        return {i: f"LABEL_{i}" for i in range(count)}
    raise MasqclipError(f"{source} has id2label or num_labels that are no list of class names")


def _check(name: str, value: Any, source: str) -> None:
    """Refuse a value that no model has."""
    if name in _DESCRIPTIONS and isinstance(value, Mapping):
        return
    if name == _ROTARY and isinstance(value, Mapping):
        for setting, number in value.items():
            _check(f"{name}.{setting}"[:_MAX_TEXT], number, source)
        if value.get("rope_type", "default") not in ("default", "axial"):
            raise MasqclipError(f"{source} has {name} of a type that no model here has")
        return
    problem = _problem(name, value)
    if problem:
        raise MasqclipError(f"{source} has {name} = {_shown(value)}: {problem}")


def _problem(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        least = -1000 if _NEGATIVE.search(name) else 1 if _POSITIVE.search(name) else 0
        most = MAX_LAYERS if _LAYERS.search(name) else _LARGEST
        if not least <= value <= most:
            return f"it is a number from {least} to {most}"
    elif isinstance(value, float):
        if not math.isfinite(value) or abs(value) > _LARGEST:
            return "it is a number of a usual size"
        if name.endswith("eps") and not 0 <= value <= 1:
            return "it is a number from 0 to 1"
    elif isinstance(value, str):
        if len(value) > _MAX_TEXT or not value.isprintable():
            return "it is a short text"
    elif isinstance(value, (list, tuple)):
        if len(value) > _MAX_ENTRIES:
            return f"it is a list of at most {_MAX_ENTRIES} entries"
        if _LAYERS.search(name) and sum(_numbers(value)) > MAX_LAYERS:
            return f"that is more than {MAX_LAYERS} layers"
        if any(isinstance(entry, (list, tuple)) and any(
            isinstance(inner, (list, tuple, Mapping)) for inner in entry
        ) for entry in value):  # fmt: skip
            return "it is a list of numbers"
        return next((found for entry in value if (found := _problem(name, entry))), None)
    else:
        return "it is a number, a text or a list"
    return None


def _numbers(value: Any) -> list[int]:
    entries = value if isinstance(value, (list, tuple)) else [value]
    return [entry for entry in entries if type(entry) is int]


def _shown(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of too many digits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _name(config_class: Any) -> str:
    return str(config_class.__name__).removesuffix("Config")
