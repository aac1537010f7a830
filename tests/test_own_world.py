"""What a small model never read or saw is said, once and everywhere; of its own nothing is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from masqclip import MasqclipError, Segmenter
from masqclip.cli.main import main
from masqclip.clip.masked_vision import ImageTokens
from masqclip.clip.vocabulary import Vocabulary, load_builtin
from masqclip.data.images import read_image
from masqclip.own_world import OwnWorld, PictureTest, load_world
from masqclip.picture_statistics import fit_pictures, own_statistics, patch_statistics

EXAMPLES = Path(__file__).parents[1] / "examples"
PHOTOGRAPHS = Path(__file__).parent / "data" / "photographs" / "train2017"
ABOUT = "it knows drawn things only. For photographs: --model photo"


@pytest.fixture(scope="module")
def mini() -> Segmenter:
    return Segmenter.from_pretrained("masqclip-mini", device="cpu")


def test_names_that_were_never_read(mini: Segmenter) -> None:
    words = Vocabulary.parse("temple, person, rocket, rockets, Tulip")
    assert mini.world is not None
    assert mini.world.unread(words) == ("temple", "person")
    assert mini.notes_on(words, "instance") == (
        f"masqclip-mini has never read: temple, person; {ABOUT}",
    )
    assert mini.notes_on(load_builtin("stickers"), "panoptic") == ()
    assert mini.notes_on(Vocabulary.parse("grape, mushrooms, car"), "panoptic") == (), "plurals"
    assert mini.notes_on(Vocabulary.parse({"lorry": ["car", "lorry"]}), "panoptic") == ()
    assert mini.notes_on(Vocabulary.parse("car", distractors="temple"), "panoptic") == ()
    many = mini.notes_on(Vocabulary.parse([f"word {i}" for i in range(20)]), "panoptic")
    assert many[0].startswith("masqclip-mini has never read: word 0, word 1,")
    assert "word 7 and 12 more; it knows" in many[0]


def test_regions_are_told_where_they_matter(mini: Segmenter) -> None:
    words = Vocabulary.parse("car, sand, stuff: hedge")
    assert mini.notes_on(words, "panoptic") == (
        "taken as regions: sand ('thing: NAME', or --things, counts them)",
    )
    assert mini.notes_on(words, "semantic") == ()
    assert mini.notes_on(words, "instance") == (
        "regions, which have no instances: hedge ('thing: NAME', or --things, counts them)",
    )


@pytest.mark.parametrize("name", ["beach.png", "avenue.png", "night-shore.png"])
def test_its_own_pictures_draw_no_note(mini: Segmenter, name: str) -> None:
    picture = read_image(EXAMPLES / name)
    assert mini.encode(picture).image.notes == picture.notes == ()
    for part in (picture.pixels[:, :300], picture.pixels[40:300], picture.pixels[:, ::-1]):
        assert mini.encode(np.ascontiguousarray(part)).image.notes == ()


def test_photographs_draw_one(mini: Segmenter) -> None:
    paths = sorted(PHOTOGRAPHS.glob("*.jpg"))
    noted = [mini.encode(path).image.notes for path in paths]
    expected = (f"masqclip-mini was never trained on pictures like this one; {ABOUT}",)
    assert sum(notes == expected for notes in noted) >= len(paths) - 1
    encoded = mini.encode(paths[0])
    result = mini(encoded, "person, sky")
    assert result.notes[: len(encoded.image.notes)] == encoded.image.notes
    assert result.to_json()["notes"] == list(result.notes)
    assert mini.encode(encoded) is encoded, "not noted twice"


def test_what_a_user_sees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Notes on names come once a run, those on a picture with it; the JSON has all of them."""
    pictures = [str(path) for path in sorted(PHOTOGRAPHS.glob("*.jpg"))[:2]]
    words = ["segment", *pictures, "-v", "temple, sky", "--out", str(tmp_path), "--device", "cpu"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert shown.count("note: masqclip-mini has never read: temple;") == 1
    assert shown.count("note: taken as regions: sky ('thing: NAME', or --things, counts them)") == 1
    assert shown.count("note: masqclip-mini was never trained on pictures like this one") == 2
    for file in tmp_path.glob("*.json"):
        notes = json.loads(file.read_text())["notes"]
        assert sum("has never read" in note for note in notes) == 1
        assert sum("taken as regions" in note for note in notes) == 1
    assert main([*words, "--things", "sky", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    for file in tmp_path.glob("*.json"):
        document = json.loads(file.read_text())
        assert not any("regions" in note for note in document["notes"])
        assert all(segment["thing"] for segment in document["segments"])


def test_sky_is_one_region_and_counted_where_that_is_asked(mini: Segmenter) -> None:
    encoded = mini.encode(sorted(PHOTOGRAPHS.glob("*.jpg"))[0])
    result = mini(encoded, "sky, grass", min_score=0.0)
    assert len(result) == len({segment.name for segment in result.segments})
    assert not any(segment.thing for segment in result.segments)
    counted = mini(encoded, "sky, grass", "instance", min_score=0.0)
    assert len(counted) > 2
    assert all(segment.thing for segment in counted.segments)
    assert mini(encoded, "sky", "instance", min_score=0.0, stuff="sky").segments == ()


def test_a_world_is_kept_with_its_model(mini: Segmenter, tmp_path: Path) -> None:
    assert load_world(tmp_path) is None
    mini.save_pretrained(tmp_path)
    assert load_world(tmp_path) == mini.world
    assert Segmenter.from_pretrained(tmp_path, device="cpu").world == mini.world
    (tmp_path / "model_card.json").write_text('{"summary": "s"}')
    assert load_world(tmp_path) is None
    mini.world.save(tmp_path)  # type: ignore[union-attr]
    assert json.loads((tmp_path / "model_card.json").read_text())["summary"] == "s"
    for wrong in ({"names": "x"}, {"names": []}, [], {"names": [], "model": "m", "about": "a",
                  "pictures": {"weights": ["x"]}}):  # fmt: skip
        (tmp_path / "model_card.json").write_text(json.dumps({"world": wrong}))
        with pytest.raises(MasqclipError, match="is damaged"):
            load_world(tmp_path)


def tokens(values: torch.Tensor) -> ImageTokens:
    """A picture's tokens of one block: values [P, C]."""
    whole = torch.cat([torch.full((1, values.shape[1]), 99.0), values])  # the class token is none
    return ImageTokens((), (whole.view(1, len(whole), 2, -1).transpose(1, 2),))


def test_statistics_are_of_patches() -> None:
    values = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    (found,) = patch_statistics(tokens(values), 0)
    torch.testing.assert_close(found, torch.cat([values.mean(0), values.std(0)]))


def test_a_discriminant_parts_what_differs() -> None:
    chance = torch.Generator().manual_seed(0)
    own = [torch.randn(8, generator=chance) for _ in range(60)]
    others = [torch.randn(8, generator=chance) + 3 * (torch.arange(8) == 2) for _ in range(40)]
    weights, middle = fit_pictures(own, others)
    assert weights.norm() == pytest.approx(1.0)
    assert weights.abs().argmax() == 2
    right = [float(one @ weights) < middle for one in own]
    right += [float(one @ weights) > middle for one in others]
    assert sum(right) >= 90


def test_a_picture_without_tokens_is_not_judged() -> None:
    test = PictureTest(0, (1.0,) * 12, -1e9)
    world = OwnWorld("m", frozenset(), "a.", test)

    def note(world: OwnWorld, seen: ImageTokens) -> tuple[str, ...]:
        return world.picture_note(own_statistics(world, seen))

    assert note(world, tokens(torch.zeros(4, 6))) != ()
    assert note(world, ImageTokens((), ())) == ()
    assert note(OwnWorld("m", frozenset(), "a."), tokens(torch.zeros(4, 6))) == ()
