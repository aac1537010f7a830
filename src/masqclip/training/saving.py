"""Writing a stage's result: no file of it has its name before it is whole."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from masqclip.data.files import shared, sync_file, sync_folder, writing
from masqclip.training.stage import Stage


def save_result(stage: Stage, folder: Path) -> None:
    """Write what a stage has trained into a folder, file by file, the weights last.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    scratch = folder / ".result.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with writing(folder):
            scratch.mkdir(parents=True)
            with shared(scratch):
                stage.save(scratch)
            _take_in(scratch, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _take_in(scratch: Path, folder: Path) -> None:
    """Move the files of a folder, once all their bytes are on the disk."""
    files = sorted(scratch.iterdir(), key=lambda path: path.name == "model.safetensors")
    for path in files:
        sync_file(path)
    for path in files:
        os.replace(path, folder / path.name)
    sync_folder(folder)
