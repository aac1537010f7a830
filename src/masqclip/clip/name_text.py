"""Names in plain text: a list on one line, or a class a line with its synonyms.

- On one line names stand between commas or, where there is none, between semicolons or tabs; what
  is empty between two of them is no name. Quotes keep a comma, and anything else that would be
  read, in a name: ``"traffic light, red", car``.
- Of several lines each is a class: synonyms after commas or, where the name itself is not to be
  read by CLIP, ``name = prompt; prompt``. A line that ends in a comma is no class but goes on, if
  all but the last do.
- ``animal > dog, cat`` are names, dog and cat, and what they are kinds of. On one line, such groups
  stand between semicolons, beside them lists of names: ``sky, road; animal > dog, cat``.
- ``#`` at the start of a line or after a blank begins a comment, blank lines are skipped.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice

from masqclip.clip.name_items import NamedItem, is_marker, read_labels, read_name, tidy
from masqclip.clip.name_limits import NameLimits, shown, too_many
from masqclip.errors import MasqclipError

# Where `str.splitlines` ends a line.
_LINE_ENDS = frozenset("\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
# The comma, and those of East Asian keyboards.
_COMMAS = ",\uff0c\u3001"
# A quoted name, with `stuff:` or `thing:` before it or not; or all up to the next comma.
# Possessive, so that no text makes them go back.
_QUOTED = rf'((?:(?:stuff|thing):\s*+)?+)"((?:[^"]|"")*+)"(?=\s*+(?:[{_COMMAS}]|$))'
_PIECE = re.compile(rf"(?i:{_QUOTED})|[^{_COMMAS}\s][^{_COMMAS}]*+")
_WHOLE = re.compile(rf"\s*+(?i:{_QUOTED})\s*+")
# The dots of "car. tire." and "car . tire" part names; the one of "St. Bernard" does not.
_DOTTED = re.compile(r"(?:\w{3}|\s)\.\s|\.$")
_DOTS = re.compile(r"\.(?:\s+|$)")
# What parts names where no comma does: lists are copied from tables.
_OTHER_COMMAS = re.compile("[;\uff1b\t]")
# What is left of it is above what is right of it.
_ARROW = re.compile(r"\s>\s")
_NUMBERED = re.compile(r"(\d{1,6})(\s*(?:[:,)\t]|\.(?!\d))\s*|\s+)(?=\S)(.*)")
# A line of the ``labelmap.txt`` that CVAT writes: name, colour, parts, actions.
_COLOURED = re.compile(r"([^:]+):\d{1,3},\d{1,3},\d{1,3}:[^:]*:[^:]*")


def split_list(text: str, *, what: str, limits: NameLimits) -> list[str]:
    """The names of a list on one line, as they stand there; of nothing, none.

    Args:
        text: names between commas or, without any, between semicolons or tabs, or all of them
            ending in dots ("car. tire.").
        what: what holds them, for the error.
        limits: how many there may be.

    Raises:
        MasqclipError: there are more.
    """
    text = text.strip()
    plain = not re.search('["=]', text) and not re.search(f"[{_COMMAS}]", text)
    mark = next((m for m in (_OTHER_COMMAS, _DOTTED) if plain and m.search(text)), None)
    if mark is not None:
        between = mark if mark is _OTHER_COMMAS else _DOTS
        pieces = between.split(text, maxsplit=limits.names + 1)
        names = [stripped for piece in pieces if (stripped := piece.strip())]
    else:
        found = islice(_PIECE.finditer(text), limits.names + 1)
        names = [name for match in found if (name := _unquoted(match))]
    if len(names) > limits.names:
        raise too_many(what, limits.names)
    return names


def has_groups(text: str) -> bool:
    """Whether a text says what names are kinds of."""
    return ">" in text and bool(_ARROW.search(_bare(text)))


def _bare(text: str) -> str:
    """A text with nothing to be read in the place of what stands in quotes."""
    return re.sub(r'"[^"]*+"', lambda quoted: "_" * len(quoted[0]), text) if '"' in text else text


def _cut(text: str, mark: re.Pattern[str]) -> list[str]:
    """The pieces of a text between marks that are not in quotes."""
    pieces, start = [], 0
    for found in mark.finditer(_bare(text)):
        pieces.append(text[start : found.start()])
        start = found.end()
    return [*pieces, text[start:]]


def has_lines(text: str) -> bool:
    """Whether a text is more than one line."""
    return not _LINE_ENDS.isdisjoint(text)


def unquote(text: str) -> str:
    """A name without the quotes around it, if it has them."""
    match = _WHOLE.fullmatch(text) if '"' in text else None
    return text if match is None else _unquoted(match)


def _unquoted(match: re.Match[str]) -> str:
    if match[2] is None:
        return match[0].rstrip()
    return match[1] + match[2].replace('""', '"')


def read_text(text: str, *, source: str, limits: NameLimits) -> list[NamedItem]:
    """The classes of a text of one or several lines.

    Args:
        text: as above.
        source: what it is called in errors.
        limits: how much there may be.

    Raises:
        MasqclipError: a line cannot be read, there is none, or there are too many.
    """
    lines = content_lines(text, source=source, limits=limits)
    if not lines:
        raise MasqclipError(f"{source} holds no name: write one name a line")
    if any(has_groups(line) for _, line in lines):
        if len(lines) == 1:
            lines = _grouped(lines[0][1], source=source, limits=limits)
        return _read_lines(lines, source=source, limits=limits)
    if all(_COLOURED.fullmatch(line) for _, line in lines):
        return read_labels([line.partition(":")[0] for _, line in lines], source, limits)
    wrapped = all(line.endswith(tuple(_COMMAS)) for _, line in lines[:-1])
    if wrapped and not any("=" in line for _, line in lines):
        whole = " ".join(line for _, line in lines)
        names = split_list(whole, what=f"names of {source}", limits=limits)
        if not names:
            raise MasqclipError(f"{source} holds no name: write one name a line")
        return [read_name(name, what=f"a name of {source}", limits=limits) for name in names]
    return _read_lines(_without_numbers(lines), source=source, limits=limits)


def _grouped(line: str, *, source: str, limits: NameLimits) -> list[tuple[int, str]]:
    """A line for each group of one line, and for each name of the lists that stand beside them."""
    lines = []
    for part in _cut(line, _OTHER_COMMAS):
        if has_groups(part) or "=" in _bare(part):
            lines.append((1, part))
        else:
            names = islice(_PIECE.finditer(part), limits.names + 1)
            lines += [(1, name[0].rstrip()) for name in names]
    if len(lines) > limits.names:
        raise too_many(f"names of {source}", limits.names)
    return lines


def read_plain_lines(text: str, *, source: str, limits: NameLimits) -> list[NamedItem]:
    """The classes of a text whose lines hold a name and nothing else, as Darknet's ``.names``.

    Raises:
        MasqclipError: as `read_text` says.
    """
    lines = content_lines(text, source=source, limits=limits)
    if len(lines) <= 1:
        return read_text(text, source=source, limits=limits)
    if len(lines) > limits.names:
        raise too_many(f"names of {source}", limits.names)
    return [
        read_name(unquote(line), what=f"the name in line {number} of {source}", limits=limits)
        for number, line in lines
    ]


def content_lines(text: str, *, source: str, limits: NameLimits) -> list[tuple[int, str]]:
    """The lines that are no blanks, comments or marks of tools, each with its number, from 1.

    Raises:
        MasqclipError: there are too many, blank ones included.
    """
    ends = sum(text.count(end) for end in _LINE_ENDS) - text.count("\r\n")
    if ends > limits.lines:
        raise too_many(f"the lines of {source}", limits.lines)
    lines = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        written = (re.sub(r"(^|\s)#.*", "", line) if "#" in line else line).strip()
        if written and not is_marker(written):
            lines.append((number, written))
    return lines


def _without_numbers(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Lines such as ``0 cat``, ``1 dog`` without their numbers, if these only count them."""
    found = [_NUMBERED.fullmatch(line) for _, line in lines]
    matches = [match for match in found if match is not None]
    if len(matches) < max(2, len(lines)):
        return lines
    first = int(matches[0][1])
    counted = [int(match[1]) for match in matches] == list(range(first, first + len(lines)))
    # "1 euro" and "2 euro" count something else.
    marked = first == 0 or all(match[2].strip(" ") for match in matches)
    if first not in (0, 1) or not counted or not marked:
        return lines
    return [(number, match[3]) for (number, _), match in zip(lines, matches, strict=True)]


