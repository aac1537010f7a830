"""Where results go, at the edges of what file systems take; and plans, step by step."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from heard import Heard
from PIL import Image

from masqclip.cli import plan
from masqclip.cli.main import main
from masqclip.cli.output_files import (
    UnwritableError,
    check_file,
    check_folder,
    plan_files,
    write_document,
    write_picture,
)
from masqclip.cli.plan import PlanStep
from masqclip.errors import MasqclipError

# Places


def test_a_name_has_so_many_bytes_and_a_path_so_many_steps(tmp_path: Path) -> None:
    check_folder(tmp_path / "new" / ("n" * 255))
    check_folder(tmp_path / "new" / ("\u00e9" * 127))
    for name in ("n" * 256, "\u00e9" * 128):
        for place in (tmp_path / "new" / name, tmp_path / "new" / name / "x", tmp_path / name):
            with pytest.raises(MasqclipError, match=r"--out .*; give a shorter name"):
                check_folder(place)
    steps = 200 - len(tmp_path.parts)
    check_folder(tmp_path.joinpath(*["d"] * steps))
    with pytest.raises(MasqclipError, match="201 folders deep; give a shorter path"):
        check_folder(tmp_path.joinpath(*["d"] * (steps + 1)))


def test_long_places_are_shown_by_their_beginning(tmp_path: Path) -> None:
    place = Path("m" * 150) / ("n" * 300)
    with pytest.raises(MasqclipError) as refused:
        check_folder(place, "--there")
    assert str(refused.value).startswith(f"--there {str(place)[:200]}...: File name too long")


def test_a_folder_is_refused_for_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to("nowhere")
    check_folder(tmp_path)
    for name, said in (("file", "is a file; name a folder"), ("gone", "is a link to nothing")):
        for place in (tmp_path / name, tmp_path / name / "sub"):
            with pytest.raises(MasqclipError, match=said):
                check_folder(place)
    for refused in (os.W_OK, os.X_OK):
        monkeypatch.setattr(os, "access", lambda path, mode, no=refused: not mode & no)
        with pytest.raises(MasqclipError, match="may not be written to; name another folder"):
            check_folder(tmp_path / "new")


def test_a_file_is_refused_for_what_it_is(tmp_path: Path) -> None:
    check_file(tmp_path / "new.json", "--x")
    (tmp_path / "old.json").touch()
    check_file(tmp_path / "old.json", "--x")
    with pytest.raises(MasqclipError, match=r"--x .*: it is a folder; name a file"):
        check_file(tmp_path, "--x")
    with pytest.raises(MasqclipError, match=r"--x .*: .* is a file; name a folder"):
        check_file(tmp_path / "old.json" / "x", "--x")
    with pytest.raises(MasqclipError, match=r"--x .*; give a shorter name"):
        check_file(tmp_path / ("n" * 256), "--x")


def test_results_of_pictures_with_long_names_have_names_that_fit(tmp_path: Path) -> None:
    paths = [Path(f"{'x' * 250}{end}.png") for end in "aab"] + [Path("\u6728" * 84 + ".png")]
    found = plan_files(paths, tmp_path, "panoptic")
    names = [path.name for files in found for path in (files.overlay, files.document)]
    assert len(set(names)) == 8
    assert max(len(name.encode()) for name in names) <= 255
    assert all(name.endswith((".panoptic.png", ".panoptic.json")) for name in names)
    for files in found:
        files.document.touch()


def test_names_of_results_are_taken_once(tmp_path: Path) -> None:
    names = ["cat.jpg", "CAT.png", "cat-2.gif", "cat-2.panoptic.png", "dog.panoptic.json", "dog"]
    paths = [tmp_path / name for name in names]
    found = plan_files(paths, tmp_path, "panoptic")
    stems = ["cat", "CAT-3", "cat-2-2", "cat-2.panoptic", "dog.panoptic", "dog-2"]
    assert [files.overlay.name for files in found] == [f"{stem}.panoptic.png" for stem in stems]
    assert [files.document.name for files in found] == [f"{stem}.panoptic.json" for stem in stems]


def test_results_are_written_whole(tmp_path: Path) -> None:
    write_document(tmp_path / "a.json", {"a": [1]})
    assert (tmp_path / "a.json").read_text() == '{\n "a": [\n  1\n ]\n}\n'
    write_picture(tmp_path / "a.png", Image.new("RGB", (3, 2), "teal"))
    with Image.open(tmp_path / "a.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (3, 2))


@pytest.mark.parametrize(
    ("number", "kind"), [(28, UnwritableError), (30, UnwritableError), (36, MasqclipError)]
)
def test_what_no_file_fares_better_with_ends_all(
    number: int, kind: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("masqclip.data.files.write_atomically", fail)
    with pytest.raises(MasqclipError, match=f"cannot be written .{os.strerror(number)}") as told:
        write_document(tmp_path / "a.json", {})
    assert type(told.value) is kind


# Plans


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that ran; each makes the file that its last word names, or fails with it."""
    found: list[str] = []

    def run(words: Sequence[str], folder: Path) -> int:
        found.append(" ".join(words))
        if words[-1].isdigit():
            return int(words[-1])
        if words[1] != "nothing":
            (folder / words[1]).write_text(" ".join(words))
        return 0

    monkeypatch.setattr(plan, "_run", run)
    return found


