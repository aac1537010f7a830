"""The documentation as a site: it builds without a warning, and has what it should."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from documented import ROOT

sys.path.append(str(ROOT / "website"))
import make_site

NAV = (ROOT / "website/mkdocs.yml").read_text("utf-8").split("\nnav:")[1]
LISTED = re.findall(r": (\S+\.md)$", NAV, re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site.build(tmp_path_factory.mktemp("website") / "out")


@pytest.mark.parametrize("page", LISTED)
def test_a_page_of_the_menu_is_there(site: Path, page: str) -> None:
    name = "index.html" if page == "README.md" else page.replace(".md", ".html")
    text = (site / name).read_text("utf-8")
    assert "<h1" in text
    assert ":::" not in text, "a docstring that was not found"


def test_every_page_is_in_the_menu_and_in_the_list_for_programs() -> None:
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert pages <= set(LISTED)
    told = set(re.findall(r"\]\((\S+)\)", (ROOT / "docs/llms.txt").read_text("utf-8")))
    assert told == pages - {"README.md"}


def test_the_reference_has_types_and_docstrings(site: Path) -> None:
    text = (site / "reference/segmenter.html").read_text("utf-8")
    plain = re.sub(r"<[^>]*>", "", text)
    for word in ("from_pretrained", "classify_masks", "min_score", "str | Path", "EncodedImage"):
        assert word in plain, word
    members = re.findall(r'id="masqclip\.segmenter\.Segmenter\.(\w+)"', text)
    assert "__call__" in members
    assert not {"_text", "__init__"} & set(members)


def test_figures_are_part_of_the_page_and_of_its_theme(site: Path) -> None:
    text = (site / "idea.html").read_text("utf-8")
    assert text.count('<figure class="drawing"') == len(list((ROOT / "docs/figures").glob("*.svg")))
    assert "--md-default-fg-color" in text


def test_what_is_scrolled_sideways_is_reached_by_keyboard(site: Path) -> None:
    assert "tabIndex = 0" in (site / "assets/site.js").read_text("utf-8")
    for page in ("index.html", "reference/segmenter.html"):
        assert "assets/site.js" in (site / page).read_text("utf-8")


def test_the_list_for_programs_is_served(site: Path) -> None:
    assert (site / "llms.txt").read_text("utf-8").startswith("# masqclip\n")


def test_nothing_is_asked_of_other_hosts(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.findall(r'<(?:script|img|iframe)[^>]* src="https?:', text), page
        assert not re.findall(r'<link[^>]* rel="stylesheet"[^>]* href="https?:', text), page


def test_links_to_code_are_text_or_lead_to_the_source(tmp_path: Path) -> None:
    make_site.stage(tmp_path / "bare")
    assert "](../src" not in (tmp_path / "bare/idea.md").read_text()
    make_site.stage(tmp_path / "linked", source="https://example.org/tree/main/")
    assert (
        "](https://example.org/tree/main/src/masqclip/clip/masked_vision.py)"
        in (tmp_path / "linked/idea.md").read_text()
    )
    assert (tmp_path / "linked/repository/SECURITY.md").read_text().count("](../security.md)") == 1


@pytest.mark.parametrize(
    "wrong", ["[a](nowhere.md)", "[a](models.md#nowhere)", "::: masqclip.nothing"]
)
def test_what_is_not_as_it_should_be_ends_the_build(
    wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_site, "ROOT", bare_repository(tmp_path, f"# A\n\n{wrong}\n"))
    with pytest.raises(SystemExit, match="the site is not as it should be"):
        make_site.build(tmp_path / "out")


def bare_repository(folder: Path, page: str) -> Path:
    """A repository with this page and another one."""
    (folder / "docs").mkdir()
    (folder / "docs/README.md").write_text(page)
    (folder / "docs/models.md").write_text("# B\n")
    (folder / "website/reference").mkdir(parents=True)
    (folder / "src").symlink_to(ROOT / "src")
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"):
        (folder / name).write_text(f"# {name}\n")
    settings = (ROOT / "website/mkdocs.yml").read_text("utf-8").split("\nnav:")[0]
    (folder / "website/mkdocs.yml").write_text(settings + "\n")
    return folder
