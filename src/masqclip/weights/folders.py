"""A model out of a folder: transformers' architectures, with files that only we read.

Nothing in a folder is a name of anything elsewhere: no code, no kernel, no other repository, no
path out of the folder. The configuration is taken for sizes (`configs.py`) and compared with the
weights before anything of its size is made.
"""

from __future__ import annotations

import copy
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from masqclip.errors import MasqclipError, is_out_of_memory
from masqclip.hub import quiet_transformers
from masqclip.hub.local import shard_names
from masqclip.weights.configs import num_layers, read_config
from masqclip.weights.tensor_files import (
    error_line,
    named_tensors,
    read_tensor_file,
    require_finite,
)

_SAFETENSORS = "model.safetensors"
_PICKLED = "pytorch_model.bin"
# Parameters that a folder may lack (tied ones, a loss's weights) and tables that are computed from
# sizes: a model takes no more than this beside what its weights hold.
_TIMES = 2
_SLACK = 32_000_000
# Numbers of a model that is made on the spot; the random start of a larger one takes its time.
_SMALL = 50_000_000


@dataclass(frozen=True)
class FolderPart:
    """One model among several that a folder holds together.

    Attributes:
        setting: of ``config.json``, which describes it.
        prefix: of its tensors' names.
    """

    setting: str
    prefix: str


def load_model(
    model_class: Any,
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    pickled: bool = True,
    extra: Collection[str] = (),
    part: FolderPart | None = None,
) -> tuple[Any, set[str]]:
    """Load a model of transformers' in evaluation mode, and say what its folder lacks of it.

    Args:
        model_class: its class, which has a `config_class`.
        folder: with ``config.json`` and ``model.safetensors``, in one file or in shards.
        dtype: of the parameters.
        pickled: read ``pytorch_model.bin`` where there are no safetensors.
        extra: settings in ``config.json`` that the model's own class does not know.
        part: the model is that part of what the folder holds.

    Returns:
        The model, and the names of parameters that are not in the folder, which are random.

    Raises:
        MasqclipError: a file is missing, damaged, or leads out of the folder; the configuration is
            not that of the weights; or a weight is no number.
    """
    inside(folder, "config.json")
    setting = None if part is None else part.setting
    config = read_config(folder, model_class.config_class, extra=extra, part=setting)
    source = f"the folder {str(folder)!r}"
    tensors = read_folder(folder, pickled=pickled)
    if part is not None:
        tensors = {
            name.removeprefix(part.prefix): tensor
            for name, tensor in tensors.items()
            if name.startswith(part.prefix)
        }
    return fill_model(model_class, config, tensors, dtype=dtype, source=source)


def fill_model(
    model_class: Any,
    config: Any,
    tensors: dict[str, Tensor],
    *,
    dtype: torch.dtype,
    source: str,
) -> tuple[Any, set[str]]:
    """A model of transformers' in evaluation mode, of a configuration and its weights.

    Args:
        model_class: its class.
        config: its configuration.
        tensors: its weights; names may be an earlier version's.
        dtype: of the parameters.
        source: what holds both, for the errors.

    Returns:
        The model, and the names of parameters that the weights lack, which are random.

    Raises:
        MasqclipError: they do not go together, or a weight is no number.
    """
    wanted = check_fits(model_class, config, tensors, source=source)
    require_finite(tensors, source=source)
    whole = wanted <= tensors.keys()
    numbers = sum(tensor.numel() for tensor in tensors.values())
    try:
        with quiet_transformers():
            if whole and numbers <= _SMALL and dtype == torch.float32:
                model, missing = _filled(model_class, config, tensors), set()
            else:
                # Tensors of other shapes are ignored here to be told below: transformers raises an
                # error that refers to a report, which is not shown.
                model, report = model_class.from_pretrained(
                    None,
                    config=config,
                    state_dict=tensors,
                    dtype=dtype,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,
                )
                missing = set(report["missing_keys"])
                if report["mismatched_keys"]:
                    name, given, asked = min(map(tuple, report["mismatched_keys"]))
                    raise MasqclipError(
                        f"{source}: the tensor {name!r} is {tuple(given)}, and the configuration "
                        f"asks for {tuple(asked)}"
                    )
    except Exception as error:  # whatever is wrong with files that somebody gave
        raise _refusal(error, source) from error
    model.config.name_or_path = ""
    return model, missing


