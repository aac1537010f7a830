"""Files that hang, lie or break; folders that two processes want."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from masqclip.data.digests import digest_bytes, digest_file, digest_model
from masqclip.data.files import read_bounded, shared, write_atomically
from masqclip.data.json_files import parse_json, read_json
from masqclip.data.locks import LOCK_NAME, lock_folder
from masqclip.errors import MasqclipError


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o002, 0o077])
def test_private_files_of_others_become_what_the_umask_gives(tmp_path: Path, umask: int) -> None:
    (tmp_path / "mine").touch(0o600)
    (tmp_path / "old").touch(0o600)
    before = os.umask(umask)
    try:
        with shared(tmp_path), shared(tmp_path / "nothing"):
            (tmp_path / "new").touch(0o600)
            (tmp_path / "other").touch(0o600)
            os.replace(tmp_path / "other", tmp_path / "old")  # as safetensors writes
            (tmp_path / "link").symlink_to("mine")
        write_atomically(tmp_path / "whole", b"")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    given = 0o666 & ~umask
    assert modes == {"mine": 0o600, "link": 0o600, "new": given, "old": given, "whole": given}


def test_a_write_reaches_the_disk_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (events.append("sync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (events.append("name"), replace(*names)))
    write_atomically(tmp_path / "a", b"whole")
    assert events == ["sync", "name", "sync"]
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_what_is_no_regular_file_or_too_large_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(MasqclipError, match=r"not a regular file|a folder"):
            read_bounded(path, max_bytes=10, what="the list")
    (tmp_path / "large").write_bytes(bytes(11))
    with pytest.raises(MasqclipError, match="larger than the limit"):
        read_bounded(tmp_path / "large", max_bytes=10, what="the list")
    with pytest.raises(MasqclipError, match=r"the list '.*absent': no such file"):
        read_bounded(tmp_path / "absent", max_bytes=10, what="the list")
    assert read_bounded(tmp_path / "large", max_bytes=11, what="the list") == bytes(11)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('{"a": 1, "a": 2}', "'a' stands twice"),
        ("[NaN]", "NaN is no number"),
        ("[1", "no valid JSON"),
        (b"\xff\xfe", "not UTF-8"),
        ("1" * 5000, "no valid JSON"),
    ],
)
def test_broken_json_is_one_line(text: str | bytes, reason: str) -> None:
    with pytest.raises(MasqclipError, match=f"^the file: .*{reason}"):
        parse_json(text, source="the file")


def test_json_that_is_right_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"a": [1, 2.5]}).encode())
    assert read_json(tmp_path / "a.json", what="the file") == {"a": [1, 2.5]}
    assert parse_json('{"a": 1, "a": 2}', source="", unique=False) == {"a": 2}


def test_a_folder_is_one_process_at_a_time(tmp_path: Path) -> None:
    code = (
        "from masqclip.data.locks import lock_folder; import sys, time\n"
        "with lock_folder(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with (
        pytest.raises(MasqclipError, match=rf"process {other.pid} on \S+ is at work"),
        lock_folder(tmp_path / "out"),
    ):
        pass
    other.kill()  # what it leaves behind locks nobody out
    other.wait()
    assert (tmp_path / "out" / LOCK_NAME).exists()
    with lock_folder(tmp_path / "out"):
        assert f"process {os.getpid()}" in (tmp_path / "out" / LOCK_NAME).read_text()
    assert not (tmp_path / "out" / LOCK_NAME).exists()


def test_digests_tell_weights_apart(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert digest_file(tmp_path / "config.json") == digest_bytes(b"{}")
    before = digest_model(tmp_path)
    (tmp_path / "README.md").write_text("about it")
    assert digest_model(tmp_path) == before
    (tmp_path / "model.safetensors").write_bytes(b"Weights")
    assert digest_model(tmp_path) != before


def test_threads_that_write_leave_the_umask_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for by setting it, a umask is nobody's for a moment, and may be lost for ever."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: write_atomically(tmp_path / f"{i}", b"x"), range(8)))
    monkeypatch.undo()
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1, "what is written is as readable as any file"


def test_a_key_that_stands_twice_among_many_is_found_at_once() -> None:
    keys = [f'"{i}":0' for i in range(50_000)] + ['"49999":1']
    started = time.process_time()
    with pytest.raises(MasqclipError, match="the key '49999' stands twice"):
        parse_json("{" + ",".join(keys) + "}", source="it")
    assert time.process_time() - started < 5


def test_a_lock_on_a_full_disk_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=str(tmp_path / LOCK_NAME)), lock_folder(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
