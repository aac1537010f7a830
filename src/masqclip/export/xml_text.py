"""XML that other tools read: what it cannot hold is refused, all else reads back as it is."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from masqclip.errors import MasqclipError

# What XML 1.0 has no way of writing.
_NOT_XML = re.compile(r"[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def check_xml(text: str, *, what: str, tool: str) -> str:
    """A text, seen to be one that XML can hold.

    Args:
        text: any.
        what: what it is, for the error: ``the name``.
        tool: whose XML it is.

    Raises:
        MasqclipError: it holds a control character, half a character or the like.
    """
    if odd := _NOT_XML.search(text):
        raise MasqclipError(
            f"{what} {text!r:.80} holds {odd[0]!r}, which {tool}'s XML cannot: leave it out"
        )
    return text


def xml_document(root: ElementTree.Element) -> str:
    """A tree as a text, indented.

    It declares no encoding, and so is UTF-8 in a file and a string anywhere else.
    """
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    # Readers make a line's end of a carriage return that is not written as a number.
    return text.replace("\r", "&#13;") + "\n"


def add_text(parent: ElementTree.Element, tag: str, text: object) -> None:
    """Add an element that holds a text only."""
    ElementTree.SubElement(parent, tag).text = str(text)
