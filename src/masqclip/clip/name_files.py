"""Files of names: text, and what annotation tools, trainers and model hubs keep their classes in.

- ``.txt``, ``.names``, ``.list``, or no suffix: text (`masqclip.clip.name_text`); a line of
  Darknet's ``.names`` is one name, commas and all.
- ``.csv``, ``.tsv``: tables (`masqclip.clip.name_tables`).
- ``.json``, ``.yaml``, ``.toml``: documents (`masqclip.clip.name_documents`), among them what
  masqclip saved itself (`masqclip.clip.saved_vocabulary`). Of COCO annotations,
  however large, the categories alone are read.
- ``.xml``: the labels of a Label Studio interface, or of CVAT's annotations.
- ``.pbtxt``: TensorFlow's label map.

Bytes are UTF-8, or UTF-16 as Windows writes it.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import tomllib
from pathlib import Path

from masqclip.clip.name_documents import KEYS, read_document, too_many_brackets, written_document
from masqclip.clip.name_items import NamedItem, read_labels
from masqclip.clip.name_limits import (
    MAX_TOML_BYTES,
    MAX_YAML_BYTES,
    NameLimits,
    check_length,
    shown,
    too_many,
)
from masqclip.clip.name_tables import read_table
from masqclip.clip.name_text import read_plain_lines, read_text
from masqclip.clip.saved_vocabulary import MARK, MAX_SAVED_BYTES, SavedVocabulary
from masqclip.data.files import open_regular, read_bounded
from masqclip.data.json_files import parse_json
from masqclip.data.xml_files import parse_xml
from masqclip.data.yaml_files import parse_yaml
from masqclip.errors import MasqclipError

_TEXT = (".txt", ".names", ".list", ".lst", ".labels", ".classes", ".text", "")
_DATA = (".json", ".yaml", ".yml", ".toml")
_TABLES = (".csv", ".tsv")
#: Of files that hold names.
READ_SUFFIXES = (*_TEXT[:-1], *_DATA, *_TABLES, ".xml", ".pbtxt")
# A dotted key is a table in a table in a table, and TOML's parser takes time as their square.
_TOML_DOTS = 50
_HOW = {
    "json": '{"name": ["prompt", "prompt"], ...} or ["name", ...]',
    "toml": 'lines such as name = ["prompt", "prompt"]',
    "yaml": "names: and a list of them",
}
_XML_TAGS = 8  # for each name that there may be; annotations have more of them than labels
# An entry of a label map, which holds no braces in any version of its format but in strings.
_PBTXT_ITEM = re.compile(r"\bitem\s*:?\s*\{([^{}]*+)\}")
_PBTXT_FIELD = re.compile(r"""\b(name|display_name|id)\s*:\s*(?:"([^"\n]*+)"|'([^'\n]*+)'|(\d+))""")


def read_file(path: Path, *, limits: NameLimits) -> list[object] | SavedVocabulary:
    """Items of a vocabulary in a file, or the vocabulary that masqclip saved there.

    Args:
        path: the file.
        limits: how much it may hold.

    Raises:
        MasqclipError: there is no such file, it is of a kind that is not read, it is broken, holds
            no names, or too many.
    """
    name = shown(str(path), 500)
    if os.path.isdir(path):
        raise MasqclipError(f"the vocabulary {name} is a folder: give a text file in it")
    if not os.path.exists(path):
        raise MasqclipError(
            f"there is no vocabulary file {name}: check the path, or give names between commas "
            "(a name that looks like a path goes in double quotes)"
        )
    kind = path.suffix.lower()
    if kind not in (*READ_SUFFIXES, "") and not kind[1:].isdigit():
        raise MasqclipError(
            f"the vocabulary file {name} is of a kind that is not read: give .txt or .names (one "
            "name a line), .csv, .json, .yaml, .toml, .xml or .pbtxt"
        )
    bound = limits.text_bytes
    if kind == ".json" and os.path.getsize(path) > bound:
        if not _is_marked(path, name):
            return _read_categories(path, name, limits)
        bound = MAX_SAVED_BYTES
    text = _decoded(read_bounded(path, max_bytes=bound, what="the vocabulary file"), name)
    coco = kind == ".json" and '"categories"' in text and MARK not in text
    if coco and too_many_brackets(text, limits):
        return _read_categories(path, name, limits)
    if kind in _DATA:
        return _read_data(text, kind[1:].replace("yml", "yaml"), source=name, limits=limits)
    if kind in _TABLES:
        return [*read_table(text, source=name, limits=limits)]
    if kind == ".xml":
        return [*_read_xml(text, source=name, limits=limits)]
    if kind == ".pbtxt":
        return [*_read_label_map(text, source=name, limits=limits)]
    document = written_document(text.strip(), source=name, limits=limits)
    if document is not None:
        return read_document(document, source=name, limits=limits)
    read = read_plain_lines if kind == ".names" else read_text
    return [*read(text, source=name, limits=limits)]