def _filled(model_class: Any, config: Any, tensors: Mapping[str, Tensor]) -> Any:
    """A model of tensors that have its own names.

    transformers would first look for the names of all of its earlier versions, which takes a small
    model ten times as long as to make it.
    """
    with torch.random.fork_rng(devices=[]):  # what starts at random is overwritten
        model = model_class(copy.deepcopy(config)).float()  # whatever the default dtype is
    model.config.dtype = torch.float32
    model.load_state_dict({name: tensors[name] for name in model.state_dict()})
    return model.eval()


def read_folder(folder: Path, *, pickled: bool = True) -> dict[str, Tensor]:
    """The tensors of a folder, mapped from its files. Arguments and errors as in `load_model`."""
    for name in (_SAFETENSORS, _PICKLED) if pickled else (_SAFETENSORS,):
        index = f"{name}.index.json"
        if os.path.lexists(folder / name):
            files = [name]
        elif os.path.lexists(folder / index):
            files = shard_names(inside(folder, index))
        else:
            continue
        tensors: dict[str, Tensor] = {}
        for file in files:
            path = inside(folder, file)
            loaded = read_tensor_file(path)
            tensors |= named_tensors(loaded, source=f"the file {str(path)!r}")
        return tensors
    kinds = f"{_SAFETENSORS} or {_PICKLED}" if pickled else _SAFETENSORS
    raise MasqclipError(f"the folder {str(folder)!r} holds no weights: it needs {kinds}")


def has_weights(folder: Path) -> bool:
    """Whether a folder holds weights under transformers' names."""
    return any(
        os.path.lexists(folder / f"{name}{index}")
        for name in (_SAFETENSORS, _PICKLED)
        for index in ("", ".index.json")
    )


def inside(folder: Path, name: str) -> Path:
    """A regular file of a folder.

    Links that lead out of it are followed into the hub's own cache only, which is made of them.

    Raises:
        MasqclipError: it is not there, is no regular file, or lies elsewhere.
    """
    path = folder / name
    try:
        real, home = path.resolve(strict=True), folder.resolve()
        regular = stat.S_ISREG(real.stat().st_mode)
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: a loop of links
        raise MasqclipError(f"there is no file {str(path)!r}: the folder is not whole") from error
    cached = home.parent.name == "snapshots" and real.is_relative_to(home.parent.parent / "blobs")
    if not real.is_relative_to(home) and not cached:
        raise MasqclipError(f"{str(path)!r} is a link out of its folder: put the file itself there")
    if not regular:
        raise MasqclipError(f"{str(path)!r} is no regular file: put the file itself there")
    return path


def check_fits(
    model_class: Any, config: Any, tensors: Mapping[str, Tensor], *, source: str
) -> set[str]:
    """Refuse a configuration of another model, or of one that is far larger than the weights.

    The model is described, not made: this takes neither memory nor time of the sizes in question.

    Args:
        model_class: of transformers.
        config: its configuration.
        tensors: the weights; names may be an earlier version's.
        source: what holds both, for the errors.

    Returns:
        The names of the tensors that the model consists of.

    Raises:
        MasqclipError: they do not go together; the message names the tensor.
    """
    if (layers := num_layers(config)) > len(tensors):
        raise MasqclipError(
            f"{source}: the configuration describes {layers} layers, and the weights are only "
            f"{len(tensors)} tensors"
        )
    try:
        with quiet_transformers(), torch.device("meta"):
            model = model_class(config)
    except Exception as error:
        raise _refusal(error, source) from error
    wanted = 0
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        wanted += tensor.numel()
        given = tensors.get(name)
        if given is not None and given.shape != tensor.shape:
            raise MasqclipError(
                f"{source}: the tensor {name!r} is {tuple(given.shape)}, and the configuration "
                f"asks for {tuple(tensor.shape)}"
            )
    held = sum(tensor.numel() for tensor in tensors.values())
    if wanted > _TIMES * held + _SLACK:
        raise MasqclipError(
            f"{source}: the configuration describes a model of {wanted:,} numbers, and the "
            f"weights are {held:,}"
        )
    return set(model.state_dict())


def _refusal(error: Exception, source: str) -> Exception:
    if isinstance(error, MasqclipError) or is_out_of_memory(error):
        return error
    return MasqclipError(f"{source} holds no such model: {error_line(error)}")
