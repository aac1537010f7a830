"""An exported model gives what the model gives: every call, every kind of result."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from masqclip import MasqclipError, Segmentation, Segmenter, Vocabulary
from masqclip.cli.main import main
from masqclip.clip.vocabulary import load_builtin
from masqclip.runtime import OnnxSegmenter
from masqclip.runtime.encoded import OnnxImage

EXAMPLES = Path(__file__).parents[2] / "examples"
WORDS = "rocket, tulip, car, snake, penguin, sand"


@pytest.fixture(scope="module")
def graphs(mini_graphs: Path) -> OnnxSegmenter:
    return OnnxSegmenter.from_pretrained(mini_graphs)


@pytest.fixture(scope="module")
def seen(graphs: OnnxSegmenter) -> OnnxImage:
    return graphs.encode(EXAMPLES / "beach.png")


def assert_same(found: Segmentation, right: Segmentation) -> None:
    assert (found.task, found.names, found.notes) == (right.task, right.names, right.notes)
    assert found.kinds == right.kinds
    told = [(s.id, s.name, s.class_id, s.thing, s.suggestion) for s in right]
    assert [(s.id, s.name, s.class_id, s.thing, s.suggestion) for s in found] == told
    np.testing.assert_allclose(found.scores, right.scores, atol=1e-3)
    for one, other in zip(found, right, strict=True):
        assert np.mean(one.mask == other.mask) >= 0.999


@pytest.mark.parametrize("task", ["instance", "semantic", "panoptic"])
@pytest.mark.parametrize("words", [WORDS, "stickers", "animal > snake, penguin\nsand", "temple"])
def test_results_are_the_models(
    graphs: OnnxSegmenter, segmenter: Segmenter, beach: Any, seen: OnnxImage, words: str, task: Any
) -> None:
    assert_same(graphs(seen, words, task), segmenter(beach, words, task))


def test_numbers_are_the_models(beach: Any, seen: OnnxImage) -> None:
    for name in ("mask_logits", "object_logits", "mask_embeddings"):
        np.testing.assert_allclose(getattr(seen, name), getattr(beach, name).numpy(), atol=1e-3)


@pytest.mark.parametrize("count", [1, 1_000, 10_000])
def test_any_number_of_names(
    graphs: OnnxSegmenter, segmenter: Segmenter, beach: Any, seen: OnnxImage, count: int
) -> None:
    known = list(load_builtin("stickers").names)
    made = (f"{one} {other}" for one in known for other in known)
    words = Vocabulary.parse(list(dict.fromkeys([*known, *made]))[:count])
    assert_same(graphs(seen, words), segmenter(beach, words))


@pytest.mark.parametrize(
    "options",
    [
        {"distractors": "worm"},
        {"min_score": 0.99},
        {"things": "sand"},
        {"level": 0},
    ],
    ids=str,
)
def test_options_mean_what_they_mean(
    graphs: OnnxSegmenter, segmenter: Segmenter, beach: Any, seen: OnnxImage, options: Any
) -> None:
    words = "animal > snake, penguin\nsand\ncar" if "level" in options else WORDS
    assert_same(graphs(seen, words, **options), segmenter(beach, words, **options))
    scored = Vocabulary.parse(WORDS)
    kept = tuple(replace(c, min_score=0.98 if c.thing else None) for c in scored.categories)
    scored = replace(scored, categories=kept)
    for task in ("instance", "semantic", "panoptic"):
        assert_same(graphs(seen, scored, task), segmenter(beach, scored, task))


def test_everything_and_pictures_of_another_world(
    graphs: OnnxSegmenter, segmenter: Segmenter
) -> None:
    photograph = EXAMPLES / "cat-and-parakeet.jpg"
    found = graphs(photograph, "everything", "instance")
    assert any("never trained on pictures like this one" in note for note in found.notes)
    assert_same(found, segmenter(photograph, "everything", "instance"))
    with pytest.raises(MasqclipError, match="semantic ones need names"):
        graphs(photograph, "everything", "semantic")


def test_masks_and_examples(
    graphs: OnnxSegmenter, segmenter: Segmenter, beach: Any, seen: OnnxImage
) -> None:
    masks = segmenter(beach, WORDS).masks
    right = segmenter.embed_masks(beach, masks).numpy()
    np.testing.assert_allclose(graphs.embed_masks(seen, masks), right, atol=1e-4)
    np.testing.assert_allclose(graphs.embed_masks(seen, list(masks * 1.0)), right, atol=1e-4)
    assert graphs.embed_masks(seen, masks[:0]).shape == (0, 192)
    named = graphs.classify_masks(seen, masks, "stickers")
    other = segmenter.classify_masks(beach, masks, "stickers")
    assert named.names == other.names
    np.testing.assert_allclose(named.probs, other.probs, atol=1e-4)
    for where in ({"point": (310, 320)}, {"box": (350, 260, 475, 382)}, {"mask": masks[1]}):
        one = graphs.example("thing", seen, **where)
        two = segmenter.example("thing", beach, **where)
        assert_same(graphs(seen, one.joined(Vocabulary.parse("car"))),
                    segmenter(beach, two.joined(Vocabulary.parse("car"))))  # fmt: skip
        # They are of one CLIP: either reads the other's.
        assert_same(graphs(seen, two), segmenter(beach, one))
    for wrong, said in (
        (masks[:, :9], "do not fit a picture of 512x512"),
        ([masks[0][:9]], "mask 1 of shape"),
        (masks * 0.5, "holds 0.5"),
        ("masks", "of type str"),
        ([["a"]], "mask 1 is of type list"),
    ):
        with pytest.raises(MasqclipError, match=said):
            graphs.embed_masks(seen, wrong)


def test_streams_and_formats(graphs: OnnxSegmenter, tmp_path: Path) -> None:
    grey = np.full((40, 70), 90, np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("none")
    with pytest.warns(UserWarning, match=r"picture 2 is left out: .*b\.png"):
        results = list(graphs.stream(tmp_path, WORDS, errors="skip"))
    assert [result.size for result in results] == [(40, 70)]
    (result,) = graphs([EXAMPLES / "beach.png"], WORDS)
    assert {"encoding", "decoding", "reading"} <= result.timing.keys()
    again = Segmentation.from_json(json.loads(json.dumps(result.to_json())), result.image)
    assert again.labels == result.labels
    result.save(tmp_path / "overlay.png")
    assert len(result.to_coco(image_id=1)) == len(result)
    frame = result.image[..., ::-1]
    assert graphs(frame, WORDS, channels="bgr").labels == result.labels


def test_refinements(graphs: OnnxSegmenter, segmenter: Segmenter, beach: Any) -> None:
    mine = copy.copy(graphs)
    before = segmenter.refinements
    for settings in ({"prune": 0.2}, {"trust": 0.5}, {"synonyms": "best"}):
        mine.refine(settings)
        segmenter.refine(settings)
        words = {"car": ["car", "red car"], "snake": ["snake", "worm"], "bus": ["bus"]}
        try:
            assert_same(mine(beach.image.pixels, words), segmenter(beach.image.pixels, words))
        finally:
            segmenter.refine(before)
    for name, value in (("mask_from_block", 2), ("patch_coverage", "share"), ("untuned_seen", 0.4)):
        with pytest.raises(MasqclipError, match=f"{name} was decided when 'masqclip-mini' was exp"):
            mine.refine({name: value})


def test_pictures_of_another_engine_are_told(
    graphs: OnnxSegmenter, segmenter: Segmenter, beach: Any, seen: OnnxImage
) -> None:
    for call in (lambda: graphs(beach, WORDS), lambda: segmenter(seen, WORDS),
                 lambda: segmenter.embed_masks(seen, np.ones((1, 512, 512), bool))):  # fmt: skip
        with pytest.raises(MasqclipError, match="encoded by another engine: encode it anew"):
            call()
    assert repr(graphs) == "<OnnxSegmenter: masqclip-mini on cpu, float16>"
    assert repr(seen) == f"<OnnxImage: {seen.image.source}, 512 x 512 pixels, 28 proposals>"


_BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "scipy"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from masqclip.cli.main import main
code = main(sys.argv[1:])
with open("/proc/self/status") as status:
    print(*(line for line in status if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(code)
"""


