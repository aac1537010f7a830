"""Instance segmentation: average precision and recall as COCO defines them.

hotcoco computes them picture by picture and keeps matches, not masks; where it is not installed,
pycocotools does it in one go at the end, and so keeps every mask (as RLE) until then. Both give the
same figures to the last digit (a test compares them). Both are in the extra ``eval``.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from masqclip.errors import require
from masqclip.evaluation.groups import Groups, group_means

Backend = Literal["hotcoco", "pycocotools"]

# Axes of the arrays: areas (small < 32^2 pixels, large > 96^2), and detections a picture.
_AREAS = {"": 0, "s": 1, "m": 2, "l": 3}
_DETECTIONS = {"1": 0, "10": 1, "100": 2}
_PURPOSE = "instance AP"


def default_backend() -> Backend:
    """hotcoco if it is installed."""
    return "hotcoco" if find_spec("hotcoco") else "pycocotools"


class AveragePrecision:
    """Average precision and recall of masks, over the categories that the truth holds.

    Args:
        category_ids: of all classes, in order.
        backend: the library that computes them.

    Raises:
        MasqclipError: the library is not installed (extra ``eval``).
    """

    def __init__(self, category_ids: Sequence[int], *, backend: Backend | None = None) -> None:
        self.category_ids = list(category_ids)
        self.backend = backend or default_backend()
        categories = [{"id": i, "name": str(i)} for i in self.category_ids]
        self._matcher = (_Streaming if self.backend == "hotcoco" else _Gathering)(categories)
        self._finished: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None

    def update(
        self,
        image: Mapping[str, Any],
        truth: Sequence[Mapping[str, Any]],
        results: Sequence[Mapping[str, Any]],
    ) -> float:
        """Add one picture.

        Args:
            image: ``{"id", "height", "width"}``.
            truth: its COCO annotations, ``iscrowd`` included.
            results: its entries of a COCO results file, with ``segmentation`` and ``score``.

        Returns:
            How good this picture is: of as many of the best results as there are objects, the share
            whose best object of their class has an IoU of one half or more. NaN without objects.
        """
        plain = {"id": image["id"], "height": image["height"], "width": image["width"]}
        self._finished = None
        objects = [self._complete(n, entry, plain) for n, entry in enumerate(truth, start=1)]
        self._matcher.update(plain, objects, [dict(result) for result in results])
        return self._quality(plain, [o for o in objects if not o.get("iscrowd")], results)

    @property
    def _masks(self) -> Any:
        """The library's functions of RLE masks; no attribute, because modules do not pickle."""
        return require(f"{self.backend}.mask", extra="eval", purpose=_PURPOSE)

    def merge(self, other: AveragePrecision) -> None:
        """Add another's pictures, for instance another process's."""
        self._finished = None
        self._matcher.merge(other._matcher)

    def per_class(self) -> dict[str, NDArray[np.float64]]:
        """``AP`` and ``AP50`` of each category, in order; NaN where the truth has none."""
        precision, _ = self._arrays()
        return {
            "AP": _class_means(precision[:, :, :, 0, 2]),
            "AP50": _class_means(precision[:1, :, :, 0, 2]),
        }

    def results(self, groups: Groups | None = None) -> dict[str, float]:
        """COCO's twelve figures, 0..1: ``AP``, ``AP50``, ``AP75``, ``APs``, ``AR1`` and so on.

        Args:
            groups: positions of the categories of each part, for instance base and novel: ``AP``,
                ``AP50`` and ``AP75`` are also averaged over each. All categories compete, as in
                the generalised setting.
        """
        precision, recall = self._arrays()
        scores: dict[str, float] = {}
        for name, thresholds in (("AP", slice(None)), ("AP50", slice(0, 1)), ("AP75", slice(5, 6))):
            values = _class_means(precision[thresholds, :, :, 0, 2])
            scores |= group_means(name, values, groups or {})
        for size in ("s", "m", "l"):
            values = _class_means(precision[:, :, :, _AREAS[size], 2])
            scores |= group_means(f"AP{size}", values, {})
        for count, column in _DETECTIONS.items():
            scores |= group_means(f"AR{count}", _class_means(recall[:, None, :, 0, column]), {})
        for size in ("s", "m", "l"):
            values = _class_means(recall[:, None, :, _AREAS[size], 2])
            scores |= group_means(f"AR{size}", values, {})
        return scores

    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Precision [IoU thresholds, recall points, K, areas, detections], recall without points.

        -1 where there is no truth.
        """
        if self._finished is None:
            evaluation = self._matcher.finish()
            columns = [list(evaluation.params.catIds).index(i) for i in self.category_ids]
            self._finished = (
                np.asarray(evaluation.eval["precision"])[:, :, columns],
                np.asarray(evaluation.eval["recall"])[:, columns],
            )
        return self._finished

    def _quality(
        self,
        image: Mapping[str, Any],
        objects: Sequence[Mapping[str, Any]],
        results: Sequence[Mapping[str, Any]],
    ) -> float:
        if not objects:
            return float("nan")
        size = (image["height"], image["width"])
        rles = [self._rle(entry["segmentation"], *size) for entry in objects]
        best = sorted(results, key=lambda result: -result["score"])[: len(objects)]
        right = 0
        for result in best:
            wanted = [
                rle
                for rle, entry in zip(rles, objects, strict=True)
                if entry["category_id"] == result["category_id"]
            ]
            guess = self._rle(result["segmentation"], *size)
            if wanted:
                right += np.max(self._masks.iou([guess], wanted, [0] * len(wanted))) >= 0.5
        return right / len(objects)

    def _complete(
        self, number: int, entry: Mapping[str, Any], image: Mapping[str, Any]
    ) -> dict[str, Any]:
        """An annotation with all that COCO's are meant to have; people's own may lack some.

        A copy, because pycocotools writes its own marks into the entries that it is given. Its
        number is ours: an id of 0 counts as none, and of two of one id only the last is known.
        """
        whole = {"iscrowd": 0, **entry, "id": number, "image_id": image["id"]}
        if "area" not in whole:
            rle = self._rle(entry["segmentation"], image["height"], image["width"])
            whole["area"] = float(self._masks.area(rle))
        return whole

    def _rle(self, segmentation: Any, height: int, width: int) -> Any:
        if isinstance(segmentation, Mapping) and not isinstance(segmentation["counts"], list):
            return segmentation
        parts = self._masks.frPyObjects(segmentation, height, width)
        return self._masks.merge(parts) if isinstance(parts, list) else parts


class _Streaming:
    """hotcoco: matches each picture as it comes."""

    def __init__(self, categories: list[dict[str, Any]]) -> None:
        hotcoco: Any = require("hotcoco", extra="eval", purpose=_PURPOSE)
        self.evaluator = hotcoco.StreamingEval(categories, "segm")

    def update(
        self, image: dict[str, Any], truth: list[dict[str, Any]], results: list[dict[str, Any]]
    ) -> None:
        self.evaluator.update([image], truth, results)

    def merge(self, other: Any) -> None:
        self.evaluator = type(self.evaluator).merge([self.evaluator, other.evaluator])

    def finish(self) -> Any:
        # A copy, because finalize() spends the evaluator.
        evaluation = copy.copy(self.evaluator).finalize()
        evaluation.accumulate()
        return evaluation


class _Gathering:
    """pycocotools: keeps the entries of all pictures and matches at the end."""

    def __init__(self, categories: list[dict[str, Any]]) -> None:
        require("pycocotools.cocoeval", extra="eval", purpose=_PURPOSE)
        self.categories = categories
        self.images: list[dict[str, Any]] = []
        self.truth: list[dict[str, Any]] = []
        self.found: list[dict[str, Any]] = []

    def update(
        self, image: dict[str, Any], truth: list[dict[str, Any]], results: list[dict[str, Any]]
    ) -> None:
        self.images.append(image)
        self.truth += truth
        self.found += results

    def merge(self, other: Any) -> None:
        self.images += other.images
        self.truth += other.truth
        self.found += other.found

    def finish(self) -> Any:
        coco: Any = require("pycocotools.coco", extra="eval", purpose=_PURPOSE)
        cocoeval: Any = require("pycocotools.cocoeval", extra="eval", purpose=_PURPOSE)
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            truth = coco.COCO()
            # Numbered anew, across all pictures.
            numbered = [{**entry, "id": i} for i, entry in enumerate(self.truth, start=1)]
            truth.dataset = {
                "images": self.images,
                "annotations": numbered,
                "categories": self.categories,
            }
            truth.createIndex()
            found = truth.loadRes(self.found) if self.found else coco.COCO()
            evaluation = cocoeval.COCOeval(truth, found, "segm")
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation


def _class_means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[thresholds, points, K] to the mean of each class; NaN where the truth has none of it."""
    present = (values > -1).all(axis=(0, 1)) if values.size else np.zeros(values.shape[2], bool)
    return np.where(present, values.mean(axis=(0, 1)), np.nan)
