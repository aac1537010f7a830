"""The folder of a page that runs in the browser: the page of `masqclip serve`, an exported model,
and what runs it. Any static host serves it, from any path.

The page's own code is that of the service. One line of its head has its door to the service
(``api.js``) be another file, which asks a worker in the browser.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from masqclip.clip.builtin_lists import listed_vocabularies
from masqclip.clip.region_names import region_names
from masqclip.data.files import check_replaced, new_folder, shared
from masqclip.errors import MasqclipError
from masqclip.graphs.export import export_model
from masqclip.hub.local import is_exported
from masqclip.own_world import load_world
from masqclip.render.palette import palette
from masqclip.runtime.sessions import check_files
from masqclip.runtime.settings import read_settings
from masqclip.segmenter import Segmenter
from masqclip.web.packages import WASM, package_files

_IMPORTS = '{"imports": {"./static/api.js": "./static/local/api.js"}}'
# What the page's head says of itself; no host need be set up for it.
_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval' 'sha256-{}'; worker-src 'self'; "
    "style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'"
)
_MODEL = ("config.json", "image.onnx", "text.onnx", "tokenizer.json", "tokenizer_config.json")
# Modules of the page that only a service's pages read.
_SERVED = ("docs.html", "docs.js", "api.js")
_MARK = "made by masqclip web"
_OWN_LICENCE = """\
The page and masqclip-mini are of masqclip, Apache-2.0: http://www.apache.org/licenses/LICENSE-2.0
What runs them has licences of its own, in the folder "engine". Another model has its own as well.
The drawings of the examples: emoji of Noto, Twemoji and others; masqclip's NOTICE lists them.
"""


def write_page(
    model: str | Path,
    out: str | Path,
    *,
    packages: Path | None = None,
    report: Callable[[str], None] = lambda step: None,
) -> dict[str, int]:
    """Write the folder.

    Args:
        model: an exported one, or one that is exported now: masqclip-mini, a preset, a folder.
        out: the folder; an earlier page there is replaced.
        packages: the folder of npm's archives; by default they are fetched (`package_files`).
        report: is told what is done.

    Returns:
        The bytes of each file.

    Raises:
        MasqclipError: the model cannot be exported, a package cannot be had, or `out` holds
            something else.
    """
    out = Path(out)
    page = out / "index.html"
    earlier = page.is_file() and _MARK in page.read_text("utf-8", "replace")
    check_replaced(out, earlier, what="page of masqclip web")
    report("packages of npm")
    engine = package_files(packages)
    with TemporaryDirectory() as scratch:
        exported = Path(model)
        if not is_exported(model):
            report("the model's graphs")
            exported = Path(scratch) / "model"
            segmenter = Segmenter.from_pretrained(model, device="cpu", dtype="float32")
            # Halves: what a browser loads is half as much, and masqclip-mini is stored so anyway.
            export_model(segmenter, exported, dynamic=True, storage="float16")
        files = _model_files(exported)
        report("the folder")
        files |= {f"engine/{name}": content for name, content in engine.items() if name != WASM}
        # Not every host packs what it sends. No time in it: the same page is the same bytes.
        files[f"engine/{WASM}.gz"] = gzip.compress(engine[WASM], mtime=0)
        files["engine/onnxruntime-web.LICENSE"] = _licence()
        files["LICENSE"] = _OWN_LICENCE.encode()
        files |= _page_files()
        files["about.json"] = json.dumps(_about(exported), separators=(",", ":")).encode()
        files["vocabularies.json"] = json.dumps(
            listed_vocabularies(), separators=(",", ":")
        ).encode()
        with new_folder(out) as folder, shared(folder):
            for name, content in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    return {name: len(content) for name, content in sorted(files.items())}


def _model_files(folder: Path) -> dict[str, bytes]:
    """What the page needs of an exported model: no graph of given masks.

    Raises:
        MasqclipError: the folder is damaged, or its weights lie in a file beside its graphs.
    """
    settings = read_settings(folder)
    if check_files(settings):
        raise MasqclipError(
            f"{folder} is too large for a browser: its weights are more than a graph holds"
        )
    return {f"model/{name}": (folder / name).read_bytes() for name in _MODEL}


def _licence() -> bytes:
    return resources.files("masqclip.web").joinpath("onnxruntime-web.LICENSE.txt").read_bytes()


def _page_files() -> dict[str, bytes]:
    """The page of the service, with its other door."""
    static = resources.files("masqclip.serve").joinpath("static")
    files: dict[str, bytes] = {}

    def gather(folder: Any, name: str) -> None:
        for entry in folder.iterdir():
            inner = f"{name}/{entry.name}"
            if entry.is_dir():
                gather(entry, inner)
            elif entry.name not in _SERVED or "/local" in name:
                files[inner] = entry.read_bytes()

    gather(static, "static")
    html = files.pop("static/index.html").decode()
    digest = base64.b64encode(hashlib.sha256(_IMPORTS.encode()).digest()).decode()
    head = (
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY.format(digest)}">\n'
        f'<meta name="generator" content="{_MARK}">\n'
        f'<script type="importmap">{_IMPORTS}</script>\n'
    )
    html, places = re.subn(r"(?=<title>)", head, html, count=1)
    html, bodies = re.subn("<body>", '<body class="alone">', html, count=1)
    assert places == bodies == 1
    files["index.html"] = html.encode()
    return files


def _about(folder: Path) -> dict[str, Any]:
    """What the page says of the model, and the lists that it goes by."""
    world = load_world(folder)
    about: dict[str, Any] = {
        "colours": [f"#{bytes(colour).hex()}" for colour in palette()],
        "regions": sorted(region_names()),
        "everything": sorted(world.names) if world is not None else [],
        "world": None,
    }
    if world is not None:
        about["world"] = {"model": world.model, "about": world.about, "names": sorted(world.names)}
        if world.pictures is not None:
            about["world"]["pictures"] = {
                "weights": list(world.pictures.weights),
                "threshold": world.pictures.threshold,
            }
    return about