def test_without_torch(graphs: OnnxSegmenter, mini_graphs: Path, tmp_path: Path) -> None:
    """The command line segments, in little memory, and says what else needs PyTorch."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", _BLOCKED, *words],
            cwd=tmp_path, capture_output=True, text=True, check=False, env=dict(os.environ),
        )  # fmt: skip

    beach = str(EXAMPLES / "beach.png")
    done = run("segment", beach, "-v", WORDS, "--model", str(mini_graphs), "-o", "out")
    assert done.returncode == 0, done.stderr
    told = re.search(r"VmHWM:\s*(\d+) kB", done.stderr)
    assert told
    assert int(told[1]) < 400_000
    found = json.loads((tmp_path / "out" / "beach.panoptic.json").read_text())
    right = graphs(beach, WORDS).to_json()
    assert found["segments"] == right["segments"]
    done = run("segment", beach, "-v", WORDS)
    assert done.returncode == 2
    assert "pip install 'masqclip[torch]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line(
    mini_graphs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = ["segment", str(EXAMPLES / "beach.png"), "-v", WORDS, "-o", str(tmp_path / "out")]
    model = ["--model", str(mini_graphs)]
    assert main([*ask, *model, "--refine", "prune=0.1", "-q"]) == 0
    for options, said in (
        (["--size", "128"], "--size: "),
        (["--dtype", "float16"], "--dtype: "),
        (["--compile"], "--compile: "),
        (["--proposer-words", "vocabulary"], "--proposer-words: "),
        (["--device", "tpu"], "there is no device 'tpu'"),
        (["--device", "cuda"], "device cuda: this onnxruntime has no CUDA"),
        (["--refine", "mask_from_block=2"], "mask_from_block was decided"),
    ):
        assert main([*ask, *model, *options]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert len(error.strip().splitlines()) == 1
    for command in (["label", str(EXAMPLES), "--format", "coco", "--out", str(tmp_path / "l")],
                    ["bench"]):  # fmt: skip
        words = ["-v", "car"] if command[0] == "label" else []
        assert main([*command, *words, *model]) == 2
        assert "exported" in capsys.readouterr().err
