"""A machine for pickles that builds plain data, and nothing else.

A pickle is a program. Python's own machine imports what it names, calls it, and writes into any
object that it finds; even with a table of allowed names, a real class in that table can be given a
state that its author never meant (a NumPy dtype whose size changes under an array that uses it).

This machine knows numbers, text, bytes and containers. Whatever else a file names is one of the
caller's own stand-ins (`Function`, `Instance`), which check what they are given; there is no other
call, no attribute, no import. Its work is bounded: a file can neither ask for memory that it does
not fill nor for steps that it does not hold.
"""

from __future__ import annotations

import ast
import pickle
import struct
from collections.abc import Callable
from typing import Any

from masqclip.weights.budget import Budget

#: Steps in one pickle. The largest models of this field, with their optimizers, take some 100,000.
MAX_STEPS = 1_000_000
_MAX_INTEGER_BYTES = 16
_MAX_LINE = 65_536
_USUAL_LINE = 128
_LARGEST_KEY = 2**32
_REFERENCE_BYTES = 8


class Function:
    """A name that a file may call: what is run is ours.

    Args:
        call: takes the file's arguments, and checks them.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self.call = call


class Instance:
    """What a file's object becomes; it may be given one state, once."""

    def set_state(self, state: Any) -> None:
        """Take the state that the file gives, or refuse it.

        Raises:
            pickle.UnpicklingError: it is not of the right kind.
        """
        raise NotImplementedError


