"""What people get: the archives of a release, their page on an index, and the first commands.

All of it is built here as the release workflow builds it, without a network: by the tools of the
environment, and in an environment of its own that sees this one's dependencies.
"""

from __future__ import annotations

import email
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from masqclip import __version__

ROOT = Path(__file__).parent.parent
ADDRESS = "https://example.org/owner/masqclip"
#: Bytes that an archive may have. Of the sdist's, tests are half; of the wheel's, the shipped model
#: is nearly all.
MOST = {"sdist": 46_000_000, "wheel": 16_000_000}
LARGEST_FILE = 13_000_000


@dataclass(frozen=True)
class Archives:
    """The two archives of a release."""

    sdist: Path
    wheel: Path


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints; it must succeed, and sees nothing of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """The sdist of this checkout; what the release makes of it; and the wheel of that."""
    folder = tmp_path_factory.mktemp("release")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", folder)
    run(*build, "--sdist", ROOT, cwd=folder)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = (path for path in folder.iterdir() if path.is_dir())
    run(sys.executable, ".github/release_page.py", ADDRESS, f"v{__version__}", cwd=source)
    run(*build, "--wheel", source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return Archives(sdist, wheel)


@pytest.fixture(scope="module")
def sources(archives: Archives) -> dict[str, int]:
    """The files of the sdist, and their sizes."""
    with tarfile.open(archives.sdist) as archive:
        return {m.name.partition("/")[2]: m.size for m in archive.getmembers() if m.isfile()}


def test_archives_are_whole_and_small(archives: Archives, sources: dict[str, int]) -> None:
    check = (sys.executable, "-m", "twine", "check", "--strict")
    run(*check, archives.sdist, archives.wheel, cwd=archives.sdist.parent)
    assert archives.sdist.stat().st_size < MOST["sdist"]
    assert archives.wheel.stat().st_size < MOST["wheel"]
    assert [name for name, size in sources.items() if size > LARGEST_FILE] == []
    assert [name for name in sources if re.match(r"(runs|out|build|masqclip-out)/", name)] == []


def test_the_sources_are_all_that_is_kept(sources: dict[str, int]) -> None:
    """So tests run from them as well; and nothing lies in them that nobody has written."""
    git = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    done = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("no checkout of git")
    kept = {name for name in done.stdout.split("\0") if (ROOT / name).is_file()}
    assert set(sources) == kept | {"PKG-INFO"}


def test_the_wheel_is_the_package_alone(archives: Archives) -> None:
    with zipfile.ZipFile(archives.wheel) as wheel:
        names = set(wheel.namelist())
    package = ROOT / "src"
    files = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".egg-info" not in str(path)
    }
    information = f"masqclip-{__version__}.dist-info/"
    assert {name for name in names if not name.startswith(information)} == files
    assert "masqclip/py.typed" in names
    assert {f"{information}licenses/{name}" for name in ("LICENSE", "NOTICE")} <= names


def test_the_page_of_the_index_leads_back_here(archives: Archives) -> None:
    """Its links and pictures are whole, and lead to files that there are."""
    with zipfile.ZipFile(archives.wheel) as wheel:
        about = email.message_from_bytes(wheel.read(f"masqclip-{__version__}.dist-info/METADATA"))
    page = about.get_payload()
    assert isinstance(page, str)
    targets = re.findall(r"\]\(([^)\s]+)\)", page)
    assert [target for target in targets if not re.match(r"https://|#", target)] == []
    place = re.compile(rf"{ADDRESS}/(raw|blob|tree)/v{re.escape(__version__)}/([^#]+)")
    ours = [place.fullmatch(target.partition("#")[0]) for target in targets if ADDRESS in target]
    found = {(match[1], match[2]) for match in ours if match}
    assert len(found) > 20
    assert None not in ours
    for kind, path in found:
        assert (ROOT / path).is_dir() if kind == "tree" else (ROOT / path).is_file(), path
        assert (kind == "raw") == path.endswith((".png", ".jpg", ".svg")), path
    urls = dict(line.split(", ") for line in about.get_all("Project-URL", []))
    assert urls["Source"] == ADDRESS
    assert set(urls) == {"Source", "Documentation", "Changelog", "Issues"}


def test_a_newcomers_first_commands(archives: Archives, tmp_path: Path) -> None:
    """In an environment with the wheel alone, which borrows what the wheel depends on."""
    run(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=tmp_path)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    (python,) = scripts.glob("python.exe" if os.name == "nt" else "python")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", ask, cwd=tmp_path).strip())
    # Paths of a .pth file are searched, and what .pth files they hold is not read: no editable
    # installation of this package is seen through it.
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed.pth").write_text("\n".join(borrowed) + "\n", encoding="utf-8")
    # The package may be there to be borrowed, too: it is installed all the same, and found first.
    options = ("--quiet", "--no-deps", "--no-index", "--no-compile", "--ignore-installed")
    install = ("install", *options, archives.wheel)
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=tmp_path)
    where = run(python, "-c", "import masqclip; print(masqclip.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(site)

    masqclip = scripts / "masqclip"
    assert "segment" in run(masqclip, "--help", cwd=tmp_path)
    words = "rocket, tulip, car, snake, penguin, sand"
    picture = ROOT / "examples" / "beach.png"
    run(masqclip, "segment", picture, "--vocabulary", words, cwd=tmp_path)
    (told,) = (tmp_path / "masqclip-out").glob("*.json")
    segments = json.loads(told.read_text("utf-8"))["segments"]
    assert {"car", "tulip", "sand"} <= {segment["name"] for segment in segments}
