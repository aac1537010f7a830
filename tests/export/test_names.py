"""Names of any kind: what is written for other tools is valid and reads back as it was, or is
refused where it comes in."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from masqclip.errors import MasqclipError
from masqclip.export.label_studio import labeling_config
from masqclip.export.yolo import data_yaml

ODD = [
    "yes", "null", "1e3", "0x10", "~", "a: b", "- a", "# a", "{a}", "'", '"', "\\", "%TAG", "& <b>",
    "a\nb", "a\tb", "a\r\nb", "\x7f", "\x85", "\x9f", "\u2028", "\u2029",
    "\ufeff", "\u00e9", "\U0001f431",
]  # fmt: skip


def check_yaml(names: list[str]) -> None:
    try:
        written = data_yaml(names, train="images/train", val="images/val").encode()
    except MasqclipError:
        assert any("\ud800" <= letter <= "\udfff" for name in names for letter in name)
        return
    assert yaml.safe_load(written)["names"] == dict(enumerate(names))


def check_xml(names: list[str]) -> None:
    colours = dict.fromkeys(names, (1, 2, 3))
    try:
        written = labeling_config(colours).encode()
    except MasqclipError:
        return  # what it says is tested below
    labels = ElementTree.fromstring(written).iter("Label")
    assert [label.get("value") for label in labels] == list(colours)


def test_odd_names_are_read_back() -> None:
    check_yaml([*ODD, "\x00", "\x07"])
    check_xml(ODD)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.characters(codec=None), max_size=6), min_size=1, max_size=4))
def test_any_names_are_read_back_or_refused(names: list[str]) -> None:
    check_yaml(names)
    check_xml(names)


@pytest.mark.parametrize("name", ["a\x00", "do\x07g", "\x1b[31m", "\ud800", "\ufffe"])
def test_what_xml_cannot_hold_is_named(name: str) -> None:
    with pytest.raises(MasqclipError, match="XML cannot: leave it out"):
        labeling_config({name: (0, 0, 0)})
