"""What npm brings is what is pinned, or is refused; a folder of something else is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from masqclip.cli.main import main
from masqclip.data import npm
from masqclip.errors import MasqclipError
from masqclip.web import packages
from masqclip.web.page import write_page


def test_without_npm_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(npm.shutil, "which", lambda name, path=None: None)
    with pytest.raises(
        MasqclipError, match=r"needs npm.*pip install 'masqclip\[web\]', or .* --pa"
    ):
        packages.package_files()


def test_what_npm_says_when_it_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "npm"
    fake.write_text("#!/bin/sh\necho no such thing >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(npm.shutil, "which", lambda name, path=None: str(fake))
    with pytest.raises(MasqclipError, match=r"npm could not fetch onnxruntime-web@.*no such thing"):
        packages.package_files()


def test_an_archive_that_is_another_is_refused(tmp_path: Path) -> None:
    file = tmp_path / packages.PACKAGES[0].archive
    with pytest.raises(MasqclipError, match=f"{file.name}.*no such file"):
        packages.package_files(tmp_path)
    file.write_bytes(b"something else")
    with pytest.raises(MasqclipError, match=r"is not onnxruntime-web .* as it was published"):
        packages.package_files(tmp_path)
    assert file.exists()


def test_a_kept_archive_that_is_another_is_fetched_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = tmp_path / "masqclip" / "npm" / packages.PACKAGES[0].archive
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"half")
    with pytest.raises(MasqclipError, match="as it was published"):
        packages.package_files()
    assert not kept.exists()


def test_a_folder_with_something_else_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(MasqclipError, match="no page of masqclip web: name another folder"):
        write_page("masqclip-mini", tmp_path)
    assert main(["web", str(tmp_path)]) == 2
    assert "name another folder" in capsys.readouterr().err
    assert main(["web", str(tmp_path / "page"), "--model", "no-such-model"]) == 2
    assert not (tmp_path / "page").exists()
