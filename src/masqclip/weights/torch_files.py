"""What `torch.save` and `torch.jit.save` write, read without torch's unpickler.

- Since torch 1.6 such a file is a ZIP archive, whose entries are stored as they are: a pickle that
  describes tensors, and a file of numbers for each storage. Before, the same stood in a row.
- A TorchScript archive holds modules instead of a dictionary; its tensors are named by the
  attributes that lead to them, and its code is neither compiled nor run.
- A tensor must lie inside its storage, and a storage inside the file. (torch would make a storage
  larger until the tensor fits, with whatever is in memory there.)
- The numbers are mapped, not copied, and are private to the process.
"""

from __future__ import annotations

import math
import mmap
import zlib
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from masqclip.weights.arrays import Array, array_names
from masqclip.weights.budget import Budget
from masqclip.weights.pickle_machine import Function, Instance, PickleMachine
from masqclip.weights.zip_directory import Entry, stored_entries

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LOCAL_HEADER = b"PK\x03\x04"
_MAX_DIMENSIONS = 16
_MAX_ATTRIBUTES = 200_000
_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Module(Instance):
    """What any module of a TorchScript archive is read into: its attributes."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] | None = None

    def set_state(self, state: Any) -> None:
        """Take the attributes."""
        if self.attributes is not None or not isinstance(state, dict):
            raise UnpicklingError("it holds a module whose attributes are none")
        self.attributes = {key: entry for key, entry in state.items() if isinstance(key, str)}


class StoragePlace:
    """A storage of which only the place is known until the whole pickle is read (before 1.6)."""

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        self.dtype, self.count = dtype, count
        self.numbers: Tensor | None = None


class PendingTensor:
    """A tensor of a storage that comes later in the file."""

    def __init__(self, storage: StoragePlace, offset: Any, size: Any, stride: Any) -> None:
        self.storage, self.layout = storage, (offset, size, stride)


class TorchFile:
    """One file's bytes, and what its pickles may ask for.

    Args:
        content: all of the file, mapped.
    """

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self._view = memoryview(content)
        self._budget = Budget(len(content))
        self._read = Budget(len(content))  # of entries, which may lie upon each other
        self._storages: dict[str, Tensor] = {}
        self._places: dict[str, StoragePlace] = {}
        self._entries: dict[str, Entry] = {}
        self._root, self._checked = "", False
        self._names = array_names(self._budget) | _NAMES
        for version in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            self._names["torch._utils", version] = Function(self._tensor)

    def load(self) -> Any:
        """What the file holds, its arrays and tensors as tensors.

        Raises:
            pickle.UnpicklingError: it is damaged, or asks for anything but plain data.
        """
        if self._content[:4] == _LOCAL_HEADER:
            return self._load_archive()
        machine = PickleMachine(self._view, self._find)
        first = machine.load()
        return self._load_legacy(machine) if first == _LEGACY_MAGIC else _plain(first)

    # Archives

    def _load_archive(self) -> Any:
        self._entries = stored_entries(self._content)
        roots = [
            name for name in self._entries if name.count("/") == 1 and name.endswith("/data.pkl")
        ]
        if not roots:
            raise UnpicklingError("it is a ZIP archive without weights of PyTorch")
        self._root = roots[0].removesuffix("data.pkl")
        # A plain archive may have been written without checksums.
        self._checked = f"{self._root}constants.pkl" in self._entries
        order = self._entries.get(f"{self._root}byteorder")
        if order is not None and bytes(self._bytes(order)) != b"little":
            raise UnpicklingError("its numbers are in another order of bytes")
        pickled = self._bytes(self._entries[roots[0]])
        loaded = PickleMachine(pickled, self._find, self._archive_storage).load()
        return _named(loaded) if isinstance(loaded, Module) else _plain(loaded)

    def _archive_storage(self, reference: Any) -> Tensor:
        dtype, key, count = _reference(reference)
        if key not in self._storages:
            entry = self._entries.get(f"{self._root}data/{key}")
            if entry is None:
                raise UnpicklingError(f"there are no numbers of its storage {key[:40]!r}")
            self._read.spend(entry.length)
            self._bytes(entry)
            self._storages[key] = self._numbers(dtype, count, entry.start, entry.length)
        return self._storages[key]

    def _bytes(self, entry: Entry) -> memoryview:
        content = self._slice(entry.start, entry.length)
        if self._checked and zlib.crc32(content) != entry.checksum:
            raise UnpicklingError("the archive is damaged: a checksum is wrong")
        return content

    # Files from before torch 1.6: pickles, then the storages one after the other

    def _load_legacy(self, machine: PickleMachine) -> Any:
        def following(persistent: Any = None) -> Any:
            after = PickleMachine(self._view, self._find, persistent, start=machine.position)
            loaded = after.load()
            machine.position = after.position
            return loaded

        following()  # the protocol's version
        system = following()
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise UnpicklingError("its numbers are in another order of bytes")
        loaded = following(self._legacy_storage)
        keys = following()
        position = machine.position
        if not isinstance(keys, list):
            raise UnpicklingError("the file is damaged")
        for key in keys:
            place = self._places.get(key) if isinstance(key, str) else None
            if place is None or place.numbers is not None:
                raise UnpicklingError("the file is damaged")
            count = int.from_bytes(self._slice(position, 8), "little")
            if count != place.count:
                raise UnpicklingError("a storage is not as long as the file says elsewhere")
            length = count * place.dtype.itemsize
            place.numbers = self._numbers(place.dtype, count, position + 8, length)
            position += 8 + length
        return _plain(loaded)

    def _legacy_storage(self, reference: Any) -> StoragePlace:
        dtype, key, count = _reference(reference)
        return self._places.setdefault(key, StoragePlace(dtype, count))

    # What both have

    def _find(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":  # a class of a TorchScript archive's own code
            return Function(Module)
        try:
            return self._names[module, name]
        except KeyError:
            raise UnpicklingError(
                f"it asks for {f'{module}.{name}'[:200]!r}, which no plain weights need"
            ) from None

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
        if isinstance(storage, StoragePlace):
            _check_layout(storage.count, offset, size, stride)
            self._budget.spend(math.prod(size) * storage.dtype.itemsize)
            return PendingTensor(storage, offset, size, stride)
        if not isinstance(storage, Tensor) or storage.ndim != 1:
            raise UnpicklingError("it holds a tensor without a storage")
        _check_layout(len(storage), offset, size, stride)
        self._budget.spend(math.prod(size) * storage.itemsize)
        return torch.as_strided(storage, size, stride, offset)

    def _slice(self, start: int, length: int) -> memoryview:
        if not 0 <= start <= start + length <= len(self._view):
            raise UnpicklingError("the file ends early")
        return self._view[start : start + length]

    def _numbers(self, dtype: torch.dtype, count: int, start: int, length: int) -> Tensor:
        if count * dtype.itemsize != length:
            raise UnpicklingError(
                f"a storage of {count} numbers has {length} bytes, not {count * dtype.itemsize}"
            )
        if count == 0:
            return torch.empty(0, dtype=dtype)
        self._slice(start, length)
        raw = torch.frombuffer(self._content, dtype=torch.uint8, count=length, offset=start)
        return (raw.clone() if start % dtype.itemsize else raw).view(dtype)


def _reference(reference: Any) -> tuple[torch.dtype, str, int]:
    """A storage's kind, key and length, from a persistent id."""
    if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
        raise UnpicklingError("it refers to what is not in the file")
    _, dtype, key, _, count = reference[:5]
    if not isinstance(dtype, torch.dtype) or type(count) is not int or count < 0:
        raise UnpicklingError("it holds a storage of no plain numbers")
    if len(reference) > 5 and reference[5] is not None:
        raise UnpicklingError("it holds a view of a storage, which torch no longer writes")
    return dtype, str(key) if isinstance(key, (str, int)) else "", count


