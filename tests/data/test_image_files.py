"""Which files a list of files, folders and globs stands for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from masqclip.data.folders import LeftOut
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


# Links, and what is passed over


def test_links_to_folders_are_followed_once_and_round_in_no_circle(
    album: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "far.png").touch()
    (elsewhere / "back").symlink_to(album)
    (album / "again").symlink_to(album / "deep")
    (album / "far").symlink_to(elsewhere)
    (album / "itself").symlink_to(album / "itself")
    found = find_images(album, recursive=True)
    assert [path.relative_to(album).as_posix() for path in found] == [
        "a2.JPG", "a10.png", "b.webp", "deep/c.png", "deep/er/d.png", "far/far.png", "x[1].png"
    ]  # fmt: skip


def test_pictures_that_cannot_be_read_are_listed_so_that_reading_names_them(album: Path) -> None:
    (album / "dead.png").symlink_to("gone.png")
    (album / "phone.HEIC").touch()
    os.mkfifo(album / "pipe.jpg")
    assert {"dead.png", "phone.HEIC", "pipe.jpg"} < set(names(find_images(album)))


def test_what_is_passed_over_is_counted_and_named(
    album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("e.dng", "f.CR2", "deep/g.psd", "deep/h.arw"):
        (album / name).touch()
    closed = os.path.join(album, "bare")
    scan = os.scandir

    def refuse(path: str) -> object:  # as root, every folder can be listed
        if path == closed:
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    left_out = LeftOut()
    find_images(album, recursive=True, left_out=left_out)
    missed = left_out.lines(pictures_only=True)
    assert missed == [
        f"left out, in a format that is not read (convert to JPEG or PNG first): 4 "
        f"({album}/e.dng, {album}/f.CR2, {album}/deep/g.psd, ...)",
        f"left out, folders that cannot be listed (Permission denied): 1 ({closed})",
    ]
    assert left_out.lines()[2:] == [
        f"left out, hidden (the name begins with a dot): 1 ({album}/.hidden.png)",
        f"left out, no picture by its suffix: 2 ({album}/notes.txt, {album}/odd.dat)",
    ]


def test_sub_folders_that_are_not_searched_are_named(album: Path) -> None:
    for source in (album, f"{album}/*"):
        left_out = LeftOut()
        find_images([source], left_out=left_out)
        (line,) = left_out.lines(pictures_only=True)
        assert line.startswith("left out, sub-folders (--recursive")
        assert f"2 ({album}/bare, {album}/deep)" in line


def test_a_folder_without_a_picture_says_what_is_in_it(album: Path) -> None:
    (album / "bare" / "a.dng").touch()
    with pytest.raises(MasqclipError, match=r"no picture in this folder; .*not read.*a\.dng"):
        find_images(album / "bare")