class PickleMachine:
    """Runs one pickle.

    Args:
        data: what holds the pickle.
        find: a name of the file's, as module and name, to one of our stand-ins; it raises
            `pickle.UnpicklingError` for a name that it does not know.
        persistent: answers the file's references to what lies outside of the pickle.
        start: where in `data` the pickle begins.
    """

    def __init__(
        self,
        data: memoryview | bytes,
        find: Callable[[str, str], Any],
        persistent: Callable[[Any], Any] | None = None,
        *,
        start: int = 0,
    ) -> None:
        self.position = start
        self._data = memoryview(data)
        self._find = find
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._budget = Budget(len(self._data))

    def load(self) -> Any:
        """The object that the pickle describes; `position` is then behind it.

        Raises:
            pickle.UnpicklingError: it is no pickle, is cut short, or asks for anything but data.
        """
        try:
            for _ in range(MAX_STEPS):
                code = self._read(1)[0]
                if code == pickle.STOP[0]:
                    return self._stack.pop()
                step = _STEPS.get(code)
                if step is None:
                    raise pickle.UnpicklingError(f"no plain data: the instruction {code:#04x}")
                step(self)
        except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
            raise pickle.UnpicklingError("the file is damaged, or no pickle") from error
        raise pickle.UnpicklingError(f"no weights: more than {MAX_STEPS:,} steps")

    # Reading

    def _read(self, size: int) -> bytes:
        end = self.position + size
        if size < 0 or end > len(self._data):
            raise pickle.UnpicklingError("the file ends early")
        content = bytes(self._data[self.position : end])
        self.position = end
        return content

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._read(struct.calcsize(form)))[0]

    def _line(self) -> str:
        window = bytes(self._data[self.position : self.position + _USUAL_LINE])
        if b"\n" not in window:
            window = bytes(self._data[self.position : self.position + _MAX_LINE])
        line = window[: window.index(b"\n")]
        self.position += len(line) + 1
        return line.decode("latin-1").removesuffix("\r")

    def _sized(self, form: str) -> bytes:
        return self._read(self._number(form))

    # The stack

    def push(self, value: Any) -> None:
        """Lay a value on the stack."""
        self._stack.append(value)

    def _pop_to_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._marks.pop()
        return items

    def _mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _pop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_to_mark()

    def _remember(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def _tuple(self, size: int) -> None:
        if len(self._stack) < size:
            raise pickle.UnpicklingError("the file is damaged, or no pickle")
        split = len(self._stack) - size
        self._stack[split:] = [tuple(self._stack[split:])]

    # What changes an object

    def _append(self, items: list[Any]) -> None:
        _exactly(self._stack[-1], list).extend(items)

    def _set_items(self, items: list[Any]) -> None:
        table = _exactly(self._stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            table[_scalar(key)] = value

    def _add_items(self, items: list[Any]) -> None:
        _exactly(self._stack[-1], set).update(_scalar(item) for item in items)

    def _build(self) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        self._budget.spend(_bytes(state))
        if isinstance(target, Instance):
            target.set_state(state)
        elif type(target) is not dict:  # a dictionary's attributes, such as torch's _metadata
            raise pickle.UnpicklingError(f"it gives a {type(target).__name__} a state")

    def _reduce(self) -> None:
        arguments = _exactly(self._stack.pop(), tuple)
        # A call may copy what it is given, and a file may give the same large value often.
        self._budget.spend(_bytes(arguments))
        self._budget.spend(sum(map(_bytes, arguments)))
        self.push(_exactly(self._stack.pop(), Function).call(*arguments))

    def _new_with_keywords(self) -> None:
        if _exactly(self._stack.pop(), dict):
            raise pickle.UnpicklingError("no plain data: a call with keywords")
        self._reduce()

    def _global(self) -> None:
        module = self._line()
        self.push(self._find(module, self._line()))

    def _stack_global(self) -> None:
        name, module = _exactly(self._stack.pop(), str), _exactly(self._stack.pop(), str)
        self._budget.spend(len(module) + len(name))
        self.push(self._find(module, name))

    def _outside(self, reference: Any) -> None:
        if self._persistent is None:
            raise pickle.UnpicklingError("it refers to what is not in the file")
        self.push(self._persistent(reference))

    # Texts of the first protocols

    def _integer_line(self) -> None:
        line = self._line()
        if line in ("00", "01"):
            self.push(line == "01")
        else:
            self.push(_integer(line.removesuffix("L")))

    def _string_line(self) -> None:
        quoted = self._line()
        if len(quoted) < 2 or quoted[0] not in "'\"" or quoted[-1] != quoted[0]:
            raise pickle.UnpicklingError("the file is damaged, or no pickle")
        text = ast.literal_eval(f"b{quoted}")
        self.push(_exactly(text, bytes).decode("latin-1"))


def _exactly(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise pickle.UnpicklingError(
            f"the file is damaged: a {type(value).__name__} where a {kind.__name__} belongs"
        )
    return value


def _bytes(value: Any) -> int:
    """What a copy of a value takes, without what its entries refer to."""
    if isinstance(value, (str, bytes)):
        return len(value)
    return _REFERENCE_BYTES * len(value) if isinstance(value, (list, tuple, dict)) else 0


def _scalar(key: Any) -> Any:
    """A key that costs little: the hash of a nested tuple can take longer than the file is long,
    and a table of numbers that were chosen to collide is as slow as a list."""
    if isinstance(key, (str, bytes)) or key is None:
        return key
    if isinstance(key, int) and abs(key) < _LARGEST_KEY:
        return key
    raise pickle.UnpicklingError(f"no weights: a {type(key).__name__} as a key")


def _integer(text: str) -> int:
    if len(text) > 40:
        raise pickle.UnpicklingError("no weights: a number of too many digits")
    return int(text)


def _long(content: bytes) -> int:
    if len(content) > _MAX_INTEGER_BYTES:
        raise pickle.UnpicklingError("no weights: a number of too many digits")
    return int.from_bytes(content, "little", signed=True)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")


# What each instruction does. Python 2's strings hold bytes: they are read as Latin-1.
_STEPS: dict[int, Callable[[PickleMachine], None]] = {
    code[0]: step
    for code, step in {
        pickle.PROTO: lambda m: m._read(1),
        pickle.FRAME: lambda m: m._read(8),
        pickle.MARK: lambda m: m._mark(),
        pickle.POP: lambda m: m._pop(),
        pickle.POP_MARK: lambda m: m._pop_to_mark(),
        pickle.DUP: lambda m: m.push(m._stack[-1]),
        pickle.NONE: lambda m: m.push(None),
        pickle.NEWTRUE: lambda m: m.push(True),
        pickle.NEWFALSE: lambda m: m.push(False),
        pickle.INT: lambda m: m._integer_line(),
        pickle.LONG: lambda m: m._integer_line(),
        pickle.BININT: lambda m: m.push(m._number("<i")),
        pickle.BININT1: lambda m: m.push(m._number("<B")),
        pickle.BININT2: lambda m: m.push(m._number("<H")),
        pickle.LONG1: lambda m: m.push(_long(m._sized("<B"))),
        pickle.LONG4: lambda m: m.push(_long(m._sized("<i"))),
        pickle.FLOAT: lambda m: m.push(float(m._line())),
        pickle.BINFLOAT: lambda m: m.push(m._number(">d")),
        pickle.STRING: lambda m: m._string_line(),
        pickle.BINSTRING: lambda m: m.push(m._sized("<i").decode("latin-1")),
        pickle.SHORT_BINSTRING: lambda m: m.push(m._sized("<B").decode("latin-1")),
        pickle.UNICODE: lambda m: m.push(m._line().encode("latin-1").decode("raw-unicode-escape")),
        pickle.SHORT_BINUNICODE: lambda m: m.push(_text(m._sized("<B"))),
        pickle.BINUNICODE: lambda m: m.push(_text(m._sized("<I"))),
        pickle.BINUNICODE8: lambda m: m.push(_text(m._sized("<Q"))),
        pickle.SHORT_BINBYTES: lambda m: m.push(m._sized("<B")),
        pickle.BINBYTES: lambda m: m.push(m._sized("<I")),
        pickle.BINBYTES8: lambda m: m.push(m._sized("<Q")),
        pickle.BYTEARRAY8: lambda m: m.push(m._sized("<Q")),
        pickle.EMPTY_TUPLE: lambda m: m.push(()),
        pickle.TUPLE1: lambda m: m._tuple(1),
        pickle.TUPLE2: lambda m: m._tuple(2),
        pickle.TUPLE3: lambda m: m._tuple(3),
        pickle.TUPLE: lambda m: m.push(tuple(m._pop_to_mark())),
        pickle.EMPTY_LIST: lambda m: m.push([]),
        pickle.LIST: lambda m: m.push(m._pop_to_mark()),
        pickle.EMPTY_DICT: lambda m: m.push({}),
        pickle.DICT: lambda m: _new_dict(m),
        pickle.EMPTY_SET: lambda m: m.push(set()),
        pickle.FROZENSET: lambda m: m.push(frozenset(map(_scalar, m._pop_to_mark()))),
        pickle.APPEND: lambda m: m._append([m._stack.pop()]),
        pickle.APPENDS: lambda m: m._append(m._pop_to_mark()),
        pickle.SETITEM: lambda m: m._set_items([m._stack.pop() for _ in "kv"][::-1]),
        pickle.SETITEMS: lambda m: m._set_items(m._pop_to_mark()),
        pickle.ADDITEMS: lambda m: m._add_items(m._pop_to_mark()),
        pickle.PUT: lambda m: m._remember(_integer(m._line())),
        pickle.BINPUT: lambda m: m._remember(m._number("<B")),
        pickle.LONG_BINPUT: lambda m: m._remember(m._number("<I")),
        pickle.MEMOIZE: lambda m: m._remember(len(m._memo)),
        pickle.GET: lambda m: m.push(m._memo[_integer(m._line())]),
        pickle.BINGET: lambda m: m.push(m._memo[m._number("<B")]),
        pickle.LONG_BINGET: lambda m: m.push(m._memo[m._number("<I")]),
        pickle.GLOBAL: lambda m: m._global(),
        pickle.STACK_GLOBAL: lambda m: m._stack_global(),
        pickle.REDUCE: lambda m: m._reduce(),
        pickle.NEWOBJ: lambda m: m._reduce(),
        pickle.NEWOBJ_EX: lambda m: m._new_with_keywords(),
        pickle.BUILD: lambda m: m._build(),
        pickle.PERSID: lambda m: m._outside(m._line()),
        pickle.BINPERSID: lambda m: m._outside(m._stack.pop()),
    }.items()
}


def _new_dict(machine: PickleMachine) -> None:
    items = machine._pop_to_mark()
    machine.push({})
    machine._set_items(items)
