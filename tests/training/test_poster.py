"""The poster's table: its tables' arithmetic, and a tiny run of all of it from one command."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from drawings import drawings, write_cache
from masqclip.data.coco import CocoPanoptic
from masqclip.errors import MasqclipError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import poster  # noqa: E402
import poster_figures  # noqa: E402
import poster_runs  # noqa: E402
import poster_tables as tables  # noqa: E402
from poster_runs import SeedRuns  # noqa: E402
from poster_world import PosterWorld, choose_names, read_settings  # noqa: E402

TINY = BENCHMARKS / "poster_tiny.toml"


def cells(**rows: list[float]) -> dict[str, list[dict[str, float]]]:
    """Of one column, ``novel``, in percent."""
    return {name: [{"novel": value / 100} for value in found] for name, found in rows.items()}


DISTILLED = {
    "teacher": [20.0, 21.0, 22.0],
    "one round": [25.0, 26.0, 27.0],
    "two rounds": [25.0, 27.0, 30.0],
    "longer teacher": [23.0, 18.0, 24.0],
}


def test_an_order_counts_where_it_is_larger_than_the_spread_of_paired_seeds() -> None:
    found = {
        (step.lower, step.higher): step
        for step in tables.steps(tables.DISTILLATION, cells(**DISTILLED))
    }
    first = found["teacher", "one round"]
    assert (first.gain, first.spread) == pytest.approx((5.0, 0.0))
    assert first.verdict == "as in the paper"
    second = found["one round", "two rounds"]
    assert (second.gain, second.spread) == pytest.approx((4 / 3, (7 / 3) ** 0.5))
    assert second.verdict == "within the spread"
    longer = found["longer teacher", "teacher"]
    assert longer.gain == pytest.approx(-2 / 3)
    assert longer.verdict == "within the spread"
    reversed_ = tables.Step("novel", "a", "b", -3.0, 1.0, seeds=3)
    assert reversed_.verdict == "the other way"


def test_a_single_seed_says_nothing_of_spreads() -> None:
    one = {name: found[:1] for name, found in DISTILLED.items()}
    assert {step.verdict for step in tables.steps(tables.DISTILLATION, cells(**one))} == {
        "one seed only"
    }


def test_a_table_shows_means_spreads_and_the_papers_figures() -> None:
    shown = tables.markdown(tables.DISTILLATION, cells(**DISTILLED), {}).splitlines()
    assert shown[0] == "| | base | novel | all |"
    assert shown[2] == "| teacher | - | 21.0 ± 1.0 (22.6) | - |"
    assert len(shown) == 2 + len(DISTILLED)


def test_the_papers_figures_have_the_papers_orders() -> None:
    for table in tables.TABLES.values():
        for column, pairs in table.orders.items():
            for lower, higher in pairs:
                less, more = (table.paper[row][column] for row in (lower, higher))
                assert less is not None
                assert more is not None
                assert less < more, (table.name, column, lower, higher)


def test_novel_names_are_never_annotated() -> None:
    names = choose_names(48)
    assert len(names.things) == 48
    assert len(names.novel) == 30
    assert not set(names.base) & set(names.novel)
    keep = names.keep()
    assert all(keep({"name": name}) for name in names.base)
    assert not any(keep({"name": name}) for name in names.novel)
    assert choose_names(48) == names


def test_a_figure_that_is_none_has_no_place_in_a_plot() -> None:
    known = {"seed": 0, "step": 2, "base": 0.5, "novel": 0.25}
    found = tables.curves_plot({"teacher": [known, known | {"step": 4, "novel": None}]})
    assert found == tables.curves_plot({"teacher": [known]})


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"seeds": ""}, "--seeds : give whole numbers"),
        ({"seeds": "0,0"}, "--seeds 0,0: give each number once"),
        ({"processes": 0}, "--processes 0: give 1 or more"),
        ({"minutes": -1.0}, "--minutes -1: give 0 or more"),
        ({"settings": Path("nowhere.toml")}, "--settings 'nowhere.toml': no such file"),
        ({"settings": BENCHMARKS / "../pyproject.toml"}, "its table [world] lacks base_things"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_made(
    options: dict[str, Any], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        poster.main(**{"out": tmp_path / "out", "settings": TINY} | options)
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_scenes_that_a_kill_left_unfinished_are_drawn_to_their_end(
    sprites: Path, tmp_path: Path
) -> None:
    world = PosterWorld.read(TINY, tmp_path, sprites, 0)
    last = world.scenes() / "annotations/panoptic.json"
    whole = last.read_bytes()
    last.unlink()  # it is written after the captions
    assert len(CocoPanoptic(world.scenes())) == world.settings["scenes"]
    assert last.read_bytes() == whole


@pytest.fixture
def given(sprites: Path, tiny_clip: Path, tiny_proposer: Path, tmp_path: Path) -> dict[str, Any]:
    """What all seeds share, as `poster.make_setup` takes it."""
    return {
        "out": tmp_path, "settings": TINY, "sprites": sprites, "clip": tiny_clip,
        "proposer": tiny_proposer, "seed_offset": 0, "device": "cpu", "minutes": 0.0,
    }  # fmt: skip


def test_one_folder_is_of_one_world_one_clip_and_one_proposer(
    given: dict[str, Any], tiny_proposer: Path, tmp_path: Path
) -> None:
    poster.make_setup(**given)
    poster.make_setup(**given)
    other = tmp_path / "other.toml"
    other.write_text(TINY.read_text().replace("scenes = 8", "scenes = 9"))
    changes = {"seed_offset": 1000, "settings": other, "clip": tiny_proposer}
    names = {"seed_offset": "--seed-offset", "settings": "in --settings", "clip": "--clip"}
    for name, value in changes.items():
        with pytest.raises(MasqclipError, match=f"other content of .*{names[name]}"):
            poster.make_setup(**given | {name: value})


def test_the_shipped_model_is_taken_apart_whole_or_again(given: dict[str, Any]) -> None:
    given |= {"clip": None, "proposer": None}
    setup = poster.make_setup(**given)
    told = setup.clip / "preprocessor_config.json"
    whole = told.read_bytes()
    told.unlink()  # as a kill would leave it: without it a CLIP would be taken for OpenAI's
    poster.make_setup(**given)
    assert told.read_bytes() == whole


def test_a_run_that_was_killed_before_it_was_noted_as_done_keeps_its_minutes(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = SeedRuns(poster.make_setup(**given), 0, tmp_path / "seed-0")

    def killed(path: Path, content: bytes) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(poster_runs, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            runs.proposer("teacher")
    out = runs.proposer("teacher")
    seconds = json.loads((out / "progress.json").read_text())["seconds"]
    assert json.loads((out / "done.json").read_text())["minutes"] == seconds / 60 > 0


def test_other_settings_ask_for_all_of_a_seed_to_be_deleted(
    given: dict[str, Any], tmp_path: Path
) -> None:
    runs = SeedRuns(poster.make_setup(**given), 0, tmp_path / "seed-0")
    done = runs.folder / "teacher" / "done.json"
    done.parent.mkdir(parents=True)
    done.write_text('{"made by": {}}')
    with pytest.raises(MasqclipError, match=f"or delete {runs.folder}$"):  # measures included
        runs.proposer("teacher")


@pytest.fixture(scope="module")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    studios = ("noto", "fluent-emoji", "fluent-emoji-flat")
    folder = tmp_path_factory.mktemp("poster") / "sprites"
    return write_cache(folder, drawings("second", every=1, studios=studios))


def test_one_command_trains_and_measures_everything(
    sprites: Path,
    tiny_clip: Path,
    tiny_proposer: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def run(settings: Path = TINY) -> None:
        poster.main(
            out=tmp_path,
            seeds="0,1",
            settings=settings,
            sprites=sprites,
            clip=tiny_clip,
            proposer=tiny_proposer,
            device="cpu",
        )

    run()
    kept = json.loads((tmp_path / "poster.json").read_text())
    for name, table in tables.TABLES.items():
        assert kept["cells"][name].keys() == table.paper.keys()
        for row, seeds in kept["cells"][name].items():
            assert len(seeds) == 2
            wanted = {c for c, value in table.paper[row].items() if value is not None}
            for figures in seeds:
                measured = {c for c in table.columns if figures.get(c) is not None}
                assert wanted <= measured, (name, row)
    facts = {row: figures[0] for row, figures in kept["cells"]["poster"].items()}
    assert all(figures["learned"] > 0 and figures["gflops"] > 0 for figures in facts.values())
    steps = {point["step"] for point in kept["curves"]["teacher"]}
    assert steps == {1, 2, 3, 4, 5, 6}
    text = (tmp_path / "poster.md").read_text()
    assert all(table.title in text for table in tables.TABLES.values())
    for plot in ("gains.svg", "curves.svg"):
        assert (tmp_path / plot).read_text().startswith("<svg")
    told = capfd.readouterr().out
    assert all(f"seed {seed}: teacher, 2 steps" in told for seed in (0, 1))
    # Measured seeds are done: of their folders the figures alone are read again.
    for seed in (0, 1):
        folder = tmp_path / f"seed-{seed}"
        figures = (folder / "figures.json").read_bytes()
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "figures.json").write_bytes(figures)
    run()
    assert "seed 0: " not in capfd.readouterr().out
    assert (tmp_path / "poster.md").read_text() == text
    other = tmp_path / "other.toml"
    other.write_text(TINY.read_text().replace("momentum = 0.0", "momentum = 0.5"))
    with pytest.raises(SystemExit):
        run(other)
    assert "was measured with other settings" in capfd.readouterr().err


def test_a_seed_that_fails_is_named_and_the_others_are_worked_on(
    given: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    setup = poster.make_setup(**given)
    for seed in (0, 1):
        done = tmp_path / f"seed-{seed}" / "teacher" / "done.json"
        done.parent.mkdir(parents=True)
        done.write_text('{"made by": {}}')
    with pytest.raises(MasqclipError, match=r"^seed 0: .*; seed 1: .*trained with other settings"):
        poster._spread([0, 1], 2, setup, tmp_path)
    told = capfd.readouterr().err
    assert "seed 0: " in told
    assert "seed 1: " in told


def test_the_page_shows_what_was_measured_with_these_settings(tmp_path: Path) -> None:
    docs = BENCHMARKS.parent / "docs"
    kept = poster_figures.read_figures(docs / "poster")
    settings = read_settings(BENCHMARKS / "poster.toml")
    assert [one["made by"] for one in kept] == [settings] * len(kept)
    page = (docs / "table.md").read_text("utf-8")
    assert page.count("<!-- poster: ") == len(tables.TABLES)
    assert poster_figures.filled(page, kept) == page
    poster_figures.write_plots(tmp_path, kept)
    for plot in ("gains.svg", "curves.svg"):
        assert (tmp_path / plot).read_text() == (docs / "poster" / plot).read_text()


def test_a_page_is_filled_below_its_marks(tmp_path: Path) -> None:
    kept = BENCHMARKS.parent / "docs" / "poster"
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- poster: object score -->\n\n| old |\n| --- |\n\nand words\n")
    shutil.copytree(kept, tmp_path / "kept")
    poster_figures.main(tmp_path / "kept", page)
    text = page.read_text()
    assert "| old |" not in text
    assert text.startswith("# Page\n\n<!-- poster: object score -->\n\n| | base | novel | all |\n")
    assert text.endswith("|\n\nand words\n")
    with pytest.raises(SystemExit):
        poster_figures.main(tmp_path, page)  # no seed is finished there
