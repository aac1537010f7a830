"""Small icon packages, in the two files that sprite caches are built from."""

from __future__ import annotations

import json
from pathlib import Path

#: A square that fills an icon.
RED = '<path fill="#f00" d="M0 0h16v16H0z"/>'


def write_icon_package(home: Path, icons: object, *, page: bool = True, **more: object) -> None:
    """Write HOME/icons.json and HOME/info.json; MORE stands beside the icons.

    Without PAGE the package names no page of its author.
    """
    home.mkdir(parents=True)
    (home / "icons.json").write_text(json.dumps({"icons": icons, **more}))
    author = {"name": "A. Artist"} | ({"url": "the page"} if page else {})
    about = {"author": author, "license": {"spdx": "MIT"}}
    (home / "info.json").write_text(json.dumps(about))
