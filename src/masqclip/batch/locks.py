"""One run at a time in a job's folder: by the kernel where it is local, by a note elsewhere.

An object store has no locks. There a run keeps a note that says who it is and until when it is to
be believed, and renews it; the note of a run that was killed ends by itself. Two runs that begin in
the same instant may both find no note; each looks again after it wrote its own.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from masqclip.batch.storage import Store
from masqclip.data.locks import lock_folder
from masqclip.errors import MasqclipError

NOTE = "_lock.json"
FRESH_SECONDS = 180.0
RENEW_SECONDS = 30.0


@contextmanager
def lock_job(store: Store) -> Iterator[None]:
    """Hold a job's folder for the block.

    Raises:
        MasqclipError: another run holds it; the line names that one. After the block: another
            took it over, because this one stood still for too long.
    """
    if store.is_local:
        with lock_folder(store.root):
            yield
        return
    token = uuid.uuid4().hex
    _refuse_other(store, token)
    _write(store, token)
    _refuse_other(store, token)
    ended, lost = threading.Event(), threading.Event()
    renewing = threading.Thread(target=_renew, args=(store, token, ended, lost), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        if _read(store).get("token") == token:
            store.delete(NOTE)
    if lost.is_set():
        raise MasqclipError(f"{store.uri}: another run took this folder over meanwhile")


def _refuse_other(store: Store, token: str) -> None:
    note = _read(store)
    left = FRESH_SECONDS - (time.time() - float(note.get("time", 0)))
    if note.get("token") not in (None, token) and left > 0:
        raise MasqclipError(
            f"{store.uri}: {str(note.get('holder'))[:200]} is at work in this folder: wait for it, "
            f"or name another (if it was killed, wait {left:.0f} s)"
        )


def _read(store: Store) -> dict[str, Any]:
    try:
        note = json.loads(store.read(NOTE, 10_000)) if store.exists(NOTE) else {}
        return note if isinstance(note, dict) and isinstance(note.get("time"), int | float) else {}
    except (ValueError, OSError, RecursionError):  # damaged, or gone in between
        return {}


def _write(store: Store, token: str) -> None:
    holder = f"process {os.getpid()} on {socket.gethostname()}"
    note = {"holder": holder, "token": token, "time": time.time()}
    store.write(NOTE, json.dumps(note).encode())


def _renew(store: Store, token: str, ended: threading.Event, lost: threading.Event) -> None:
    while not ended.wait(RENEW_SECONDS):
        try:
            if _read(store).get("token") not in (None, token):
                lost.set()
                return
            _write(store, token)
        except Exception:  # the store hiccups; the next time is soon enough
            continue
