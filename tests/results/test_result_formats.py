"""LabelMe, VOC, CVAT and files of masks, read back by what the formats' definitions say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from format_readers import read_cvat, read_labelme, read_voc
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from result_samples import NAMES, empty, sample, with_empty_mask
from scipy import ndimage

from masqclip.errors import MasqclipError
from masqclip.export.cvat import cvat_xml, row_runs
from masqclip.result import Segmentation, Task
from masqclip.segment import Segment

TASKS: tuple[Task, ...] = ("instance", "semantic", "panoptic")


def filled(mask: np.ndarray) -> np.ndarray:
    return ndimage.binary_fill_holes(mask)


def check_shapes(shapes: list[Any], result: Segmentation, kind: str) -> None:
    """Whether shapes of one picture are the segments': exact, with holes filled, or boxes."""
    masks: dict[str, np.ndarray] = {}
    for label, mask, _ in shapes:
        masks[label] = masks.get(label, False) | mask
    assert list(masks) == list(result.labels)
    for segment in result:
        expected = segment.mask if kind == "mask" else filled(segment.mask)
        if kind in ("box", "rectangle"):
            x0, y0, x1, y1 = segment.box
            expected = np.zeros_like(segment.mask)
            expected[y0:y1, x0:x1] = True
        assert np.array_equal(masks[segment.name], expected)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["polygon", "mask", "rectangle"])
def test_labelme(kind: Any, task: Task) -> None:
    result = sample(task)
    document = json.loads(json.dumps(result.to_labelme(kind=kind)))
    shapes = read_labelme(document)
    check_shapes(shapes, result, kind)
    groups = [group for _, _, group in shapes]
    assert groups == ([1, 1, None, None] if kind == "polygon" else [None] * 3)
    assert document["imageData"] is not None, "it came from no file"


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("kind", ["polygon", "mask", "box"])
def test_cvat(kind: Any, task: Task) -> None:
    result = sample(task, Path("photos/K\u00e4se & <1>.png"))
    labels, ((name, size, shapes),) = read_cvat(result.to_cvat(kind=kind))
    assert labels == list(NAMES)
    assert (name, size) == ("K\u00e4se & <1>.png", (20, 30))
    check_shapes(shapes, result, kind)
    groups = [group for _, _, group in shapes]
    assert groups == ([1, 1, None, None] if kind == "polygon" else [None] * 3)


def test_cvat_of_several_pictures() -> None:
    pictures = [("a.png", (20, 30), sample().segments), ("b.png", (20, 30), ())]
    _, images = read_cvat(cvat_xml(pictures, NAMES))
    assert [(name, len(shapes)) for name, _, shapes in images] == [("a.png", 3), ("b.png", 0)]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=5))
def test_runs_of_any_mask(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    runs = row_runs(mask)
    assert np.array_equal(np.repeat(np.arange(len(runs)) % 2 == 1, runs), mask.ravel())


@pytest.mark.parametrize("task", TASKS)
def test_voc(task: Task) -> None:
    about, objects = read_voc(sample(task, Path("/photos/one/a.jpg")).to_voc())
    assert about == {
        "folder": "one", "filename": "a.jpg", "segmented": "0", "width": "30", "height": "20",
        "depth": "3",
    }  # fmt: skip
    assert objects == [
        (NAMES[0], (3, 5, 9, 12)),
        (NAMES[1], (13, 4, 22, 10)),
        (NAMES[2], (1, 1, 30, 1)),
    ]


@pytest.mark.parametrize("task", TASKS)
def test_empty_results(task: Task, tmp_path: Path) -> None:
    nothing = empty(task)
    assert read_labelme(dict(nothing.to_labelme())) == []
    assert read_voc(nothing.to_voc())[1] == []
    assert read_cvat(nothing.to_cvat())[1] == [("image.png", (20, 30), [])]
    assert nothing.to_mask_pngs(tmp_path / "masks") == []
    assert len(nothing.to_coco()) == len(nothing.to_yolo()) == len(nothing.to_label_studio()) == 0
    assert len(nothing.to_json()["segments"]) == 0


def test_empty_masks_are_left_out() -> None:
    result = with_empty_mask()
    assert [label for label, *_ in read_labelme(dict(result.to_labelme(kind="mask")))] == [NAMES[0]]
    assert [name for name, _ in read_voc(result.to_voc())[1]] == [NAMES[0]]
    for kind in ("mask", "polygon", "box"):
        shapes = read_cvat(result.to_cvat(kind=kind))[1][0][2]  # type: ignore[arg-type]
        assert {label for label, *_ in shapes} == {NAMES[0]}


def test_files_are_what_is_returned(tmp_path: Path) -> None:
    result = sample(path=tmp_path / "photos" / "a.png")
    document = result.to_labelme(tmp_path / "labels" / "a.json")
    assert json.loads((tmp_path / "labels" / "a.json").read_text("utf-8")) == document
    assert document["imagePath"] == "../photos/a.png"
    assert document["imageData"] is None
    assert result.to_labelme()["imagePath"] == "a.png"
    for write in (result.to_voc, result.to_cvat):
        text = write(tmp_path / "a.xml")
        assert (tmp_path / "a.xml").read_text("utf-8") == text


def test_a_picture_may_be_called_otherwise() -> None:
    for result in (sample(), sample(path=Path("photos/a.png"))):
        document = result.to_labelme(image_name="b.png")
        assert (document["imagePath"], document["imageData"]) == ("b.png", None)
        assert read_voc(result.to_voc(image_name="b.png"))[0]["filename"] == "b.png"
        assert read_cvat(result.to_cvat(image_name="b.png"))[1][0][0] == "b.png"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda r: r.to_labelme(kind="box"), "'box': give 'polygon', 'mask' or 'rectangle'"),
        (lambda r: r.to_cvat(kind="rectangle"), "'rectangle': give 'mask', 'polygon' or 'box'"),
    ],
)
def test_a_kind_that_is_none(call: Any, said: str) -> None:
    with pytest.raises(MasqclipError, match=said):
        call(sample())


