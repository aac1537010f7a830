"""Tables of key rules, applied: every tensor of a checkpoint under another library's name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from masqclip.errors import MasqclipError

StateDict = dict[str, Tensor]

_MOST_LAYERS = 1_000

#: Stands in a rule's target for a stacked query, key and value, which are three tensors there.
QKV = "{qkv}"


def linear(source: str, target: str) -> dict[str, str]:
    """The two rules of a layer that has a weight and a bias."""
    return {f"{source}.{part}": f"{target}.{part}" for part in ("weight", "bias")}


def below(source: str, rules: Mapping[str, str], target: str) -> dict[str, str]:
    """Rules moved below a prefix on either side."""
    return {f"{source}{name}": f"{target}{renamed}" for name, renamed in rules.items()}


def count(names: Iterable[str], pattern: str) -> int:
    """One more than the highest number that `pattern`, with one group, finds at a name's start.

    Raises:
        MasqclipError: a number is higher than any model's.
    """
    found = re.compile(pattern)
    highest = -1
    for name in names:
        if match := found.match(name):
            number = int(match[1][:10])
            if number >= _MOST_LAYERS:
                raise MasqclipError(
                    f"the tensor {name[:80]!r} would make more than {_MOST_LAYERS} layers, as no "
                    "model has"
                )
            highest = max(highest, number)
    return 1 + highest


def rename(
    tensors: Mapping[str, Tensor], table: Mapping[str, str], *, what: str, prefix: str = ""
) -> StateDict:
    """All tensors under their new names, in the table's order.

    Args:
        tensors: by their old names; not changed.
        table: old name -> new name; all of them must be there, and nothing else. A new name with
            `QKV` in it takes a third of the tensor for each of ``q``, ``k`` and ``v``.
        what: what the checkpoint should be, for the errors: ``"a CLIP in OpenAI's format"``.
        prefix: what stands before the names in the file, for the errors.

    Raises:
        MasqclipError: a tensor without a rule, or a rule without its tensor, the first by name.
    """
    if unknown := sorted(tensors.keys() - table.keys()):
        raise MasqclipError(f"not {what}: unknown tensor '{prefix}{unknown[0]}'")
    if absent := [name for name in table if name not in tensors]:
        name = f"{prefix}{absent[0]}"
        raise MasqclipError(f"not {what}, or cut short: there is no tensor {name!r}")
    renamed: StateDict = {}
    for source, target in table.items():
        if QKV in target:
            # Copies, because safetensors refuses tensors that share memory.
            for letter, part in zip("qkv", tensors[source].chunk(3), strict=True):
                renamed[target.replace(QKV, letter)] = part.clone()
        else:
            renamed[target] = tensors[source]
    return renamed


def in_float32(weights: Mapping[str, Tensor]) -> StateDict:
    """The same weights, fractions in float32, each in memory of its own (safetensors asks that)."""
    converted: StateDict = {}
    for name, tensor in weights.items():
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        part = tensor.untyped_storage().nbytes() > tensor.nbytes
        converted[name] = tensor.clone() if part else tensor.contiguous()
    return converted
