"""ONNX files of anybody's, looked at before a runtime is given them.

An ONNX file is no program, but nearly: it can loop without end, and its weights can lie in any
file that it names. Graphs of this package need neither. Here the file is walked once, field by
field (it is a protocol buffer: onnx.proto of the ONNX project has the numbers), and refused unless

- all its operators are of the standard domain, and none of them runs a graph of its own;
- it defines no functions;
- weights that lie outside of it lie in a file that the folder's settings name, within its bytes.

What a graph may cost in memory is bounded where it is run (`sessions.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from masqclip.errors import MasqclipError

# Operators of the standard domain that hold graphs, and text or sequences, which are not needed.
_REFUSED = frozenset({"If", "Loop", "Scan", "SequenceMap"})
_STANDARD = (b"", b"ai.onnx")
_DEEPEST = 16  # attributes within graphs within attributes; ours have two levels

# Fields by message, as onnx.proto numbers them.
_MODEL_GRAPH, _MODEL_FUNCTIONS, _MODEL_OPSETS = 7, 25, 8
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 22, 23
_TENSOR_EXTERNAL = 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_OPSET_DOMAIN = 1

# Wire types: a number, eight bytes, bytes of a length, four bytes.
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5


def check_graph(content: bytes, *, source: str, external: Mapping[str, int]) -> None:
    """Refuse an ONNX file that is damaged, or that could do more than compute.

    Args:
        content: the file.
        source: what it is called in errors.
        external: the files in which its weights may lie, and their bytes.

    Raises:
        MasqclipError: it is so.
    """
    try:
        _check_model(memoryview(content), external)
    except MasqclipError as error:
        raise MasqclipError(f"{source} cannot be run: {error}") from None
    except (IndexError, ValueError, UnicodeDecodeError):
        raise MasqclipError(f"{source} is damaged, or cut short: copy or export it anew") from None


def _check_model(model: memoryview, external: Mapping[str, int]) -> None:
    graphs = 0
    for number, value in _fields(model):
        if number == _MODEL_GRAPH:
            graphs += 1
            _check_graph(_message(value), external, 0)
        elif number == _MODEL_FUNCTIONS:
            raise MasqclipError("it defines functions of its own")
        elif number == _MODEL_OPSETS:
            for inner, domain in _fields(_message(value)):
                if inner == _OPSET_DOMAIN and bytes(_message(domain)) not in _STANDARD:
                    raise MasqclipError(f"it uses operators of {_shown(domain)}")
    if graphs != 1:
        raise ValueError("no graph")


def _check_graph(graph: memoryview, external: Mapping[str, int], depth: int) -> None:
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            _check_node(_message(value), external, depth)
        elif number == _GRAPH_INITIALIZER:
            _check_tensor(_message(value), external)
        elif number == _GRAPH_SPARSE:
            raise MasqclipError("it has sparse weights")


def _check_node(node: memoryview, external: Mapping[str, int], depth: int) -> None:
    for number, value in _fields(node):
        if number == _NODE_TYPE and _shown(value) in _REFUSED:
            raise MasqclipError(f"it has the operator {_shown(value)}, which runs a graph")
        if number == _NODE_DOMAIN and bytes(_message(value)) not in _STANDARD:
            raise MasqclipError(f"it uses operators of {_shown(value)}")
        if number == _NODE_ATTRIBUTE:
            _check_attribute(_message(value), external, depth + 1)


def _check_attribute(attribute: memoryview, external: Mapping[str, int], depth: int) -> None:
    if depth > _DEEPEST:
        raise MasqclipError("it is nested too deeply")
    for number, value in _fields(attribute):
        if number in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
            _check_tensor(_message(value), external)
        elif number in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
            raise MasqclipError("an operator of it runs a graph")
        elif number in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
            raise MasqclipError("it has sparse weights")


def _check_tensor(tensor: memoryview, external: Mapping[str, int]) -> None:
    where: dict[str, str] = {}
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL:
            entry = {
                inner: bytes(_message(text)).decode() for inner, text in _fields(_message(value))
            }
            key = entry.get(_ENTRY_KEY, "")
            if key in where:
                raise ValueError("a key stands twice")
            where[key] = entry.get(_ENTRY_VALUE, "")
    if not where:
        return
    name = where.get("location", "")
    if name not in external:
        raise MasqclipError(f"its weights lie in {name[:60]!r}, which its settings do not name")
    start, length = int(where.get("offset", "0")), int(where.get("length", "0"))
    if start < 0 or length < 0 or start + length > external[name]:
        raise MasqclipError(f"weights of it lie behind the end of {name[:60]!r}")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: their numbers, and what they hold.

    Raises:
        ValueError, IndexError: it is none.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(message, at)
            yield number, value
        elif wire == _LENGTH:
            length, at = _varint(message, at)
            if length > end - at:
                raise ValueError("cut short")
            yield number, message[at : at + length]
            at += length
        elif wire in (_EIGHT, _FOUR):
            at += 8 if wire == _EIGHT else 4
            if at > end:
                raise ValueError("cut short")
        else:
            raise ValueError("no wire type")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number too long")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number in the place of a message")
    return value


def _shown(value: int | memoryview) -> str:
    return bytes(_message(value)[:60]).decode("utf-8", "replace")
