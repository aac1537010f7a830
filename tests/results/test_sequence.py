"""A result is a sequence: places, slices, names and truths pick what they say."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from result_samples import NAMES, empty, sample

from masqclip.data.bit_masks import BitMask
from masqclip.errors import MasqclipError
from masqclip.result import Segmentation
from masqclip.segment import Segment


def test_segments_in_order() -> None:
    result = sample()
    assert list(result) == list(result.segments)
    assert result[0] is result.segments[0]
    assert result[-1] is result[np.int64(2)] is result.segments[2]
    assert [segment.name for segment in result] == list(NAMES[:3])


@pytest.mark.parametrize(
    ("key", "ids"),
    [
        (slice(0, 2), [1, 2]),
        (slice(None, None, -1), [3, 2, 1]),
        (slice(5, 9), []),
        ([0, 2], [1, 3]),
        ((2, -3), [3, 1]),
        (range(2), [1, 2]),
        ([], []),
        (np.array([2, 0]), [3, 1]),
        (np.array([], int), []),
        ([True, False, True], [1, 3]),
        (np.array([False, True, False]), [2]),
        ([np.True_, np.False_, np.False_], [1]),
        (NAMES[1], [2]),
        (NAMES[3], []),
        ([NAMES[2], NAMES[0]], [1, 3]),
        ((NAMES[2],), [3]),
    ],
)
def test_what_a_key_picks(key: Any, ids: list[int]) -> None:
    result = sample()
    part = result[key]
    assert isinstance(part, Segmentation)
    assert [segment.id for segment in part] == ids
    assert part.image is result.image
    assert (part.task, part.names) == (result.task, result.names)


@pytest.mark.parametrize("kind", ["tensor", "column", "column with gaps"])
def test_columns_of_other_libraries_pick_as_arrays_do(kind: str) -> None:
    pandas = None if kind == "tensor" else pytest.importorskip("pandas")
    for values, ids in (([True, False, True], [1, 3]), ([2, 0], [3, 1])):
        if pandas is None:
            key = torch.tensor(values)
        else:
            gaps = {True: "boolean", 2: "Int64"}[values[0]]
            key = pandas.Series(values, dtype=gaps if kind == "column with gaps" else None)
        assert [segment.id for segment in sample()[key]] == ids
    if pandas is not None:
        named = sample()[pandas.Series([NAMES[2], NAMES[0]])]
        assert [segment.id for segment in named] == [1, 3]
        with pytest.raises(MasqclipError, match="picks no segments"):
            sample()[pandas.Series([True, None, False], dtype="boolean")]
        with pytest.raises(MasqclipError, match=r"an array \(1, 1\) picks no segments"):
            sample()[pandas.DataFrame([[1]])]


def test_a_table_filters_its_own_result() -> None:
    pytest.importorskip("pandas")
    result = sample()
    table = result.to_dataframe()
    assert result[table.score > 0.5].labels == (NAMES[0], NAMES[2])
    assert [segment.id for segment in result[table.index[table.thing]]] == [1, 2]


@pytest.mark.parametrize("place", [np.array(1), np.array(-2)])
def test_arrays_without_axes_are_places(place: Any) -> None:
    assert sample()[place].id == 2
    assert sample()[torch.from_numpy(place)].id == 2
    for key in (np.array(True), np.bool_(True), np.array(1.0), np.array("sky"), torch.tensor(True)):
        with pytest.raises(MasqclipError, match="picks no segments"):
            sample()[key]


def test_filters_by_score() -> None:
    result = sample()
    assert result[result.scores > 0.5].labels == (NAMES[0], NAMES[2])
    assert len(result[result.scores > 1]) == 0
    assert len(empty()[empty().scores > 0.5]) == 0


@pytest.mark.parametrize("place", [3, -4, np.int64(9)])
def test_a_place_that_is_none(place: int) -> None:
    with pytest.raises(IndexError, match="the places are 0 to 2"):
        sample()[place]
    with pytest.raises(IndexError, match="the places are 0 to 2"):
        sample()[[0, place]]
    with pytest.raises(IndexError, match="there is none"):
        empty()[place]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("cat", "'cat' is not in the vocabulary of this result: a<b>"),
        ([NAMES[0], "cat"], "'cat' is not in the vocabulary"),
        ([True], "1 truths do not fit 3 segments"),
        (np.ones(4, bool), "4 truths do not fit 3 segments"),
        (True, "True picks no segments"),
        (1.5, "1.5 picks no segments"),
        (None, "None picks no segments"),
        ([0.5, 1], "picks no segments"),
        ([0, "sky"], "picks no segments"),
        ([[0], [1, 2]], "picks no segments"),
        (np.ones((3, 3), bool), r"an array \(3, 3\) picks no segments"),
        (b"sky", "picks no segments"),
    ],
)
def test_what_picks_nothing_is_refused(key: Any, said: str) -> None:
    with pytest.raises(MasqclipError, match=said) as caught:
        sample()[key]
    assert "\n" not in str(caught.value)


def test_whether_something_was_found() -> None:
    result = sample()
    assert NAMES[0] in result
    assert NAMES[3] not in result
    assert result[1] in result
    assert sample()[1] not in result
    assert 1 not in result


def test_all_segments_at_once() -> None:
    result = sample()
    assert result.labels == NAMES[:3]
    assert result.names == NAMES
    assert (result.masks.shape, result.masks.dtype) == ((3, 20, 30), bool)
    for mask, segment in zip(result.masks, result, strict=True):
        assert np.array_equal(mask, segment.mask)
    assert result.boxes.tolist() == [[2, 4, 9, 12], [12, 3, 22, 10], [0, 0, 30, 1]]
    assert result.scores.tolist() == [0.9, 0.25, 0.625]
    assert result.class_ids.tolist() == [0, 1, 2]
    result.masks[:] = False  # a copy: nothing of the result changes
    assert result[0].area == result[0].mask.sum() == 28


def test_arrays_of_an_empty_result_have_their_shapes() -> None:
    nothing = empty()
    assert nothing.masks.shape == (0, 20, 30)
    assert nothing.boxes.shape == (0, 4)
    assert nothing.scores.shape == nothing.class_ids.shape == (0,)
    assert (nothing.labels, nothing.polygons(), nothing.crop(), nothing.cut_outs()) == (
        (),
        [],
        [],
        [],
    )


def test_packed_masks_stay_packed() -> None:
    bits = BitMask.pack(sample()[0].mask, shape=(20, 30))
    packed = Segment.packed(1, NAMES[0], 0, 0.9, True, bits)
    result = Segmentation(sample().image, "instance", NAMES, (packed,))
    assert np.array_equal(result.masks[0], sample()[0].mask)
    assert "mask" not in packed.__dict__
    assert "mask" not in result[[0]][0].__dict__


def test_a_part_has_a_map_of_its_own() -> None:
    result = sample("panoptic")
    assert set(np.unique(result.label_map)) == {0, 1, 2, 3}
    assert set(np.unique(result[[2]].label_map)) == {0, 3}


def test_one_line_is_one_however_long_the_names_are() -> None:
    for name in ("x" * 3000, "two\nlines\x1b[31m\u2028"):
        result = replace(sample(), segments=(replace(sample()[0], name=name),) * 2)
        line = repr(result)
        assert len(line) < 200
        assert line.isprintable()
        assert line.endswith(" x2>")


def test_one_line_says_what_it_is() -> None:
    line = repr(sample())
    assert line.startswith("<Segmentation: instance, 30 x 20 pixels, 3 segments: a<b>")
    assert repr(empty()) == "<Segmentation: panoptic, 30 x 20 pixels, 0 segments: nothing found>"
    twice = sample()[[2, 2]]
    assert repr(twice).endswith("2 segments: sky x2>")
    many = Segmentation(
        sample().image,
        "instance",
        tuple(map(str, range(9))),
        tuple(Segment(n, str(n), n, 1.0, True, sample()[0].mask) for n in range(9)),
    )
    assert repr(many).endswith("9 segments: 0, 1, 2, 3, 4, 5, ...>")


def test_it_travels_between_processes() -> None:
    again = pickle.loads(pickle.dumps(sample()))
    assert again.to_json() == sample().to_json()


def test_polygons_of_parts_the_largest_first() -> None:
    parts, ring, row = sample().polygons()
    assert [len(parts), len(ring), len(row)] == [2, 1, 1]
    assert parts[0].tolist() == [[6, 8], [2, 8], [2, 4], [6, 4]]
    assert row[0].min(axis=0).tolist() == [0, 0]
    assert row[0].max(axis=0).tolist() == [30, 1]
    assert len(sample()[1].polygons(tolerance=0)[0]) == 4


@pytest.mark.parametrize("tolerance", [-1, float("nan"), "1", None, True])
def test_a_tolerance_that_is_none_is_one_line(tolerance: Any) -> None:
    for holder in (sample(), sample()[0]):
        with pytest.raises(
            MasqclipError, match=r"tolerance .*: give a number of pixels, 0 or more"
        ):
            holder.polygons(tolerance=tolerance)


def test_a_document_of_another_picture_is_one_line() -> None:
    small = np.zeros((3, 4, 3), np.uint8)
    with pytest.raises(MasqclipError, match=r"shape \(3, 4, 3\), this result \(20, 30, 3\)"):
        Segmentation.from_json(sample().to_json(), small)


def test_a_document_that_is_none_is_one_line() -> None:
    for document in ({}, {"segments": 3}, [], sample().to_json() | {"segments": [{"id": 1}]}):
        with pytest.raises(MasqclipError, match=r"nothing that Segmentation\.to_json wrote"):
            Segmentation.from_json(document)  # type: ignore[arg-type]


def test_the_picture_of_a_document_may_be_bgr() -> None:
    result = sample()
    again = Segmentation.from_json(result.to_json(), result.image[..., ::-1], channels="bgr")
    assert np.array_equal(again.image, result.image)
    with pytest.raises(MasqclipError, match="channels 'gbr': give 'rgb', or 'bgr'"):
        Segmentation.from_json(result.to_json(), result.image, channels="gbr")  # type: ignore[arg-type]
