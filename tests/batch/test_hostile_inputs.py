"""Tars, lists, tables and addresses of strangers: what is wrong with one is its own row."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from masqclip.batch.inputs import Item, list_items, read_items
from masqclip.batch.locks import FRESH_SECONDS, NOTE, lock_job
from masqclip.batch.storage import Store
from masqclip.batch.tars import BLOCK
from masqclip.errors import MasqclipError

NUMBER = 10


def tar_bytes(number: int = NUMBER, first: int = 0, kind: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        for n in range(first, first + number):
            info = tarfile.TarInfo(f"{'deep/' * 30 if n == 3 else ''}{n:03d}.png")
            info.size = 700
            tar.addfile(info, io.BytesIO(bytes([n]) * 700))
    return buffer.getvalue()


def listed(path: Path, **options: object) -> tuple[list[Item], list[Item]]:
    """Items of a file: those that can be read, and the errors."""
    items = list(list_items([str(path)], **options)[1])  # type: ignore[arg-type]
    return [i for i in items if i.error is None], [i for i in items if i.error is not None]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_sound_tar_is_read_whole(kind: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", tar_bytes(kind=kind))
    good, bad = listed(path)
    assert (len(good), bad) == (NUMBER, [])
    contents = [content for _, content in read_items("tar", good)]
    assert contents == [bytes([n]) * 700 for n in range(NUMBER)]


def test_one_wrong_byte_in_a_header_costs_one_picture_and_says_so(tmp_path: Path) -> None:
    data = bytearray(tar_bytes(kind=tarfile.USTAR_FORMAT))
    data[5 * 3 * BLOCK + 10] ^= 1  # the sixth header; 4 of 10 came of it, without a word
    good, bad = listed(write(tmp_path / "a.tar", bytes(data)))
    assert len(good) == NUMBER - 1
    (damage,) = bad
    assert "damaged from byte" in str(damage.error)
    ((_, content),) = read_items("tar", [damage])
    assert isinstance(content, MasqclipError)


def test_joined_tars_are_read_to_the_end(tmp_path: Path) -> None:
    good, bad = listed(write(tmp_path / "a.tar", tar_bytes(4) + tar_bytes(4, first=4)))
    assert (len(good), bad) == (8, [])


@pytest.mark.parametrize("kept", [0.45, 0.7])
def test_a_tar_cut_short_is_an_error_that_counts(kept: float, tmp_path: Path) -> None:
    data = tar_bytes(kind=tarfile.USTAR_FORMAT)[: 3 * BLOCK * NUMBER]
    good, bad = listed(write(tmp_path / "a.tar", data[: int(len(data) * kept)]))
    assert good
    assert bad
    _, bad = listed(write(tmp_path / "b.tar", data))  # at a boundary: all there, and no end
    assert "no end mark" in str(bad[0].error)


def test_what_is_no_plain_tar(tmp_path: Path) -> None:
    packed = write(tmp_path / "a.tar", gzip.compress(tar_bytes()))
    with pytest.raises(MasqclipError, match="gzip"):
        listed(packed)
    with pytest.raises(MasqclipError, match="not a plain tar"):
        listed(write(tmp_path / "b.tar", b"x" * 5000))


def test_links_devices_and_lying_sizes_are_rows_with_errors(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.png")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        info = tarfile.TarInfo("../../escape.png")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    good, bad = listed(write(tmp_path / "a.tar", buffer.getvalue()))
    assert len(bad) == 4
    assert [item.key.endswith("escape.png") for item in good] == [True]


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:9/a.png", "https://example.org/a.png", "ftp://host/a.png",
        "ssh://host/a.png", "github://a:b@c/d.png", "simplecache::http://host/a.png",
        "zip://a.png::/tmp/x.zip", "reference://x", "data:image/png;base64,AA==", "odd+x://y",
        "jlab://x/y.png", "libarchive://a::s3://b/c", "://", "generic://x", "dask://x",
    ],
)  # fmt: skip
def test_only_documented_schemes_are_followed(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    monkeypatch.setattr(socket, "getaddrinfo", None)  # asking any host would raise
    monkeypatch.setattr(socket.socket, "connect", None)
    real = write(tmp_path / "real.png", b"abc")
    names = write(tmp_path / "names.txt", f"{address}\n{real}\n".encode())
    items = list(list_items([str(names)])[1])
    contents = [content for _, content in read_items("files", items)]
    assert sum(isinstance(content, MasqclipError) for content in contents) == 1
    assert contents[[item.key for item in items].index(str(real))] == b"abc"


def test_a_scheme_may_be_allowed(tmp_path: Path) -> None:
    names = write(tmp_path / "names.txt", b"http://127.0.0.1:9/a.png\n")
    good, _ = listed(names, schemes=["http"])
    assert len(good) == 1


# Names and files


def test_file_names_that_are_no_text_are_rows_and_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    odd = os.fsencode(folder) + b"/caf\xe9 100%.png"
    with open(odd, "wb") as file:
        file.write(b"abc")
    (folder / "plain.png").write_bytes(b"def")
    items = list(list_items([str(folder)])[1])
    assert len(items) == 2
    assert all(item.key.encode() for item in items)
    assert any("caf%E9 100%25.png" in item.key for item in items)
    from masqclip.batch.items import items_table, table_items

    again = table_items(items_table(items))
    assert {bytes(c) for _, c in read_items("files", again)} == {b"abc", b"def"}  # type: ignore[arg-type]


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder.png").mkdir()
    write(tmp_path / "large.png", bytes(2000))
    rows = ["pipe.png", "loop.png", "folder.png", "large.png", "/dev/zero", "a\0b", "x" * 9000]
    names = write(tmp_path / "names.txt", "\n".join(rows).encode())
    items = list(list_items([str(names)])[1])
    contents = dict(read_items("files", items, max_bytes=1000))
    assert len(items) == len(rows)
    assert all(isinstance(content, MasqclipError) for content in contents.values())
    assert all("\n" not in str(content) for content in contents.values())


def test_odd_rows_of_tables_are_rows(tmp_path: Path) -> None:
    paths = pa.table({"path": ["/nowhere.png", None, "", "a\0b", "http://x/y"]})
    pq.write_table(paths, tmp_path / "paths.parquet")
    items = list(list_items([str(tmp_path / "paths.parquet")])[1])
    contents = [content for _, content in read_items("files", items)]
    assert len(contents) == 5
    assert all(isinstance(content, MasqclipError) for content in contents)
    table = pa.table({"image": [b"abc", None, b"", b"x" * 5000]})
    pq.write_table(table, tmp_path / "bytes.parquet")
    kind, rows = list_items([str(tmp_path / "bytes.parquet")])
    read = [content for _, content in read_items(kind, list(rows), max_bytes=1000)]
    assert read[0] == b"abc"
    assert all(isinstance(content, MasqclipError) for content in read[1:])


def test_a_damaged_table_is_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a"]}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    for spoilt in (data[:50], b"PAR1", data[:4] + bytes(40) + data[44:]):
        write(tmp_path / "b.parquet", spoilt)
        items: list[Item] = []
        with contextlib.suppress(MasqclipError):  # any other error fails
            items = list(list_items([str(tmp_path / "b.parquet")])[1])
        assert all(item.error or item.file for item in items)


def odd_text(*values: bytes) -> pa.Array:
    """Text that is not UTF-8, as Arrow and Parquet let it pass."""
    _, ends, content = pa.array(list(values)).buffers()
    return pa.Array.from_buffers(pa.string(), len(values), [None, ends, content])


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
     pa.dictionary(pa.int32(), pa.large_string())],
    ids=str,
)  # fmt: skip
def test_paths_in_any_kind_of_text_column(kind: pa.DataType, tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"a")
    paths = pa.array(["a.png", None, "a.png", "gone.png"]).cast(kind)
    pq.write_table(pa.table({"path": paths}), tmp_path / "t.parquet")
    items = list(list_items([str(tmp_path / "t.parquet")])[1])
    contents = [content for _, content in read_items("files", items)]
    assert contents[::2] == [b"a", b"a"]
    assert "t.parquet#1: no path in this row" in str(contents[1])
    assert "gone.png: no such file" in str(contents[3])


@pytest.mark.parametrize(
    "kind",
    [pa.binary(), pa.large_binary(), pa.binary_view(), pa.binary(3),
     pa.dictionary(pa.int32(), pa.binary())],
    ids=str,
)  # fmt: skip
def test_pictures_in_any_kind_of_bytes_column(kind: pa.DataType, tmp_path: Path) -> None:
    values = pa.array([b"abc", b"def", None, b"abc"], pa.binary(3)).cast(pa.binary()).cast(kind)
    pq.write_table(pa.table({"image": values}), tmp_path / "t.parquet")
    kind_of_items, items = list_items([str(tmp_path / "t.parquet")])
    contents = [content for _, content in read_items(kind_of_items, list(items))]
    assert [contents[n] for n in (0, 1, 3)] == [b"abc", b"def", b"abc"]
    assert "t.parquet#2: no picture in this row" in str(contents[2])


@pytest.mark.parametrize(
    ("first", "second", "read"),
    [
        # Each table has its own column of the kind that the first has.
        ({"path": ["a.png"]}, {"file_name": ["b.png"]}, 2),
        ({"path": ["a.png"]}, {"image": [b"x"], "file_name": ["b.png"]}, 2),
        ({"path": ["a.png"]}, {"n": [1], "path": pa.array(["b.png"]).dictionary_encode()}, 2),
        ({"image": [b"a"]}, {"bytes": [b"b"]}, 2),
        ({"image": [b"a"]}, {"image": ["b.png"], "bytes": [b"b"]}, 2),
        # And where there is none, the table is an error of its own.
        ({"path": ["a.png"]}, {"image": [b"b"]}, 1),
        ({"image": [b"a"]}, {"path": ["b.png"]}, 1),
        ({"path": ["a.png"]}, {"n": [1]}, 1),
    ],
)
def test_tables_whose_columns_differ(
    first: dict[str, object], second: dict[str, object], read: int, tmp_path: Path
) -> None:
    for name in "ab":
        write(tmp_path / f"{name}.png", name.encode())
    pq.write_table(pa.table(first), tmp_path / "0.parquet")
    pq.write_table(pa.table(second), tmp_path / "1.parquet")
    kind, items = list_items([f"{tmp_path}/*.parquet"])
    contents = [content for _, content in read_items(kind, list(items))]
    assert contents[:read] == [b"a", b"b"][:read]
    assert ["1.parquet: " in str(content) for content in contents[read:]] == [True] * (2 - read)


def test_a_table_cut_short_is_an_error_and_the_others_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"a")
    for name in ("0", "1", "2"):
        pq.write_table(pa.table({"path": ["a.png"] * 3}), tmp_path / f"{name}.parquet")
    for name in ("0", "1"):
        whole = (tmp_path / f"{name}.parquet").read_bytes()
        write(tmp_path / f"{name}.parquet", whole[: len(whole) // 2])
    items = list(list_items([f"{tmp_path}/*.parquet"])[1])
    assert [item.error is None for item in items] == [False, False, True, True, True]
    assert all("damaged" in str(item.error) for item in items[:2])


def test_names_that_are_not_utf_8_in_lists_tables_and_tars(tmp_path: Path) -> None:
    odd = b"caf\xe9.png"
    write(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + odd)), b"abc")
    names = write(tmp_path / "names.txt", b"\xef\xbb\xbf" + odd + b"\r\n")
    text = odd_text(odd, odd)
    pq.write_table(pa.table({"path": text}), tmp_path / "text.parquet")
    pq.write_table(pa.table({"path": text.dictionary_encode()}), tmp_path / "codes.parquet")
    for source in (names, tmp_path / "text.parquet", tmp_path / "codes.parquet"):
        kind, found = list_items([str(source)])
        assert dict(read_items(kind, list(found))) == {"caf%E9.png": b"abc"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(os.fsdecode(odd))
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    tar_path = os.fsdecode(os.fsencode(tmp_path) + b"/t\xe9.tar")
    kind, found = list_items([str(write(Path(tar_path), buffer.getvalue()))])
    ((key, content),) = read_items(kind, list(found))
    assert key.endswith("/t%E9.tar/caf%E9.png")
    assert content == b"abc"


def test_marks_at_the_start_of_a_list(tmp_path: Path) -> None:
    write(tmp_path / "a.png", b"abc")
    names = write(tmp_path / "names.txt", b"\xef\xbb\xbfa.png\r\n")
    (item,) = list_items([str(names)])[1]
    assert item.key == "a.png"
    assert [content for _, content in read_items("files", [item])] == [b"abc"]
    for encoding in ("utf-16", "utf-32"):
        write(names, "a.png\n".encode(encoding))
        kind = encoding.upper()
        with pytest.raises(MasqclipError, match=rf"names.txt: {kind} text: save the list as UTF-8"):
            list_items([str(names)])


# Two runs on a store without locks


def test_a_note_locks_a_remote_folder_until_it_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"memory://{tmp_path.name}/out")
    with lock_job(store):
        with (
            pytest.raises(MasqclipError, match=rf"process {os.getpid()} on .* at work"),
            lock_job(store),
        ):
            pass
        note = store.read(NOTE)
    assert not store.exists(NOTE)
    store.write(NOTE, note)  # of a run that was killed
    with pytest.raises(MasqclipError, match="at work"), lock_job(store):
        pass
    import time

    now = time.time()
    monkeypatch.setattr("masqclip.batch.locks.time.time", lambda: now + FRESH_SECONDS + 1)
    with lock_job(store):
        pass
    store.write(NOTE, b"{damaged")
    with lock_job(store):
        pass
