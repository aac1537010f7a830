"""The shape of the package: who may import whom, how long a file may be, what importing costs."""

from __future__ import annotations

import ast
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import masqclip

PACKAGE = Path(masqclip.__file__).parent
TESTS = Path(__file__).parent
MAX_LINES = 400

# Rooms (and single files) in the order in which a picture passes them. A room may import itself
# and what stands before it: the paper can then be read from left to right.
ORDER = (
    "errors",
    "refinements",
    "devices",
    "configuration",
    "data",
    "hub",
    "weights",
    "render",
    "export",
    "picture",
    "proposals",
    "score_scale",
    "towers",
    "clip",
    "decoding",
    "selection",
    "segment",
    "result",
    "options",
    "word_levels",
    "own_world",
    "everything",
    "make_examples",
    "assembly",
    "streams",
    "engine",
    "segmenting",
    "evaluation",
    "model_output",
    "post_processing",
    "model",
    "baselines",
    "acceleration",
    "encoding",
    "given_masks",
    "picture_statistics",
    "convert",
    "parts",
    "pretrained",
    "levels",
    "segments",
    "segmenter",
    "runtime",
    "graphs",
    "shots",
    "labelling",
    "training",
    "serve",
    "batch",
    "web",
    "cli",
)
# What is built on the package: of these, only the command line knows, and nobody knows it.
LEAVES = ("labelling", "training", "serve", "batch", "web", "cli")
# Rooms that stay usable by themselves, and all they may import besides themselves.
ONLY = {"render": ("errors", "data"), "export": ("errors", "data")}


def room_of(module: str) -> str:
    """``masqclip.clip.text`` lives in ``clip``, ``masqclip.model`` in ``model``."""
    return module.split(".")[1]


def module_of(path: Path, package: Path = PACKAGE) -> str:
    return ".".join(["masqclip", *path.relative_to(package).with_suffix("").parts])


def imported_modules(tree: ast.AST) -> Iterator[str]:
    """Modules of ours that run when `tree` does, function bodies included, types left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for branch in node.orelse:
                yield from imported_modules(branch)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("masqclip."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            module = node.module or ""
            if module == "masqclip":
                for alias in node.names:
                    # A public name stands for its home (see masqclip/__init__.py).
                    home = masqclip._HOMES.get(alias.name, f"masqclip.{alias.name}")
                    if alias.name != "__version__":
                        yield home
            elif module.startswith("masqclip."):
                yield module
        else:
            yield from imported_modules(node)


def trespasses(module: str, source: str) -> list[str]:
    """What of `source` breaks the rules of the house, a line each."""
    here = room_of(module)
    found = []
    for target in imported_modules(ast.parse(source)):
        there = room_of(target)
        if there == here:
            continue
        if ORDER.index(there) > ORDER.index(here):
            found.append(f"{module} imports {target}, which stands after it")
        elif there in LEAVES and here != "cli":
            found.append(f"{module} imports {target}, which only the command line may")
        elif there not in ONLY.get(here, ORDER):
            found.append(f"{module} imports {target}, but may import {ONLY[here]} only")
    return found


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def test_every_room_has_its_place() -> None:
    assert {room_of(module_of(path)) for path in modules()} <= set(ORDER)


def test_imports_go_one_way() -> None:
    found = [line for path in modules() for line in trespasses(module_of(path), path.read_text())]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "wrong"),
    [
        ("masqclip.data.x", "from masqclip.clip.text import TextEncoder", True),
        ("masqclip.data.x", "def f():\n    import masqclip.clip.text", True),
        ("masqclip.data.x", "from masqclip import Segmenter", True),
        ("masqclip.data.x", "from masqclip import cli", True),
        ("masqclip.export.x", "from masqclip.render.overlay import draw_overlay", True),
        ("masqclip.render.x", "from masqclip.devices import choose_device", True),
        ("masqclip.render.x", "from masqclip.data.rle import decode_rle", False),
        ("masqclip.serve.x", "from masqclip.training.loop import train", True),
        ("masqclip.data.x", "from masqclip.errors import require", False),
        ("masqclip.data.x", "from masqclip import __version__, MasqclipError", False),
        ("masqclip.cli.x", "from masqclip.training.loop import train", False),
        ("masqclip.clip.x", "from masqclip.data.images import read_image", False),
        ("masqclip.clip.x", "if TYPE_CHECKING:\n    from masqclip.result import Segment", False),
    ],
)
def test_the_rule_itself(module: str, source: str, wrong: bool) -> None:
    assert bool(trespasses(module, source)) == wrong


def test_files_are_short() -> None:
    files = [*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py")]
    lengths = {str(path): len(path.read_text().splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_every_studio_is_credited() -> None:
    """The drawings' licences ask for it: NOTICE names each studio's source, as the index does."""
    index = json.loads((TESTS / "data" / "sprites" / "index.json").read_text("utf-8"))
    notice = (TESTS.parent / "NOTICE").read_text("utf-8")
    missing = [name for name, entry in index["studios"].items() if entry["source"] not in notice]
    assert missing == []


def test_source_is_ascii() -> None:
    odd = [path.name for path in PACKAGE.rglob("*.py") if not path.read_text("utf-8").isascii()]
    assert odd == []


# What importing costs

HELP = "from masqclip.cli.main import main; main(['--help'])"
CLI = sorted(path for path in (PACKAGE / "cli").glob("*.py") if path.stem != "__init__")
EVERY_VERB = "import " + ", ".join(module_of(path) for path in CLI)
VERB_HELP = "from masqclip.cli.main import main; main(['segment', '--help'])"


@pytest.mark.parametrize("code", ["import masqclip", HELP, VERB_HELP, EVERY_VERB])
def test_nothing_heavy_is_imported(code: str) -> None:
    heavy = "{'torch', 'transformers', 'scipy'} & set(sys.modules)"
    check = f"import sys\n{code}\nassert not {heavy}, {heavy}"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("code", "limit"), [("import masqclip", 1.0), (HELP, 1.5)])
def test_starting_is_quick(code: str, limit: float) -> None:
    """Seconds of a processor, with the start of Python: however busy the machine is."""

    def spent() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    before = spent()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    assert spent() - before <= limit
