"""Errors that one line explains.

Whatever a user can get wrong (a broken picture, an empty name, a missing folder) raises
`MasqclipError` with a message that names the bad input and the remedy. The command line prints
that line and exits with code 2; a traceback is always a defect of ours.
"""

from __future__ import annotations

import errno

# What a disk can refuse, and what helps.
_STORAGE_REMEDIES = {
    errno.ENOENT: "see that it was not moved or deleted meanwhile",
    errno.EEXIST: "name a folder, or another place",
    errno.ELOOP: "it is a link that leads to itself; name another folder",
    errno.EINVAL: "give a name that its file system takes",
    errno.EBUSY: "wait for what uses it, or name another folder",
    errno.ENOTEMPTY: "name another folder",
    errno.ENXIO: "name a file on a disk",
    errno.ENODEV: "name a file on a disk",
    errno.EROFS: "name a folder that may be written to",
    errno.EACCES: "name a folder that may be written to, or change its permissions",
    errno.EPERM: "name a folder that may be written to, or change its permissions",
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "the file system takes no file as large",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOTDIR: "name a folder",
    errno.EISDIR: "name a file",
    errno.EIO: "look at the disk's health",
    errno.ESTALE: "mount the folder again",
    errno.ENOTCONN: "mount the folder again",
    errno.EMFILE: "let a process open more files (ulimit -n)",
}


class MasqclipError(ValueError):
    """A mistake in what was given: the message names the input, what is allowed, and the fix."""


def require(module: str, *, extra: str, purpose: str) -> object:
    """Import an optional dependency, or say which extra holds it.

    Args:
        module: the module to import, for instance ``"supervision"``.
        extra: the extra of masqclip that installs it.
        purpose: what needs it, as the subject of the error's sentence.

    Returns:
        The imported module.

    Raises:
        MasqclipError: the module is not installed.
    """
    from importlib import import_module

    try:
        return import_module(module)
    except ImportError as error:
        raise MasqclipError(
            f"{purpose} needs the package {module!r}: pip install 'masqclip[{extra}]'"
        ) from error


def lacks_torch(error: ImportError) -> MasqclipError | None:
    """In place of an import that failed because PyTorch is not installed: what to do about it."""
    if (error.name or "").split(".")[0] not in ("torch", "transformers", "scipy"):
        return None
    return MasqclipError(
        f"this needs {error.name}, which is not installed: pip install 'masqclip[torch]' (without "
        'it, exported models run: "masqclip segment --model FOLDER")'
    )


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory, of the machine or of its GPU, is used up."""
    # torch has a class for GPUs; of the CPU's allocator only the message tells.
    names = (type(error).__name__, str(error))
    return isinstance(error, MemoryError) or any(
        sign in name for name in names for sign in ("OutOfMemory", "not enough memory", "allocate")
    )


def storage_error(error: OSError) -> str | None:
    """One line about an error of files and folders; None where it is of another kind."""
    remedy = _STORAGE_REMEDIES.get(error.errno or 0)
    if remedy is None:
        return None
    where = "" if error.filename is None else f"{error.filename}: "
    done = "; what was finished is kept, and the same command goes on"
    return f"{where}{error.strerror or error}: {remedy}{done}"