def _read_lines(
    lines: list[tuple[int, str]], *, source: str, limits: NameLimits
) -> list[NamedItem]:
    items: list[NamedItem] = []
    left = limits.prompts
    own: tuple[str, ...]
    for number, line in lines:
        where = f"a name in line {number} of {source}"
        *path, line = _cut(line, _ARROW)
        above = tuple(read_name(unquote(n), what=where, limits=limits).name for n in path)
        if listed := next((n for n in path if re.search(f"[{_COMMAS}]", _bare(n))), None):
            raise MasqclipError(
                f"line {number} of {source}: {shown(listed.strip())} before a > is a list: put "
                "what is no kind of anything on a line of its own, or before a semicolon"
            )
        if above and "=" not in _bare(line):
            pieces = [_unquoted(match) for match in islice(_PIECE.finditer(line), left + 1)]
            if not pieces:
                raise MasqclipError(f"line {number} of {source} says nothing that is a {above[-1]}")
            children = [read_name(piece, what=where, limits=limits) for piece in pieces]
            items += [replace(child, above=above) for child in children]
            left -= len(pieces)
            _check_count(items, left, source, limits)
            continue
        if "=" in _bare(line):
            name, _, listed = line.partition("=")
            item = read_name(unquote(name), what=where, limits=limits)
            own, prompts = (), [unquote(prompt) for prompt in listed.split(";", left)]
        else:
            pieces = [_unquoted(match) for match in islice(_PIECE.finditer(line), left + 1)]
            name, *prompts = pieces or [""]
            item = read_name(name, what=where, limits=limits)
            own = (item.name,)
        left -= len(own) + len(prompts)
        _check_count(items, left, source, limits)
        tidied = (tidy(p, what=where, longest=limits.name_characters) for p in prompts)
        items.append(NamedItem(item.name, (*own, *tidied), item.thing, above))
    _check_count(items, left, source, limits)
    return items


def _check_count(items: list[NamedItem], left: int, source: str, limits: NameLimits) -> None:
    if left < 0:
        raise too_many(f"names and synonyms of {source}", limits.prompts)
    if len(items) > limits.names:
        raise too_many(f"names of {source}", limits.names)
