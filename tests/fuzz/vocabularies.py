"""Vocabularies as anybody may write them, by seed: what a parser must answer or refuse."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from xml.sax.saxutils import escape, quoteattr

# Separators, controls, surrogates, marks of direction, joiners, noncharacters, HTML, templates.
PIECES = (
    ", ", ",", ". ", ".", "\n", "\r\n", "\x85", "\u2028", "\t", " ", "#", " # ", "=", ";", "stuff:",
    "STUFF: ", "\x00", "\x1b[31m", "\x7f", "\x9f", "\ud800", "\udfff", "\ud83d\ude00", "\u202e",
    "\u2066", "\u200d", "\u200b", "\ufeff", "\ufffe", "\uffff", "&amp;", "&#0;", "&#xd800;", "{}",
    "background", "cat", "Cat", "traffic light", "\u732b", "\U0001f408", "e\u0301", "\u0130",
    "<|endoftext|>", "/", "~", "./", ".txt", ".json", "coco-panoptic", "coco_panoptic", "-1", '"',
    "'", "[", "]", "{", "}", "\\", "\\ud800", "%s", "../" * 3, "a" * 70, "x" * 999, "y" * 1001,
)  # fmt: skip


def text(chance: random.Random) -> str:
    """A few pieces, some of them random characters, some many times over."""
    parts = []
    for _ in range(chance.randrange(12)):
        if chance.random() < 0.3:
            part = "".join(chr(chance.randrange(0x110000)) for _ in range(chance.randrange(1, 8)))
        else:
            part = chance.choice(PIECES)
        parts.append(part * chance.choice((1, 1, 1, 2, 3, 40)))
    return "".join(parts)


def value(chance: random.Random, depth: int = 0) -> object:
    """What a JSON document, or a Python caller, may have in any place."""
    kind = chance.randrange(10 if depth < 4 else 6)
    if kind < 3:
        return text(chance)
    if kind < 6:
        numbers = (None, True, 0, -1, 10**4400, 1e308, float("nan"), float("inf"), b"cat")
        return chance.choice(numbers)
    inside = [value(chance, depth + 1) for _ in range(chance.randrange(5))]
    if kind < 8:
        return inside if chance.random() < 0.8 else tuple(inside)
    return {text(chance): item for item in inside}


def nested(chance: random.Random) -> object:
    """Lists in lists, too deep for any recursion."""
    whole: object = "cat"
    for _ in range(chance.choice((10, 500, 3000))):
        whole = [whole] if chance.random() < 0.7 else {"cat": whole}
    return chance.choice((whole, ["cat", whole], {"cat": whole}))


def many(chance: random.Random) -> object:
    """More of something than anybody needs."""
    size = chance.choice((1000, 300_000))
    return chance.choice(
        (
            lambda: [f"name {i}" for i in range(size)],
            lambda: ("name\n" if chance.random() < 0.5 else "a,") * size,
            lambda: chance.choice(("a", " ", "&", "#", ". ", "\n", "\u732b", "a\u0301")) * size,
            lambda: {"cat": [f"cat {i}" for i in range(size)]},
            lambda: {f"{i}": () for i in range(size)},
        )
    )()


def document(chance: random.Random) -> bytes:
    """The bytes of a file of names: text, JSON, TOML, or what is none of them."""
    size = chance.choice((3, 60, 20_000))

    def as_json() -> str:
        made = value(chance)
        try:
            return json.dumps(made, ensure_ascii=chance.random() < 0.5)
        except (TypeError, ValueError):  # bytes, and numbers that only a parser may meet
            return f'{{"cat": [{"9" * 5000}]}}'

    kinds: tuple[Callable[[], str | bytes], ...] = (
        lambda: text(chance),
        as_json,
        as_json,
        lambda: as_json()[: chance.randrange(1, 40)],
        lambda: chance.choice("[{") * size,
        lambda: '{"cat":' * size + "0" + "}" * size,
        lambda: '{"cat": ["a"], "cat": ["b"]}',
        lambda: ".".join(["a"] * size) + " = 1",
        lambda: "a = " + "[" * size + "]" * size,
        lambda: f"[{text(chance)}]\n{text(chance)} = {text(chance)!r}",
        lambda: f'"cat" = {json.dumps(text(chance))}\ncat = 1',
        lambda: "\n".join(f'"{text(chance)}" = ["cat"]' for _ in range(3)),
        lambda: chance.randbytes(chance.randrange(200)),
    )
    written = chance.choice(kinds)()
    return written if isinstance(written, bytes) else written.encode("utf-8", "surrogatepass")


def cases(seed: int, number: int) -> Iterator[tuple[str, object]]:
    """Named cases, always the same for a seed.

    What is called ``FILE.json``, ``FILE.txt`` and so on is the bytes of such a file; everything
    else is given to `Vocabulary.parse` as it is.
    """
    chance = random.Random(seed)
    kinds: tuple[tuple[str, int, Callable[[], object]], ...] = (
        ("text", 6, lambda: text(chance)),
        ("list", 5, lambda: [text(chance) for _ in range(chance.randrange(6))]),
        ("value", 5, lambda: value(chance)),
        ("mapping", 4, lambda: {text(chance): value(chance, 3) for _ in range(3)}),
        ("nested", 1, lambda: nested(chance)),
        ("many", 1, lambda: many(chance)),
        *((f"FILE.{suffix}", 3, lambda: document(chance)) for suffix in ("json", "toml", "txt")),
        *(
            (f"FILE.{suffix}", 1, lambda: document(chance))
            for suffix in ("yaml", "csv", "xml", "pbtxt", "names")
        ),
    )
    weights = [weight for _, weight, _ in kinds]
    for i in range(number):
        name, _, make = chance.choices(kinds, weights)[0]
        yield f"{seed}-{i}-{name}", make()


# Files of names as tools write them: what is read must be these names.

_LETTERS = "abcdefghijklmnopqrstuvwxyz\u00e9\u00fc\u732b\u0436"
#: What a name may have beside letters; what a kind of file cannot hold is left out there.
_MARKS = (
    "'",
    '"',
    ", ",
    ": ",
    " - ",
    "/",
    "&",
    "<",
    ">",
    "\\",
    ";",
    " # ",
    "%",
    "{}",
    "[",
    "]",
    "|",
)
_PLAIN = ("'", " - ", "/", "&", "<", ">", "\\", ";", "%", "{}", "|")


def names(chance: random.Random, marks: tuple[str, ...]) -> list[str]:
    """Some names unlike each other, with and without marks in them."""
    found: dict[str, str] = {}
    for _ in range(chance.randrange(2, 12)):
        words = ["".join(chance.choices(_LETTERS, k=chance.randrange(3, 9))) for _ in range(2)]
        mark = chance.choice(marks) if chance.random() < 0.4 else " "
        name = words[0] if chance.random() < 0.3 else mark.join(words)
        found.setdefault(name.lower(), name)
    return list(found.values())


def _yaml(chance: random.Random, listed: list[str]) -> str:
    quoted = [
        json.dumps(name, ensure_ascii=False) if chance.random() < 0.5 else f"'{escaped}'"
        for name in listed
        for escaped in [name.replace("'", "''")]
    ]
    kind = chance.randrange(4)
    if kind == 0:
        written = "names:\n" + "".join(f"  {i}: {name}  # one\n" for i, name in enumerate(quoted))
    elif kind == 1:
        written = "names:\n" + "".join(f"- {name}\n" for name in quoted)
    elif kind == 2:
        written = "names: [" + ",\n  ".join(quoted) + "]\n"
    else:
        written = "names: {" + ", ".join(f"{i}: {name}" for i, name in enumerate(quoted)) + "}\n"
    return f"# a data set\ntrain: images/train\nval: images/val\n{written}nc: {len(listed)}\n"


def _csv(chance: random.Random, listed: list[str]) -> str:
    separator = chance.choice(",;\t")
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n")
    rows = [[str(i), name, "#ff0000"] for i, name in enumerate(listed)]
    columns = chance.choice(([0, 1], [1, 0], [0, 1, 2], [1]))
    head = ["id", chance.choice(("name", "Class Name", "label")), "colour"]
    writer.writerows([row[c] for c in columns] for row in [head, *rows])
    return buffer.getvalue()


def _json(chance: random.Random, listed: list[str]) -> str:
    entries = [{"id": 3 * i + 1, "name": name} for i, name in enumerate(listed)]
    shuffled = chance.sample(entries, len(entries))
    document: object = chance.choice(
        (
            listed,
            {str(i): name for i, name in enumerate(listed)},
            {name: i for i, name in chance.sample([*enumerate(listed)], len(listed))},
            shuffled,
            {"id2label": {str(i): name for i, name in enumerate(listed)}, "model_type": "x"},
            {"images": [], "annotations": [{"id": 1}], "categories": shuffled},
        )
    )
    return json.dumps(document, ensure_ascii=chance.random() < 0.5)


def _xml(chance: random.Random, listed: list[str]) -> str:
    if chance.random() < 0.5:
        labels = "".join(f"<Label value={quoteattr(name)}/>" for name in listed)
        return f'<View><BrushLabels name="b" toName="i">{labels}</BrushLabels></View>'
    labels = "".join(f"<label><name>{escape(name)}</name></label>" for name in listed)
    return f"<annotations><meta><labels>{labels}</labels></meta></annotations>"


def _lines(chance: random.Random, listed: list[str]) -> str:
    kind = chance.randrange(4)
    quoted = ['"' + name.replace('"', '""') + '"' for name in listed]
    if kind == 0:
        return "# names\n\n" + "\n".join(quoted)
    if kind == 1:
        return ", ".join(quoted) + chance.choice(("", ",", "\n"))
    if kind == 2:
        return ",\n".join(quoted) + chance.choice(("", ",", "\n"))
    return "".join(f"{i} {name}\n" for i, name in enumerate(listed))


def files(seed: int, number: int) -> Iterator[tuple[str, bytes, list[str]]]:
    """Names of files, their bytes, and the names that they hold; always the same for a seed."""
    chance = random.Random(seed)
    hashless = tuple(mark for mark in _MARKS if mark != " # ")
    kinds: tuple[tuple[str, tuple[str, ...], Callable[[random.Random, list[str]], str]], ...] = (
        ("data.yaml", _MARKS, _yaml),
        ("classes.csv", _MARKS, _csv),
        ("classes.json", _MARKS, _json),
        ("config.xml", _MARKS, _xml),
        ("labels.txt", _PLAIN, _lines),
        ("classes.txt", hashless, lambda c, listed: "\n".join(f'"{q}"' for n in listed
                                                              for q in [n.replace('"', '""')])),
        ("obj.names", hashless, lambda c, listed: "\n".join(listed) + "\n"),
    )  # fmt: skip
    for i in range(number):
        name, marks, write = chance.choice(kinds)
        listed = names(chance, marks)
        text = write(chance, listed)
        if chance.random() < 0.3:
            text = text.replace("\n", "\r\n")
        encoding = chance.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16"))
        yield f"{seed}-{i}-{name}", text.encode(encoding), listed