def _check_layout(count: int, offset: Any, size: Any, stride: Any) -> None:
    """Refuse a tensor that reaches out of a storage of `count` numbers."""
    if not isinstance(size, tuple) or not isinstance(stride, tuple) or type(offset) is not int:
        raise UnpicklingError("it holds a tensor whose layout is none")
    if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS or offset < 0:
        raise UnpicklingError("it holds a tensor whose layout is none")
    if not all(type(value) is int and value >= 0 for value in (*size, *stride)):
        raise UnpicklingError("it holds a tensor whose layout is none")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if (0 not in size and last >= count) or max((*size, *stride, 0)) >= 2**60:
        raise UnpicklingError(f"a tensor of {size} reaches out of its storage of {count} numbers")


def _plain(loaded: Any) -> Any:
    """A file's dictionary, and those in it, with tensors for what stands for them."""
    if not isinstance(loaded, dict):
        return None
    copies: dict[int, dict[Any, Any]] = {}  # one table may be an entry under many names

    def entry_of(value: Any) -> Any:
        if not isinstance(value, dict):
            return _tensor_of(value)
        if id(value) not in copies:
            copies[id(value)] = {name: _tensor_of(part) for name, part in value.items()}
        return copies[id(value)]

    return {key: entry_of(value) for key, value in loaded.items()}


