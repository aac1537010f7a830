"""YAML of anybody's: mappings, lists and texts, and every way to be broken in one line.

Plain words stay what they are: a class called ``no`` or ``1e3`` is no truth and no number. Anchors
are refused, because a file of a few lines can stand for more than any memory holds.
"""

from __future__ import annotations

from masqclip.errors import MasqclipError

#: Levels of lists in mappings in lists.
MAX_DEPTH = 20


def parse_yaml(text: str, *, source: str) -> object:
    """The one document of a YAML text: dicts, lists, strings, and None for what is left empty.

    Args:
        text: as it was decoded.
        source: what it is called in errors.

    Raises:
        MasqclipError: it is no YAML, holds anchors or several documents, is nested too deeply, or
            a key stands twice.
    """
    import yaml  # comes with transformers

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    # Events, one by one: what builds documents of them here is no recursion, and makes no objects
    # of anybody's types.
    open_ones: list[list[object]] = [[]]
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.AliasEvent):
                raise MasqclipError(f"{source}: no usable YAML: write *{event.anchor} out")
            if isinstance(event, yaml.ScalarEvent):
                open_ones[-1].append(_scalar(event.value, plain=not event.style))
            elif isinstance(event, yaml.CollectionStartEvent):
                open_ones.append([])
                if len(open_ones) > MAX_DEPTH:
                    raise MasqclipError(f"{source}: no usable YAML: it is nested too deeply")
            elif isinstance(event, yaml.SequenceEndEvent):
                items = open_ones.pop()
                open_ones[-1].append(items)
            elif isinstance(event, yaml.MappingEndEvent):
                items = open_ones.pop()
                open_ones[-1].append(_mapping(items, source))
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, MasqclipError):
            raise
        raise MasqclipError(f"{source} is no valid YAML: {_told(error)}") from error
    documents = open_ones[0]
    if len(documents) > 1:
        raise MasqclipError(f"{source} holds {len(documents)} YAML documents: keep one of them")
    return documents[0] if documents else None


def _scalar(value: str, *, plain: bool) -> str | None:
    return None if plain and value.lower() in ("", "~", "null") else value


def _mapping(items: list[object], source: str) -> dict[object, object]:
    """Keys and values, which stand one after the other."""
    mapping: dict[object, object] = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | None):
            raise MasqclipError(f"{source}: no usable YAML: a key is a list or a mapping")
        if key in mapping:
            raise MasqclipError(f"{source}: the key {str(key)[:60]!r} stands twice in one mapping")
        mapping[key] = value
    return mapping


def _told(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or str(error)
    where = "" if mark is None else f"line {mark.line + 1}: "
    return where + " ".join(str(reason).split())[:200]
