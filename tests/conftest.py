"""What holds for all tests: a process of its own share, with nothing to clean up twice."""

from __future__ import annotations

import gc
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from masqclip.encoding import EncodedImage
    from masqclip.segmenter import Segmenter

# Models this small are slower with several threads, and tests run in a process a core. torch reads
# it when it is imported; programs that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Imports make a million objects that live to the end: the collector is to leave them alone.
gc.disable()


def pytest_collection_finish() -> None:
    """Put aside what imports made, for good, and collect what tests make."""
    gc.freeze()
    gc.enable()


#: What Windows lacks. There a test file that speaks of it is passed over, whole, and so are rooms
#: whose helpers start programs by forking.
_POSIX = re.compile(
    r"\b(forked|fcntl|resource|mkfifo|symlink_to|symlink|chmod|umask|geteuid|getuid|O_NONBLOCK"
    r"|SIGKILL|SIGTERM|SIGSTOP|setrlimit)\b|/dev/(zero|full|null|stdin)|/proc/"
)
_POSIX_ROOMS = ("serve", "fuzz")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """On Windows, leave out what needs another system; elsewhere nothing."""
    if sys.platform != "win32":
        return None
    if collection_path.is_dir():
        return collection_path.name in _POSIX_ROOMS or None
    said = collection_path.read_text("utf-8") if collection_path.suffix == ".py" else ""
    return (collection_path.name.startswith("test_") and bool(_POSIX.search(said))) or None


@pytest.fixture(autouse=True)
def threads_stay() -> Iterator[None]:
    """With another number of threads later tests would add in another order: whose fault is told.

    Broader fixtures may set it for the tests that they are for.
    """
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    yield
    if torch and torch.get_num_threads() != before:
        left = torch.get_num_threads()
        torch.set_num_threads(before)
        pytest.fail(f"this test leaves {left} threads, and found {before}")


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small CLIP that the recorded MasQCLIPs were tuned on, as OpenAI names its tensors.

    Of its token embedding, only the rows that the tests need were kept.
    """
    import torch
    from safetensors.torch import load_file

    weights = load_file(Path(__file__).parent / "data" / "clip_instance.safetensors")
    table = torch.zeros(49_408, 16)
    table[weights.pop("token_rows")] = weights.pop("token_embedding_rows")
    file = tmp_path_factory.mktemp("clip") / "clip.pt"
    torch.save({"model": weights | {"token_embedding.weight": table}}, file)
    return file


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """The shipped model, of a test file's own."""
    from masqclip.segmenter import Segmenter

    return Segmenter.from_pretrained("masqclip-mini", device="cpu")


@pytest.fixture(scope="module")
def beach(segmenter: Segmenter) -> EncodedImage:
    """The shipped example of a rocket, a car, a snake and a tulip on sand, encoded."""
    return segmenter.encode(Path(__file__).parents[1] / "examples/beach.png")


@pytest.fixture(scope="session")
def mini_graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped model as ONNX graphs for pictures of any size, in half precision, which is how it
    is shipped; exported once, whichever of several processes asks first."""
    from masqclip.data.locks import lock_folder
    from masqclip.errors import MasqclipError
    from masqclip.graphs.export import export_model
    from masqclip.graphs.refusals import check_exportable
    from masqclip.segmenter import Segmenter

    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "graphs"
    shared.mkdir(exist_ok=True)
    while True:
        try:
            with lock_folder(shared):
                if not (shared / "mini").is_dir():
                    model = Segmenter.from_pretrained("masqclip-mini", device="cpu")
                    try:
                        check_exportable(model.model, dynamic=True, opset=20)
                    except MasqclipError as error:  # an older PyTorch
                        pytest.skip(str(error))
                    export_model(model, shared / "mini", dynamic=True, storage="float16")
                return shared / "mini"
        except MasqclipError as error:
            if "is at work" not in str(error):
                raise
        time.sleep(0.2)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright  # here: most tests need no browser

    system = shutil.which("chromium") or shutil.which("chromium-browser")
    # Chromium has no sandbox for root, as whom containers run tests.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=system, args=options)
        yield launched
        launched.close()