def _decoded(raw: bytes, name: str) -> str:
    """Text of a file's bytes: UTF-8, or UTF-16 by its mark or by the zeros of plain letters."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif len(raw) > 3 and raw[1] == raw[3] == 0 != raw[0]:
        encoding = "utf-16-le"
    elif len(raw) > 3 and raw[0] == raw[2] == 0 != raw[1]:
        encoding = "utf-16-be"
    else:
        encoding = "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise MasqclipError(
            f"the vocabulary file {name} is not UTF-8 text: give a text file with one name "
            "a line, saved as UTF-8"
        )
    return text


def _is_marked(path: Path, name: str) -> bool:
    """Whether masqclip saved a file; another program may have put its keys in another order."""
    with (
        open_regular(path, name=f"the vocabulary file {name}") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(f'"{MARK}"'.encode()) >= 0


def _read_data(
    text: str, kind: str, *, source: str, limits: NameLimits
) -> list[object] | SavedVocabulary:
    """Names of a JSON, YAML or TOML document."""
    if too_many_brackets(text, limits):
        raise too_many(source, limits.names)
    document: object
    if kind == "json":
        document = parse_json(text, source=source)
    elif kind == "toml":
        document = _parse_toml(text, source=source)
    else:
        check_length(text, MAX_YAML_BYTES, what=source)
        document = parse_yaml(text, source=source)
    if not document or not isinstance(document, dict | list):
        raise MasqclipError(f"{source} holds no names: write {_HOW[kind]}")
    named = isinstance(document, dict) and any(
        isinstance(document.get(key), list | dict) for key in KEYS
    )
    if kind == "yaml" and isinstance(document, dict) and not named:
        # Of a trainer's settings without names each would be taken for a class.
        loose = [key for key, value in document.items() if not isinstance(value, list)]
        numbered = all(str(key).isdigit() for key in document)
        if loose and not numbered:
            raise MasqclipError(
                f"{source} holds no names, but {shown(loose[0])}: write {_HOW[kind]}, or lines "
                "such as name: [prompt, prompt]"
            )
    return read_document(document, source=source, limits=limits)


def _parse_toml(text: str, *, source: str) -> object:
    check_length(text, MAX_TOML_BYTES, what=source)
    bare = re.sub(r"\"[^\"\n]*\"|'[^'\n]*'", "", text)
    try:
        if any(line.count(".") > _TOML_DOTS for line in bare.split("\n")):
            raise RecursionError
        return tomllib.loads(text)
    except RecursionError:
        raise MasqclipError(f"{source}: no usable TOML: it is nested too deeply") from None
    except ValueError as error:
        raise MasqclipError(f"{source} is no valid TOML: {error}") from error


def _read_categories(path: Path, name: str, limits: NameLimits) -> list[object] | SavedVocabulary:
    """The categories of COCO annotations, without reading the annotations."""
    key = b'"categories"'
    with (
        open_regular(path, name=f"the vocabulary file {name}") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        at = content.rfind(key)
        piece = content[at + len(key) : at + len(key) + limits.text_bytes] if at >= 0 else b""
    text = piece.decode("utf-8", "replace").lstrip().removeprefix(":").lstrip()
    if not text.startswith("["):
        raise MasqclipError(
            f"the vocabulary file {name}: larger than the limit of {limits.text_bytes / 1e6:g} MB, "
            "and no COCO annotations"
        )
    try:
        categories, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise MasqclipError(f"{name}: its categories are no valid JSON ({error})") from error
    return read_document({"categories": categories}, source=name, limits=limits)


def _read_xml(text: str, *, source: str, limits: NameLimits) -> list[NamedItem]:
    if text.count("<") > _XML_TAGS * limits.names:
        raise too_many(f"the tags of {source}", _XML_TAGS * limits.names)
    root = parse_xml(text, source=source)
    labels = [label.get("value", "") for label in root.iter("Label")]
    labels += [label.findtext("name", "") for label in root.iter("label") if len(label)]
    # A label that is painted and drawn stands there twice.
    labels = [label for label in dict.fromkeys(labels) if label.strip()]
    if not labels:
        raise MasqclipError(
            f"{source} holds no labels: give the interface of a Label Studio project, or CVAT's "
            "annotations"
        )
    return read_labels(labels, source, limits)


def _read_label_map(text: str, *, source: str, limits: NameLimits) -> list[NamedItem]:
    entries: list[tuple[int, str]] = []
    for item in _PBTXT_ITEM.finditer(text):
        found = _PBTXT_FIELD.findall(item[1])
        fields = {key: double or single or number for key, double, single, number in found}
        label = fields.get("display_name") or fields.get("name")
        if label is None:
            raise MasqclipError(f"{source}: an item has no name: {shown(item[0])}")
        entries.append((int(fields.get("id", "0")[:9] or 0), label))
        if len(entries) > limits.names:
            raise too_many(f"names of {source}", limits.names)
    if not entries:
        raise MasqclipError(f"{source} holds no item: write item {{ id: 1 name: 'cat' }}")
    return read_labels([label for _, label in sorted(entries, key=lambda e: e[0])], source, limits)
