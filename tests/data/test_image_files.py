"""Which files a list of files, folders and globs stands for."""

from __future__ import annotations

from pathlib import Path

import pytest

from masqclip.data.images import find_images
from masqclip.errors import MasqclipError


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for name in ("a10.png", "a2.JPG", "b.webp", "notes.txt", ".hidden.png", "odd.dat", "x[1].png"):
        (tmp_path / name).touch()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "c.png").touch()
    (tmp_path / "deep" / "er" / "d.png").touch()
    (tmp_path / "bare").mkdir()
    return tmp_path


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_is_listed_naturally(album: Path) -> None:
    assert names(find_images([album])) == ["a2.JPG", "a10.png", "b.webp", "x[1].png"]
    assert names(find_images(album, recursive=True)) == [
        "a2.JPG", "a10.png", "b.webp", "c.png", "d.png", "x[1].png"
    ]  # fmt: skip


def test_globs(album: Path) -> None:
    assert names(find_images([f"{album}/a*"])) == ["a2.JPG", "a10.png"]
    assert names(find_images([f"{album}/**/*.png"])) == ["a10.png", "c.png", "d.png", "x[1].png"]
    assert names(find_images([f"{album}/*.dat"])) == ["odd.dat"]
    assert names(find_images([f"{album}/d*"], recursive=True)) == ["c.png", "d.png"]


def test_a_file_may_have_a_glob_character_or_any_suffix(album: Path) -> None:
    assert names(find_images([f"{album}/x[1].png", f"{album}/notes.txt"])) == [
        "x[1].png",
        "notes.txt",
    ]


def test_the_order_given_is_kept_and_nothing_is_listed_twice(album: Path) -> None:
    found = find_images([album / "b.webp", f"{album}/bare/../a2.JPG", album, f"{album}/*.png"])
    assert names(found) == ["b.webp", "a2.JPG", "a10.png", "x[1].png"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("gone.png", "gone.png: no such file"),
        ("*.bmp", "*.bmp: no picture matches"),
        ("bare", "no picture in this folder"),
        ("b\0c", "no such file"),
        ("n" * 5000, "cannot be opened"),
    ],
)
def test_what_matches_nothing_is_named(album: Path, source: str, said: str) -> None:
    with pytest.raises(MasqclipError) as caught:
        find_images([album / "a2.JPG", f"{album}/{source}"])
    assert said in str(caught.value)


def test_a_folder_of_folders_hints_at_recursive(album: Path) -> None:
    (album / "deep" / "c.png").unlink()
    with pytest.raises(MasqclipError, match="--recursive"):
        find_images([album / "deep"])
