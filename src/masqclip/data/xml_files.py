"""XML of anybody's: declarations could define entities and are refused; all else is one line."""

from __future__ import annotations

from xml.etree import ElementTree

from masqclip.errors import MasqclipError


def parse_xml(text: str, *, source: str) -> ElementTree.Element:
    """The root of an XML text.

    Args:
        text: as it was decoded.
        source: what it is called in errors.

    Raises:
        MasqclipError: it is no XML, or has a DOCTYPE.
    """
    if "<!" in text.replace("<!--", "").replace("<![CDATA[", ""):
        raise MasqclipError(f"{source}: a DOCTYPE and entities are not read: leave them out")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise MasqclipError(f"{source}: no XML ({error})") from error
