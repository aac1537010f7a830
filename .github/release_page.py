"""Make README.md and pyproject.toml speak of a place on the web, before a release is built.

The page of a package index shows nothing of the repository: there a link or a picture needs a whole
address, with the tag in it, so that the page of an old release shows the pictures of that release.
The repository itself names no address, and a fork releases under its own.

    python .github/release_page.py https://example.org/owner/masqclip v1.2.3
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: ``[text](target)``, a picture where a ``!`` stands before it.
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")


def absolute_links(text: str, address: str, tag: str, root: Path = ROOT) -> str:
    """A page of Markdown whose relative links and pictures have whole addresses.

    Args:
        text: the page, which lies in `root`.
        address: of the repository, on a site that is laid out as GitHub is.
        tag: of the release.
        root: the repository.

    Raises:
        SystemExit: a link leads to no file.
    """

    def whole(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        path, _, place = target.partition("#")
        if re.match(r"[a-z]+:", target) or not path:
            return found[0]
        if not (root / path).exists():
            raise SystemExit(f"README.md links to {path!r}, which is not there: mend the link")
        kind = "raw" if picture else "tree" if (root / path).is_dir() else "blob"
        place = f"#{place}" if place else ""
        return f"{picture}[{words}]({address}/{kind}/{tag}/{path}{place})"

    # What a badge or a picture wraps is a link, too: the innermost first.
    return LINK.sub(whole, text)


def with_urls(project: str, address: str, tag: str) -> str:
    """The text of a pyproject.toml that says where the project is.

    Raises:
        SystemExit: it is of another version than the tag, or says so already.
    """
    facts = tomllib.loads(project)["project"]
    if f"v{facts['version']}" != tag:
        raise SystemExit(f"pyproject.toml has version {facts['version']}, the tag is {tag}")
    if "urls" in facts:
        raise SystemExit("pyproject.toml has a [project.urls] already: take one of the two away")
    urls = {
        "Source": address,
        "Documentation": f"{address}/tree/{tag}/docs",
        "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }
    lines = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    return f"{project.rstrip()}\n\n[project.urls]\n{lines}"


def main(address: str, tag: str, root: Path = ROOT) -> None:
    """Rewrite both files of a repository in place."""
    address = address.rstrip("/")
    readme, project = root / "README.md", root / "pyproject.toml"
    page = absolute_links(readme.read_text(encoding="utf-8"), address, tag, root)
    facts = with_urls(project.read_text(encoding="utf-8"), address, tag)
    readme.write_text(page, encoding="utf-8")
    project.write_text(facts, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:3])