def _tensor_of(value: Any) -> Any:
    if isinstance(value, Array):
        return value.tensor
    if isinstance(value, PendingTensor):
        if value.storage.numbers is None:
            raise UnpicklingError("there are no numbers of a storage")
        offset, size, stride = value.layout
        return torch.as_strided(value.storage.numbers, size, stride, offset)
    return value


def _named(module: Module) -> dict[str, Tensor]:
    """A module's tensors by the path of attributes to them, in the order of the archive."""
    tensors: dict[str, Tensor] = {}
    left = _MAX_ATTRIBUTES
    pending: list[tuple[str, Any]] = [("", module)]
    while pending:
        name, value = pending.pop()
        if isinstance(value, Module):
            attributes = value.attributes or {}
            # A module may be an attribute of many, and of itself.
            left -= len(attributes) + len(name)
            if left < 0:
                raise UnpicklingError("its modules hold each other without an end")
            prefix = f"{name}." if name else ""
            pending.extend((prefix + key, entry) for key, entry in reversed(attributes.items()))
        elif isinstance(value, Tensor):
            tensors[name] = value
    return tensors


def _new_dict(items: Any = (), *_: Any) -> dict[Any, Any]:
    if not isinstance(items, (list, tuple)) or items:
        raise UnpicklingError("it makes a dictionary in a way that pickles of weights do not")
    return {}


def _counts(counts: Any = None, *_: Any) -> dict[Any, Any]:
    return counts if isinstance(counts, dict) else {}


def _first(value: Any = None, *_: Any) -> Any:
    return value


def _size(size: Any = ()) -> tuple[Any, ...]:
    return tuple(size) if isinstance(size, (list, tuple)) else ()


def _ignored(*_: Any) -> None:
    """What stands beside weights and says nothing of them."""


_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Function(_new_dict),
    ("collections", "Counter"): Function(_counts),
    ("torch", "Size"): Function(_size),
    ("torch", "device"): Function(_ignored),
    ("torch._utils", "_rebuild_parameter"): Function(_first),
    ("torch._utils", "_rebuild_parameter_with_state"): Function(_first),
    ("torch.jit._pickle", "restore_type_tag"): Function(_first),
}
_NAMES |= {("torch", name): dtype for name, dtype in _STORAGES.items()}
_NAMES |= {
    ("torch.jit._pickle", f"build_{kind}list"): Function(_first)
    for kind in ("int", "tensor", "double", "bool")
}
_NAMES |= {("torch", str(dtype).removeprefix("torch.")): None for dtype in {*_STORAGES.values()}}
