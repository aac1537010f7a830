"""The documentation as a site: `docs/`, the reference from the docstrings, and what they link to.

    pip install -e '.[docs]'
    python website/make_site.py                # build/website/site/index.html
    python website/make_site.py --source URL   # links to code lead to URL/PATH

The pages of `docs/` are written for a code host, with links from file to file. For the site they
are copied; pages that they link to and that lie elsewhere come along, and links to code lead to
`--source`, or are plain text without it. Figures are put into the pages, so that they follow the
theme. Zensical builds it in strict mode: a link that leads nowhere ends the build.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cyclopts

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
#: What Zensical and its parts print where something is not as it should be.
_COMPLAINTS = re.compile(r"^(griffe:|.*\bWarning\b|.*\bError\b).*$", re.MULTILINE)


def build(out: Path, *, source: str = "") -> Path:
    """Build the site.

    Args:
        out: a folder of its own, made anew.
        source: the address below which the repository's files are to be seen.

    Returns:
        The folder with the site's ``index.html``.

    Raises:
        SystemExit: a page, link, anchor or docstring is not as it should be; it was printed.
    """
    shutil.rmtree(out, ignore_errors=True)
    stage(out / "docs", source=source)
    configuration = (ROOT / "website/mkdocs.yml").read_text().replace("SOURCES", str(ROOT / "src"))
    (out / "mkdocs.yml").write_text(configuration)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    environment = dict(os.environ, NO_COLOR="1")
    done = subprocess.run(
        command, cwd=out, env=environment, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    if done.returncode or _COMPLAINTS.search(said):
        sys.exit(f"the site is not as it should be:\n{said}")
    return out / "site"


def stage(folder: Path, *, source: str = "") -> None:
    """Write the pages that the site is built from.

    Args:
        folder: where to.
        source: see `build`.
    """
    shutil.copytree(ROOT / "docs", folder)
    shutil.copytree(ROOT / "website/reference", folder / "reference")
    todo = sorted((ROOT / "docs").rglob("*.md"))
    todo += [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
    done: set[Path] = set()
    while todo:
        page = todo.pop(0)
        if page in done:
            continue
        done.add(page)
        target = folder / _place(page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_rewritten(page, folder, source, todo))


def _place(file: Path) -> Path:
    """Where a file of the repository lies in the site's own sources."""
    if file.is_relative_to(ROOT / "docs"):
        return file.relative_to(ROOT / "docs")
    return Path("repository") / file.relative_to(ROOT)


def _rewritten(page: Path, folder: Path, source: str, todo: list[Path]) -> str:
    """A page's text with links that hold in the site; pages that it needs are added to `todo`."""

    def link(found: re.Match[str]) -> str:
        picture, text, address = found.groups()
        path, hash_, anchor = address.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return found[0]
        file = (page.parent / path).resolve()
        if picture and file.suffix == ".svg":
            return _inlined(file, text)
        ours = file.is_relative_to(ROOT / "docs")
        if picture or file.suffix == ".md" or ours:
            if file.suffix == ".md":
                todo.extend([file] if file.exists() else [])  # else the builder tells of it
            elif not ours:
                (folder / _place(file)).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, folder / _place(file))
            relative = os.path.relpath(_place(file), _place(page).parent)
            return f"{picture}[{text}]({relative}{hash_}{anchor})"
        where = file.relative_to(ROOT)
        return f"[{text}]({source.rstrip('/')}/{where})" if source else text

    parts = _FENCE.split(page.read_text("utf-8"))
    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in parts)


def _inlined(file: Path, text: str) -> str:
    """A figure as a part of the page: its colours are then those of the page's theme."""
    drawing = file.read_text("utf-8")
    drawing = re.sub(r"<\?xml.*?\?>|<!--.*?-->", "", drawing, flags=re.DOTALL)
    lines = "".join(line.strip() + " " for line in drawing.splitlines())
    return f'<figure class="drawing" role="img" aria-label="{text}">{lines.strip()}</figure>'


def main(out: Path = ROOT / "build/website", *, source: str = "") -> None:
    """Build the site.

    Args:
        out: A folder of its own, which is made anew.
        source: The address below which the repository's files are to be seen.
    """
    print(build(out, source=source) / "index.html")


if __name__ == "__main__":
    cyclopts.run(main)