STEPS = [PlanStep("one", "data 'a'", "a"), PlanStep("two", "train b", "b")]


def test_a_step_runs_again_when_it_or_what_was_before_changes(
    ran: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan.run_plan(STEPS, tmp_path)
    assert ran == ["data a", "train b"]
    assert capsys.readouterr().err.splitlines() == [
        "[1/2] one: masqclip data a", "[2/2] two: masqclip train b"
    ]  # fmt: skip
    ran.clear()
    assert plan.run_plan(STEPS, tmp_path, max_minutes=0.5)
    assert ran == []
    assert capsys.readouterr().err.splitlines() == ["[1/2] one: done", "[2/2] two: done"]
    (tmp_path / "b").write_text("else")  # what the last one made is another
    assert plan.run_plan(STEPS, tmp_path, max_minutes=0.5)
    assert ran == ["train b --max-minutes 0.5"]
    ran.clear()
    (tmp_path / "a").unlink()
    assert plan.run_plan(STEPS, tmp_path, max_minutes=2)
    assert ran == ["data a"], "it is made as it was; and only training has so many minutes"
    ran.clear()
    assert plan.run_plan([PlanStep("one", "data a x", "a"), STEPS[1]], tmp_path)
    assert ran == ["data a x", "train b"], "what was made from another is made again"
    ran.clear()
    assert plan.run_plan([PlanStep("[b]", "data [b]", "[b]")], tmp_path)
    assert "[1/1] [b]: masqclip data '[b]'" in capsys.readouterr().err
    assert plan.run_plan([], tmp_path)


def test_a_step_that_makes_nothing_stops_the_plan(ran: list[str], tmp_path: Path) -> None:
    steps = [STEPS[0], PlanStep("none", "train nothing", "c"), STEPS[1]]
    assert not plan.run_plan(steps, tmp_path)
    assert ran == ["data a", "train nothing"]
    assert json.loads((tmp_path / "plan.json").read_text()).keys() == {"one"}
    with pytest.raises(MasqclipError, match=r"the step 'bad' failed \(exit code 3\); mend"):
        plan.run_plan([PlanStep("bad", "data 3", "a")], tmp_path)


@pytest.mark.parametrize("content", ["[]", "1"])
def test_a_record_of_no_plan_is_refused(content: str, ran: list[str], tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(MasqclipError, match="is no record of a plan: delete it"):
        plan.run_plan(STEPS, tmp_path)


GOOD = '[[step]]\nname = "x"\nrun = "info"\nmakes = "y"\n'


@pytest.mark.parametrize(
    "content",
    [
        "", "step = 1", GOOD.replace("makes", "wakes"), GOOD + "more = 1\n",
        GOOD.replace('"y"', "1"), GOOD.replace('"y"', '""'), GOOD.replace('"x"', '""'),
        GOOD.replace('"info"', "\"it's\""),
    ],
)  # fmt: skip
def test_a_wrong_plan_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text(content)
    with pytest.raises(MasqclipError, match=r"plan\.toml is not a plan .* name, run and makes"):
        plan.load_plan(path)
    path.write_text(GOOD)
    assert plan.load_plan(path) == [PlanStep("x", "info", "y")]
    path.write_text(GOOD + "#" * (1_000_000 - len(GOOD)))
    assert plan.load_plan(path) == [PlanStep("x", "info", "y")]
    path.write_text(GOOD + "#" * (1_000_001 - len(GOOD)))
    with pytest.raises(MasqclipError, match="the plan"):
        plan.load_plan(path)


# The published datasets


class Dataset(SimpleNamespace):
    """A published dataset of straw: its tasks, and what each lacks."""

    def root(self, given: Path) -> Path:
        return given / "below"

    def lacking(self, root: Path) -> dict[str, list[Any]]:
        return dict(self.lacks)

    def check(self, root: Path) -> list[Any]:
        return list(self.findings)


def test_what_of_a_dataset_is_there_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r").mkdir()
    monkeypatch.setenv("COLUMNS", "100")
    masks = SimpleNamespace(about="masks [m]", tasks=("instance", "panoptic"))
    maps = SimpleNamespace(about="maps", tasks=())
    findings = [
        SimpleNamespace(part=masks, state="there", remark="in [x]\nmasks"),
        SimpleNamespace(part=maps, state="missing", remark="get it"),
    ]
    truth = SimpleNamespace(pictures=[1, 2])
    dataset = Dataset(
        lacks={"instance": [], "semantic": [maps, masks], "panoptic": []}, findings=findings,
        convert=Heard(), load=Heard(truth), pictures=2,
    )  # fmt: skip
    gone = Heard([])
    monkeypatch.setattr("masqclip.data.published.find_dataset", Heard(dataset))
    monkeypatch.setattr("masqclip.data.datasets.missing_pictures", gone)

    def check(code: int, *words: str) -> list[str]:
        assert main(["data", "check", "x", "--root", "r", *words]) == code
        shown, errors = capsys.readouterr()
        return [line.rstrip() for line in (shown + errors).splitlines()]

    lines = check(0)
    assert lines[0] == "x in r/below"
    assert any("instance, panoptic" in line and "in [x] masks" in line for line in lines)
    assert any("converting" in line and "missing" in line for line in lines)
    assert lines[-2:] == [
        "semantic: lacks maps, masks [m]", "2 pictures are ready for: instance, panoptic",
    ]  # fmt: skip
    assert dataset.load.only[0] == (Path("r"), ["instance", "panoptic"])
    assert dataset.convert.calls == []
    dataset.pictures = 5
    assert check(0)[-1].startswith("note: the published test set has 5 pictures; figures on")
    dataset.pictures = 0  # no number was published
    assert check(0, "--convert")[-1].startswith("2 pictures")
    assert dataset.convert.only[0][0] == Path("r")
    gone.answer = ["p.jpg", "q.jpg"]
    assert check(2)[-1].endswith(
        "2 of 2 pictures of x are missing, such as p.jpg: unpack them again"
    )
    dataset.lacks = {"semantic": [maps]}
    assert check(2)[-1].endswith("x in r cannot be measured yet: get what the table names")
    findings[1].state = "convertible"
    assert check(2)[-1].endswith("cannot be measured yet: --convert makes what can be made")
