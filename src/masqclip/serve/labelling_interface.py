"""Label Studio's labelling interface: which tag asks for masks, and where a task holds the picture.

One tag may both draw and label (``BrushLabels``, ``BitmaskLabels``, ``PolygonLabels``,
``RectangleLabels``, ``EllipseLabels``), or one draws and another labels (``Brush`` beside
``Labels``). Masks are what is made here: where the interface takes masks and boxes, it is the
masks that are answered. Key points, vectors and the magic wand are not.

A value such as ``$image`` names what stands in the task's data, ``$photo.url`` and ``$pages[0]``
what stands further inside, and ``https://host/$file`` holds it, as Label Studio's own page reads
them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from masqclip.data.xml_files import parse_xml
from masqclip.export.label_studio import RegionKind
from masqclip.serve.labels import asked_labels
from masqclip.serve.problems import Problem

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

#: What is answered, the first of these that an interface has.
_KINDS: tuple[tuple[RegionKind, ...], ...] = (
    ("brush", "bitmask", "polygon"),
    ("rectangle", "ellipse"),
)
# What else is drawn on an Image.
_UNANSWERED = {"KeyPointLabels", "KeyPoint", "VectorLabels", "Vector", "MagicWand"}
#: Labels of a picture that are looked at; far fewer may be looked for (`ServeSettings.max_names`).
MAX_LABELS = 10_000
#: Characters of an address that is made of several parts.
MAX_ADDRESS = 20_000
_VARIABLE = re.compile(r"\$[\w\[\].{}]+")
_KEY = re.compile(r"[\w\[\].]+")
_STEP = re.compile(r"[^.\[\]]+")


@dataclass(frozen=True)
class Label:
    """A label of an interface.

    Attributes:
        shown: what annotators read, which is what is looked for.
        stored: what a region holds: the alias, if the label has one.
    """

    shown: str
    stored: str


@dataclass(frozen=True)
class Control:
    """What an interface asks for.

    Attributes:
        kind: what a mask becomes.
        name: of the tag that holds the labels, ``from_name`` of a region.
        shape_name: of the tag that draws, where it is another one; else empty.
        image: of the tag that shows the picture, ``to_name`` of a region.
        value: of that tag: where a task holds the picture's address.
        listed: whether that is a list, of a picture a page.
        labels: of all tasks.
        task_labels: the value that names more labels, which each task brings; empty if none does.
    """

    kind: RegionKind
    name: str
    shape_name: str
    image: str
    value: str
    listed: bool
    labels: tuple[Label, ...]
    task_labels: str

    def addresses(self, data: Any) -> list[Any]:
        """Where a task's pictures are: one, or one for each of its pages.

        Raises:
            Problem: 422, the task has none.
        """
        found = lookup(self.value, data)
        if self.listed:
            # Label Studio takes commas between addresses as well.
            found = found.split(",") if isinstance(found, str) else found
            if isinstance(found, list) and found:
                return found
        elif isinstance(found, str) and found:
            return [found]
        raise Problem(422, f"tasks: a task has no picture under {self.value!r}")

    def asked(self, data: Any) -> tuple[Label, ...]:
        """The labels to look for in a task's picture; their order is the vocabulary's.

        Raises:
            MasqclipError: a label is no name.
            Problem: 422, there are none.
        """
        first: dict[str, Label] = {}
        for label in (*self.labels, *_brought(lookup(self.task_labels, data))):
            first.setdefault(label.shown, label)
        if len(first) > MAX_LABELS:
            raise Problem(422, f"label_config: more than {MAX_LABELS:,} labels")
        written = asked_labels([*first], what="label_config: a label")
        asked = tuple(first[shown] for shown in written)
        if not asked:
            raise Problem(422, f"label_config: {self.name!r} has no label to look for")
        return asked


def read_control(label_config: str) -> Control:
    """What a labelling interface asks for.

    Raises:
        MasqclipError: the interface is no XML, or a label is no name.
        Problem: 422, nothing in it asks for masks or boxes, or it has no labels.
    """
    tree = parse_xml(label_config, source="label_config")
    images = {tag.get("name", ""): tag for tag in tree.iter("Image")}
    for kinds in _KINDS:
        names = {f"{kind.capitalize()}Labels": kind for kind in kinds}
        for tag in tree.iter():
            image = _shown_in(tag, images)
            if image is not None and tag.tag in names:
                return _control(names[tag.tag], tag, None, image)
            if image is not None and tag.tag == "Labels":
                for kind in kinds:
                    for shape in tree.iter(kind.capitalize()):
                        if _shown_in(shape, images) is image:
                            return _control(kind, tag, shape, image)
    there = {tag.tag for tag in tree.iter() if _shown_in(tag, images) is not None}
    unanswered = ", ".join(sorted(there & _UNANSWERED))
    raise Problem(
        422,
        "label_config: needs BrushLabels, BitmaskLabels, PolygonLabels, RectangleLabels or "
        "EllipseLabels on an Image, or Labels with a Brush, a Bitmask, a Polygon, a Rectangle or "
        "an Ellipse" + (f"; {unanswered}: not answered, it takes no mask" if unanswered else ""),
    )


def lookup(value: str, data: Any) -> Any:
    """What a tag's value stands for in a task's data; None, or text with gaps, where it lacks it.

    Args:
        value: ``$key``, a path such as ``$key.part[0]``, a text with such in it, or a text alone.
        data: of the task.

    Raises:
        Problem: 422, the text becomes too long.
    """
    if _VARIABLE.fullmatch(value):
        return _at(value[1:], data)
    room = MAX_ADDRESS - len(value)

    def text(match: re.Match[str]) -> str:
        nonlocal room
        found = _at(match[0][1:], data)
        written = str(found) if isinstance(found, str | int | float) else ""
        room -= len(written)
        return written if room >= 0 else ""

    found = _VARIABLE.sub(text, value)
    if room < 0:
        raise Problem(422, f"tasks: a picture's address is longer than {MAX_ADDRESS:,} characters")
    return found


def _at(path: str, data: Any) -> Any:
    if isinstance(data, dict) and path in data:  # a key may hold dots
        return data[path]
    for step in _STEP.findall(path):
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and step.isdecimal() and len(step) < 10:
            data = data[int(step)] if int(step) < len(data) else None
        else:
            return None
    return data


def _shown_in(tag: Element, images: dict[str, Element]) -> Element | None:
    """The Image that a tag draws on; the first of them, where it draws on several."""
    names = (name.strip() for name in tag.get("toName", "").split(","))
    return next((images[name] for name in names if name in images), None)


def _control(kind: RegionKind, tag: Element, shape: Element | None, image: Element) -> Control:
    labels = [_label(label.get("value", ""), label.get("alias")) for label in tag.iter("Label")]
    task_labels = value if "$" in (value := tag.get("value", "")) else ""
    pages = image.get("valueList", "")
    control = Control(
        kind,
        tag.get("name", ""),
        "" if shape is None else shape.get("name", ""),
        image.get("name", ""),
        _with_sign(pages or image.get("value", "")),
        bool(pages),
        tuple(labels),
        task_labels,
    )
    if not task_labels:
        control.asked(None)  # what is wrong with them is no single task's fault
    return control


def _with_sign(value: str) -> str:
    """A bare key is read as one all the same, as converters do."""
    return f"${value}" if _KEY.fullmatch(value) else value


def _label(shown: str, alias: Any) -> Label:
    return Label(shown, alias if isinstance(alias, str) and alias else shown)


def _brought(found: Any) -> Iterable[Label]:
    """The labels that a task brings: texts, or objects with a value and perhaps an alias."""
    for entry in found if isinstance(found, list) else []:
        value = entry.get("value") if isinstance(entry, dict) else entry
        if isinstance(value, str):
            yield _label(value, entry.get("alias") if isinstance(entry, dict) else None)