def named(name: str) -> Segmentation:
    segment = Segment(1, name, 0, 0.5, True, sample()[0].mask)
    return replace(sample(), names=(name,), segments=(segment,))


ODD = [
    "a\nb",
    "a\tb",
    "a\r\nb",
    " a ",
    "]]>",
    "<!--",
    "&amp;",
    "'",
    '"',
    "\x85",
    "\u2028",
    "\U0001f431",
]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_read_back(name: str, tmp_path: Path) -> None:
    result = named(name)
    assert read_labelme(json.loads(json.dumps(result.to_labelme())))[0][0] == name
    assert read_voc(result.to_voc())[1][0][0] == name
    labels, ((_, _, shapes),) = read_cvat(result.to_cvat())
    assert (labels, shapes[0][0]) == ([name], name)
    (path,) = result.to_mask_pngs(tmp_path)
    assert path.parent == tmp_path
    assert path.name.isprintable()


@pytest.mark.parametrize("name", ["a\x00", "\x1b[31m", "\ud800", "\ufffe"])
def test_what_xml_cannot_hold_is_named(name: str) -> None:
    result = named(name)
    for write in (result.to_voc, result.to_cvat):
        with pytest.raises(MasqclipError, match=r"the name .* XML cannot: leave it out"):
            write()
        with pytest.raises(MasqclipError, match=r"the file name .* XML cannot"):
            replace(sample(), path=Path(name.replace("\x00", "\x01"))).to_voc()


def test_masks_as_files(tmp_path: Path) -> None:
    result = sample(path=Path("photos/beach.jpg"))
    paths = result.to_mask_pngs(tmp_path / "new" / "masks")
    names = ["beach-0001-a_b_c.png", "beach-0002-K\u00e4se \u6728.png", "beach-0003-sky.png"]
    assert [path.name for path in paths] == names
    for path, segment in zip(paths, result, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), segment.mask * np.uint8(255))
    twice = result[[0, 0]].to_mask_pngs(tmp_path / "twice")
    assert [path.name for path in twice] == ["beach-0001-a_b_c.png", "beach-0001-a_b_c-2.png"]
    for hostile in ("../../x", "/", "a/b\\c", ".", "x" * 500):
        (path,) = named(hostile).to_mask_pngs(tmp_path / "hostile")
        assert path.parent == tmp_path / "hostile"


@pytest.mark.parametrize("stem", ["x" * 251, "\U0001f697" * 60, "\u6728" * 80])
def test_masks_of_a_picture_with_a_long_name_have_names_that_fit(stem: str, tmp_path: Path) -> None:
    for end in "ab":  # the beginnings are the same
        result = sample(path=Path(f"{stem}{end}.png"))
        paths = [*result.to_mask_pngs(tmp_path), *named("\u6728" * 99).to_mask_pngs(tmp_path)]
        assert all(path.exists() for path in paths)
        assert paths[0].name.endswith("-0001-a_b_c.png")
        assert paths[0].name.startswith(stem[:30])
    assert len(list(tmp_path.glob("*-0001-a_b_c.png"))) == 2


def test_a_folder_in_place_of_a_file_is_one_line(tmp_path: Path) -> None:
    result = sample()
    for write, example in (
        (result.to_labelme, "a.json"),
        (result.to_voc, "a.xml"),
        (result.to_cvat, "a.xml"),
    ):
        with pytest.raises(MasqclipError, match=rf"a folder; give the path of a file.*{example}"):
            write(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(MasqclipError, match="file: a file; give the path of a folder"):
        result.to_mask_pngs(file)


def test_a_table() -> None:
    pandas = pytest.importorskip("pandas")
    frame = sample().to_dataframe()
    columns = ["id", "name", "class_id", "score", "thing", "area", "x0", "y0", "x1", "y1"]
    assert list(frame.columns) == columns
    assert frame.iloc[1].tolist() == [2, NAMES[1], 1, 0.25, True, 58, 12, 3, 22, 10]
    assert frame[frame.score > 0.5].name.tolist() == [NAMES[0], NAMES[2]]
    nothing = empty().to_dataframe()
    assert list(nothing.columns) == columns
    assert len(nothing) == 0
    assert len(pandas.concat([frame, nothing])) == 3


def test_without_pandas_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MasqclipError, match=r"masqclip\[pandas\]"):
        sample().to_dataframe()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=6).filter(
        lambda rows: any(map(any, rows))
    )
)
def test_labelme_draws_any_mask_to_a_pixel_of_its_outline(rows: list[list[bool]]) -> None:
    mask = np.array(rows)
    segment = Segment(1, "cat", 0, 0.5, True, mask)
    image = np.zeros((*mask.shape, 3), np.uint8)
    result = Segmentation(image, "instance", ("cat",), (segment,))
    drawn = np.any([mask for _, mask, _ in read_labelme(dict(result.to_labelme()))], axis=0)
    whole = filled(mask)
    around = np.ones((3, 3), bool)
    assert not (drawn & ~ndimage.binary_dilation(whole, around)).any()
    assert not (ndimage.binary_erosion(whole, around) & ~drawn).any()
    assert (drawn & whole).any()
