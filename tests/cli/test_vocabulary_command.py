"""`masqclip vocabulary`: examples of a dataset, used by every command that takes names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from masqclip.cli.main import main
from masqclip.clip.examples import MAX_EXAMPLES
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.open_coco import open_coco
from masqclip.data.stickers.files import write_stickers
from masqclip.data.stickers.scenes import SceneSettings, StickerWorld
from masqclip.data.stickers.sprites import load_sprites
from masqclip.segmenter import Segmenter
from masqclip.shots import take_shots

pytestmark = pytest.mark.usefixtures("here")
SPRITES = Path(__file__).parents[1] / "data" / "sprites"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen scenes as masqclip writes them."""
    folder = tmp_path_factory.mktemp("scenes")
    write_stickers(folder, StickerWorld(load_sprites(SPRITES), SceneSettings()), images=16, seed=1)
    return folder


@pytest.fixture(scope="module")
def names(scenes: Path) -> list[str]:
    """Two things that are often there, and one kind of stuff."""
    categories = open_coco(scenes).categories
    often = [categories.names[i] for i, _ in categories.masks.most_common()]
    kinds = {categories.names[i]: categories.is_thing(i) for i in categories.by_id}
    things = [name for name in often if kinds[name]]
    return [*things[:2], next(name for name in often if not kinds[name])]


def test_examples_of_a_dataset_are_used_by_every_command(
    scenes: Path, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["from-coco", str(scenes), "--shots", "2", "--only", ", ".join(names)]
    assert main(["vocabulary", *asked, "--out", "words.json", "--device", "cpu", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    words = Vocabulary.parse("words.json")
    assert set(words.names) == set(names)
    assert all(len(c.examples or ()) == 2 for c in words.categories)
    assert [c.thing for c in words.categories if c.name == names[2]] == [False]

    assert main(["vocabulary", "join", "zebra crossing", "words.json", "-o", "more.json"]) == 0
    assert Vocabulary.parse("more.json").names == ("zebra crossing", *words.names)
    capsys.readouterr()
    assert main(["vocabulary", "show", "more.json"]) == 0
    shown = capsys.readouterr().out
    assert "zebra crossing" in shown
    assert "its examples were made with masqclip-mini" in shown

    picture = str(scenes / "images" / "000000.png")
    quiet = ["--device", "cpu", "-q"]
    assert main(["segment", picture, "-v", "more.json", "--out", "found", *quiet]) == 0
    found = json.loads(Path("found/000000.panoptic.json").read_text())
    assert found["vocabulary"] == ["zebra crossing", *words.names]
    rivals = ["--not", "words.json", "--out", "rivals"]
    assert main(["segment", picture, "-v", "zebra crossing", *rivals, *quiet]) == 0

    label = ["label", str(scenes / "images"), "-v", "words.json", "--format", "coco"]
    label += ["--out", "dataset", *quiet]
    assert main(label) == 0
    assert main(label) == 0  # goes on with what is there
    other = [word if word != "words.json" else ", ".join(names) for word in label]
    assert main(other) == 2  # the names are the same, the examples are gone
    assert "vocabulary" in capsys.readouterr().err


def test_batch_jobs_keep_examples(scenes: Path, names: list[str]) -> None:
    asked = ["from-coco", str(scenes), "--shots", "1", "--only", ", ".join(names)]
    assert main(["vocabulary", *asked, "--out", "words.json", "--device", "cpu", "-q"]) == 0
    pytest.importorskip("pyarrow")
    from masqclip.batch.settings import JobSettings

    words = Vocabulary.parse("words.json")
    settings = JobSettings(inputs=("x",), kind="files", model="masqclip-mini", vocabulary=words)
    again = JobSettings.from_json(json.loads(json.dumps(settings.to_json())))
    assert again == settings


def test_figures_with_examples_are_told_from_those_without(scenes: Path, names: list[str]) -> None:
    from masqclip.data.published import load_truth
    from masqclip.evaluation.evaluate import evaluate, score
    from masqclip.evaluation.predictions import PredictionFolder
    from masqclip.evaluation.vocabularies import dataset_vocabulary, match_vocabulary

    segmenter = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    truth = load_truth("stickers", scenes).first(2)
    shots = take_shots(segmenter, open_coco(scenes), 1).vocabulary  # type: ignore[arg-type]
    assert sum(c.examples is not None for c in shots.categories) > 5
    with_examples = evaluate(
        segmenter, truth, ["instance"], words=match_vocabulary(truth, shots), folder="predictions"
    )
    plain = evaluate(segmenter, truth, ["instance"], words=dataset_vocabulary(truth))
    assert with_examples.hashes != plain.hashes
    assert with_examples.figures != plain.figures
    assert score(PredictionFolder(Path("predictions")), truth).hashes == with_examples.hashes


def test_what_a_dataset_shows_less_often_is_told(
    scenes: Path, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["from-coco", str(scenes), "--shots", "50", "--only", ", ".join(names)]
    assert main(["vocabulary", *asked, "--no-words", "--out", "w.json", "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert "fewer than 50 pictures show:" in told.err
    assert f"{names[0]} " in told.err
    assert not any(c.worded for c in Vocabulary.parse("w.json").categories)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["from-coco", "SCENES", "--out", "w.txt"], "--out w.txt: a vocabulary is a JSON file"),
        (["from-coco", "SCENES", "--out", "w.json", "--shots", "0"], "--shots"),
        (["from-coco", "SCENES", "--out", "w.json", "--only", "ant, dodo"], "no category 'dodo'"),
        (["from-coco", "nowhere", "--images", "x", "--out", "w.json"], "nowhere"),
        (["from-coco", "SCENES", "--out", "SCENES.json"], "is a folder: name a file"),
        (["join", "cat", "nowhere.json", "--out", "w.json"], "no vocabulary file 'nowhere.json'"),
        (["show", "nowhere.json"], "no vocabulary file 'nowhere.json'"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], said: str, scenes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder.json").mkdir()
    given = [w.replace("SCENES.json", "folder.json").replace("SCENES", str(scenes)) for w in words]
    assert main(["vocabulary", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not Path("w.json").exists()


def test_more_examples_than_there_may_be_are_refused_before_any_work(scenes: Path) -> None:
    segmenter = Segmenter.from_pretrained("masqclip-mini", device="cpu")
    dataset = open_coco(scenes)
    with pytest.raises(Exception, match=f"more than the {MAX_EXAMPLES:,}"):
        take_shots(segmenter, dataset, MAX_EXAMPLES)  # type: ignore[arg-type]
