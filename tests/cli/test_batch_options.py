"""Every option of `masqclip batch` reaches its job; and what is said of a job. None is run."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from heard import Heard

from masqclip.batch.items import Item
from masqclip.batch.shards import JobFolder
from masqclip.batch.status import Status
from masqclip.cli.main import main
from masqclip.model import MasQClipModel

pytestmark = pytest.mark.usefixtures("here")


END = Status(1, 2, 1, 2, 0, {}, {}, None)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Heard:
    heard = Heard(END)
    monkeypatch.setattr("masqclip.batch.job.run_job", heard)
    monkeypatch.setattr("masqclip.hub.model_folders", lambda name: (Path(name),))
    monkeypatch.setattr("masqclip.baselines.loading.system_of", lambda folder: MasQClipModel)
    monkeypatch.setattr("masqclip.data.digests.digest_model", lambda folder: f"digest of {folder}")
    return heard


def test_batch_takes_its_options(job: Heard) -> None:
    words = shlex.split("batch photos -o out -v cat,sky --task semantic --model mine")
    words += shlex.split(
        "--min-score 0.25 --level 0 --not dog --stuff sky --template the_{} --format coco --overlay"
    )
    words += shlex.split("--save-embeddings --column picture --shard-size 3 --memory 2.5")
    words += shlex.split(
        "--max-file 7 --allow-scheme https --allow-scheme ftp --workers 2 --device cpu"
    )
    assert (
        main([*words, "--dtype", "float16", "--size", "64:96", "--ray-address", "auto", "-q"]) == 0
    )
    settings = JobFolder("out").read()[0]
    vocabulary = settings.vocabulary
    assert vocabulary is not None
    assert (vocabulary.names, vocabulary.stuff_ids) == (("cat", "sky"), {1})
    assert (vocabulary.distractors, vocabulary.templates) == (("dog",), ("the_{}",))
    asked = settings.to_json()
    del asked["vocabulary"]
    assert asked == {
        "inputs": ["photos"], "kind": "files", "column": "picture", "model": "mine",
        "dtype": "float16", "size": "64:96", "task": "semantic", "min_score": 0.25,
        "level": 0,
        "format": "coco", "overlay": True, "save_embeddings": True, "shard_size": 3,
        "memory": 2.5, "max_file": 7.0, "schemes": ["https", "ftp"], "weights": "digest of mine",
    }  # fmt: skip
    (folder, machines, _), _ = job.only
    assert folder.store.root == JobFolder("out").store.root
    assert (machines.address, machines.workers, machines.device) == ("auto", 2, "cpu")


def test_batch_without_options(job: Heard, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["batch", "photos", "-o", "out", "-v", "cat"]) == 0
    asked = JobFolder("out").read()[0].to_json()
    del asked["vocabulary"]
    assert asked == {
        "inputs": ["photos"], "kind": "files", "column": None, "model": "masqclip-mini",
        "dtype": None, "size": None, "task": "panoptic", "min_score": None, "format": "parquet",
        "level": None,
        "overlay": False, "save_embeddings": False, "shard_size": 256, "memory": 1.0,
        "max_file": 256.0, "schemes": [], "weights": "digest of masqclip-mini",
    }  # fmt: skip
    (_, machines, _), _ = job.only
    assert (machines.address, machines.workers, machines.device) == (None, None, None)
    assert capsys.readouterr().out.splitlines() == [
        "done    1 of 1 shards: 2 of 2 pictures", "failed  0", "left    0", "in      out",
    ]  # fmt: skip


def test_batch_says_what_is_to_be_known_of_its_names(
    job: Heard, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "\U000f0000"
    world = {"model": "mine", "about": "look elsewhere", "names": ["cat"]}
    Path("mine").mkdir()
    Path("mine/model_card.json").write_text(json.dumps({"world": world}))
    words = ["batch", "photos", "-v", f"cat, dog, sky, {name}", "-m", "mine"]
    known = [
        "taken as regions: sky ('thing: NAME', or --things, counts them)",
        "mine has never read: dog, sky, \\U000f0000; look elsewhere",
    ]
    drawn = "no font here has the letters of some names, which are numbers in the overlay: #4"

    def told(out: str, *more: str) -> list[str]:
        assert main([*words, "-o", out, *more]) == 0
        lines = capsys.readouterr().err.splitlines()
        return [line.partition("note: ")[2] for line in lines if "note: " in line]

    assert told("one") == known
    assert told("two", "-q") == []
    assert told("three", "--overlay", "--ray-address", "auto") == known
    *others, last = told("four", "--overlay")
    assert others == known
    assert last.startswith(drawn)


def test_batch_goes_on_as_it_was_asked_to(job: Heard, capsys: pytest.CaptureFixture[str]) -> None:
    first = ["batch", "photos", "-o", "out", "-v", "cat", "-q"]
    assert main(first) == 0
    assert main(["batch", "-o", "out", "-q"]) == 0  # the job that is there
    assert main(first) == 0  # and the same words again
    assert len(job.calls) == 3
    assert capsys.readouterr() == ("", "")
    assert main([*first, "--min-score", "0.5"]) == 2  # but no others
    assert "min_score" in capsys.readouterr().err
    assert main(["batch", "-o", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_batch_says_what_came_of_it(
    job: Heard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", "photos", "-o", "out", "-v", "cat"]

    def told(answer: Status, code: int, *more: str) -> str:
        job.answer = answer
        assert main([*words, *more]) == code
        shown, errors = capsys.readouterr()
        assert (shown == "") == (code == 2 or "-q" in more)
        return shown + errors

    assert told(replace(END, errors=1), 0, "-q") == ""
    assert "2 of 2 pictures, 1 of them could not be read" in told(replace(END, errors=1), 0)
    assert "none of the 2 pictures could be read" in told(replace(END, errors=2), 2)
    failed = {number: f"why {number}\nnot" for number in range(7)}
    said = told(replace(END, shards=9, failed=failed), 2)
    assert "7 of 9 shards failed three times and were set aside (shard 0: why 0 not; " in said
    assert "shard 4: why 4 not; and 2 more); the others are in out; --retry-failed" in said

    monkeypatch.setattr(JobFolder, "status", lambda folder, verify: seen)
    seen = Status(1200, 9000, 2, 1003, 1001, failed, dict.fromkeys(range(5), "changed"), 3661.4)
    assert main([*words, "--status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "done    2 of 1,200 shards: 1,003 of 9,000 pictures, 1,001 of them could not be read",
        "failed  7",
        "damaged 5: the same command does them again",
        "left    1,191",
        "time    about 1:01:01, at the pace of the last minutes of work",
        *[f"  shard {number}: why {number} not" for number in range(5)],
        "  and 2 more",
        *[f"  shard {number}: changed" for number in range(5)],
        "in      out",
    ]
    seen = Status(2, 2, 0, 0, 0, {}, {}, None)
    assert main([*words, "--status"]) == 0
    assert "time    not known yet, at the pace" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--min-score", "1.1", "--min-score 1.1"),
        ("--shard-size", "0", "--shard-size 0"),
        ("--memory", "0", "--memory 0: give gigabytes, more than 0"),
        ("--max-file", "0", "--max-file 0: give megabytes, more than 0"),
        ("--workers", "0", "--workers 0"),
    ],
)
def test_batch_refuses_numbers_that_no_job_can_have(
    option: str, value: str, said: str, job: Heard, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", "photos", "-o", "out", "-v", "cat", "-q"]
    assert main([*words, option, value]) == 2
    assert said in capsys.readouterr().err
    assert not Path("out").exists()
    least = {"--min-score": "1", "--memory": "0.5", "--max-file": "0.5"}.get(option, "1")
    assert main([*words, option, least]) == 0
    assert main(["batch", "photos", "-o", "new"]) == 2
    assert "no names given" in capsys.readouterr().err
    assert main(["batch", "photos", "-o", "new", "--save-embeddings"]) == 0
    assert JobFolder("new").read()[0].vocabulary is None


@pytest.mark.parametrize("damaged", [5, 7])
def test_batch_says_which_shards_are_done_again(
    damaged: int, job: Heard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "photos", "-o", "out", "-v", "cat", "-q"]) == 0
    monkeypatch.setattr(JobFolder, "repair", Heard(dict.fromkeys(range(damaged), "changed")))
    assert main(["batch", "-o", "out", "-q"]) == 0
    lines = [f"masqclip: warning: shard {n} is done again: changed" for n in range(5)]
    more = ["masqclip: warning: and 2 more shards"] if damaged == 7 else []
    assert capsys.readouterr().err.splitlines() == lines + more


@pytest.mark.parametrize("option", ["accept_changes", "verify", "retry_failed", "status"])
def test_batch_looks_after_a_job(
    option: str, job: Heard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["batch", "photos", "-o", "out", "-v", "cat", "-q"]) == 0
    repair, retry, looked, status = Heard({}), Heard(), Heard(), Heard(END)
    for name, heard in (
        ("repair", repair), ("retry", retry), ("check_pictures", looked), ("status", status),
    ):  # fmt: skip
        monkeypatch.setattr(JobFolder, name, heard)
    words = ["batch", "-o", "out", "-q"]
    assert main(words) == 0
    assert (repair.only[1], len(retry.calls), len(looked.calls)) == ({"verify": False}, 0, 1)
    assert status.calls == []
    assert main([*words, "--" + option.replace("_", "-")]) == 0
    verify = {"verify": option == "verify"}
    if option == "status":
        assert status.only[1] == verify
        assert main([*words, "--status", "--verify"]) == 0
        assert status.calls[1][1] == {"verify": True}
        assert len(job.calls) == 2
    else:
        assert [named for _, named in repair.calls] == [{"verify": False}, verify]
        assert len(retry.calls) == (option == "retry_failed")
        assert len(looked.calls) == (1 if option == "accept_changes" else 2)


def test_embeddings_are_named_with_what_made_them(
    job: Heard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", "photos", "-o", "made", "-q", "--save-embeddings", "--shard-size", "3"]
    assert main([*words, "-m", "mine", "--dtype", "float16", "--size", "64"]) == 0
    items: list[Item] = []
    monkeypatch.setattr("masqclip.batch.inputs.list_items", lambda *given: ("embeddings", items))
    items += list(JobFolder("made").items(0))
    words = ["batch", "made", "-v", "cat", "-q"]
    for option, said in (
        (["--overlay"], "embeddings hold no pictures; leave --overlay and --save-embeddings"),
        (["--save-embeddings"], "embeddings hold no pictures"),
        (["--size", "32"], "these embeddings were made with --size 64, not 32: leave it out"),
        (["-m", "other"], "these embeddings are of the model mine, not of other"),
    ):
        assert main([*words, "-o", "new", *option]) == 2
        assert said in capsys.readouterr().err
    for out, option in (("out", []), ("same", ["-m", "mine", "--size", "64"])):
        assert main([*words, "-o", out, *option]) == 0
        settings = JobFolder(out).read()[0]
        assert (settings.kind, settings.model, settings.dtype) == ("embeddings", "mine", "float16")
        assert settings.size == "64"
        assert (settings.shard_size, settings.weights) == (3, "digest of mine")
    monkeypatch.setattr("masqclip.data.digests.digest_model", lambda folder: "others")
    assert main([*words, "-o", "new"]) == 2
    assert "were made by other weights under the same name (mine)" in capsys.readouterr().err


def test_a_job_goes_on_with_its_weights_only(
    job: Heard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["batch", "photos", "-v", "cat", "-q"]
    assert main([*words, "-o", "out"]) == 0
    settings = JobFolder("out").read()[0]
    JobFolder("older").plan(replace(settings, weights=None), JobFolder("out").items(0))
    monkeypatch.setattr("masqclip.data.digests.digest_model", lambda folder: "others")
    for again in (["batch", "-q"], words):
        assert main([*again, "-o", "out"]) == 2
        assert "weights" in capsys.readouterr().err
        assert main([*again, "-o", "older"]) == 0, "a version before did not ask"
