"""Writing a stage's result: no file of it has its name before it is whole."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from masqclip.data.files import sync_folder
from masqclip.training.stage import Stage


def save_result(stage: Stage, folder: Path) -> None:
    """Write what a stage has trained into a folder, file by file, the weights last.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / ".result.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        scratch.mkdir()
        try:
            stage.save(scratch)
        except Exception as error:
            # The writers of weights wrap the system's errors in some of their own.
            full = "No space left" in str(error) or not shutil.disk_usage(folder).free
            if isinstance(error, OSError) or not full:
                raise
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        files = sorted(scratch.iterdir(), key=lambda path: path.name == "model.safetensors")
        umask = os.umask(0)
        os.umask(umask)
        for path in files:
            path.chmod(0o666 & ~umask)  # some writers make private files; a result is for readers
            with path.open("rb") as file:
                os.fsync(file.fileno())
        for path in files:
            os.replace(path, folder / path.name)
        sync_folder(folder)
    except OSError as error:
        error.filename = str(folder)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
