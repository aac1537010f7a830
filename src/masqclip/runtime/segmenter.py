"""`OnnxSegmenter`: an exported model, asked as `masqclip.segmenter.Segmenter` is, without PyTorch.

segmenter = OnnxSegmenter.from_pretrained("mini.onnx")  # masqclip export masqclip-mini mini.onnx
segmenter("scene.png", "cat, car, grass").save("scene.overlay.png")
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.images import Channels, LoadedImage
from masqclip.errors import MasqclipError
from masqclip.own_world import OwnWorld, load_world
from masqclip.picture import Encoded, Masks, Picture, PictureInput, check_own, read_picture
from masqclip.refinements import Refinements
from masqclip.result import Segmentation, Task
from masqclip.runtime.classify import class_log_probs, object_log_scores
from masqclip.runtime.encoded import OnnxImage
from masqclip.runtime.frames import fit_picture, frame_picture
from masqclip.runtime.given_masks import checked_masks
from masqclip.runtime.names import OnnxNames
from masqclip.runtime.segments import segment_encoded
from masqclip.runtime.sessions import Sessions
from masqclip.runtime.settings import OnnxSettings, read_settings
from masqclip.segmenting import BaseSegmenter

# What of the refinements lies within the graphs, and was decided when they were made.
_IN_GRAPHS = ("patch_coverage", "mask_from_block")
_MASK_PIXELS = 1 << 25  # of given masks that go through a graph together: 128 MB as floats


class _Exported:
    """What an exported model can be asked for (`masqclip.assembly.System`)."""

    system = "masqclip"
    tasks: tuple[Task, ...] = ("instance", "semantic", "panoptic")


class OnnxSegmenter(BaseSegmenter[OnnxImage, NDArray[np.float32]]):
    """Segments pictures by names, with onnxruntime and NumPy.

    The calls, their arguments and their results are those of `Segmenter`. Threads may share one.

    Args:
        settings: of an exported model's folder.
        device: ``cpu``, or another that this onnxruntime has: ``cuda``, ``coreml``, ``dml``,
            ``openvino``; the best one here by default.
        threads: that a run may use; as many as there are cores by default.
        cache: where text embeddings are kept: memory (true), a folder, or nowhere (false).

    Raises:
        MasqclipError: a file of the folder is missing or damaged, or the device is not there.
    """

    def __init__(
        self,
        settings: OnnxSettings,
        *,
        device: str | None = None,
        threads: int | None = None,
        cache: bool | str | Path = True,
    ) -> None:
        self.settings = settings
        self.name = settings.name
        self.world: OwnWorld | None = load_world(settings.folder)
        self._sessions = Sessions(settings, device=device, threads=threads)
        self._text = OnnxNames(settings, self._sessions, cache=cache)
        self._refinements = settings.refinements

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        device: str | None = None,
        threads: int | None = None,
        cache: bool | str | Path = True,
    ) -> Self:
        """Load a folder that ``masqclip export`` wrote; nothing in it is trusted.

        Args:
            folder: the folder.
            device, threads, cache: see the class.

        Raises:
            MasqclipError: there is no such folder, it is damaged, or the device is not there.
        """
        try:
            return cls(read_settings(folder), device=device, threads=threads, cache=cache)
        except MasqclipError as error:
            raise MasqclipError(
                f"the exported model {str(folder)!r} cannot be loaded: {error}"
            ) from error

    def __repr__(self) -> str:
        """One line: the model, where it runs, and in which precision it is stored."""
        return f"<OnnxSegmenter: {self.name} on {self.device}, {self.settings.dtype}>"

    @property
    def device(self) -> str:
        """Where the graphs run."""
        return self._sessions.device

    @property
    def text(self) -> OnnxNames:
        """The model's word tower, with the embeddings that it has made."""
        return self._text

    @property
    def system(self) -> _Exported:
        """See `Engine`."""
        return _Exported()

    @property
    def refinements(self) -> Refinements:
        """See `Engine`."""
        return self._refinements

    @property
    def logit_scale(self) -> float:
        """See `Engine`."""
        return self.settings.logit_scale

    def refine(self, settings: Refinements | Mapping[str, object] | None = None) -> None:
        """Change how masks are named, without another export.

        Args:
            settings: refinements, or some of them by name, such as ``{"prune": 0.05}``; None = the
                published method.

        Raises:
            MasqclipError: there is no such refinement, a value is out of its bounds, or it was
                decided when the graphs were made.
        """
        chosen = settings if isinstance(settings, Refinements) else Refinements.read(settings)
        exported = self.settings.refinements
        fixed = [name for name in _IN_GRAPHS if getattr(chosen, name) != getattr(exported, name)]
        mixes = bool(chosen.untuned_seen or chosen.untuned_unseen)
        if mixes and not self._gives("untuned_embeddings"):
            fixed.append("untuned_seen" if chosen.untuned_seen else "untuned_unseen")
        if fixed:
            raise MasqclipError(
                f"{fixed[0]} was decided when {self.name!r} was exported: refine the model itself, "
                "and export it anew"
            )
        self._refinements = chosen

    def embed_masks(
        self, image: PictureInput, masks: Masks, *, channels: Channels = "rgb"
    ) -> NDArray[np.float32]:
        """CLIP embeddings [N,E] of masks that come from elsewhere; see `Engine`."""
        picture = read_picture(image, channels=channels)
        loaded = check_own(picture, OnnxImage).image if isinstance(picture, Encoded) else picture
        given = checked_masks(masks, (loaded.height, loaded.width))
        frame, inside = self._frame(loaded)
        inputs = _framed(frame, inside)
        step = max(1, _MASK_PIXELS // (loaded.height * loaded.width))
        found = [
            self._sessions.run(
                "masks",
                {**inputs, "masks": np.stack(given[start : start + step]).astype(np.uint8)},
                ["mask_embeddings"],
            )[0]
            for start in range(0, len(given), step)
        ]
        if not found:
            return np.zeros((0, self.settings.embedding_size), np.float32)
        embeddings = np.concatenate(found)
        if not np.isfinite(embeddings).all():
            raise _no_numbers("the masks' embeddings")
        return embeddings

    def _frame(self, image: LoadedImage) -> tuple[NDArray[np.float32], tuple[int, int]]:
        """A picture as the graphs take it [3,H,W], and its (height, width) inside."""
        told = self.settings
        if told.frame is not None:
            return fit_picture(image.pixels, told.frame)
        return frame_picture(image.pixels, told, told.size_divisor)

    def _gives(self, output: str) -> bool:
        return output in self.settings.outputs["image"]

    def _encode(self, pictures: Sequence[Picture], heard: float) -> list[OnnxImage]:
        return [
            check_own(picture, OnnxImage)
            if isinstance(picture, Encoded)
            else self._see(picture, heard)
            for picture in pictures
        ]

    def _see(self, image: LoadedImage, heard: float) -> OnnxImage:
        """Run the graph of pictures over one of them."""
        started = time.perf_counter()
        frame, inside = self._frame(image)
        names = ["mask_logits", "object_logits", "mask_embeddings"]
        names += [
            name for name in ("untuned_embeddings", "picture_statistics") if self._gives(name)
        ]
        outputs = self._sessions.run("image", _framed(frame, inside), names)
        found = {name: output[0] for name, output in zip(names, outputs, strict=True)}
        statistics = found.pop("picture_statistics", None)
        if heard > 0:
            kept = _promising(found["object_logits"], heard)
            found = {name: output[kept] for name, output in found.items()}
        return OnnxImage(
            image=image,
            frame_size=(frame.shape[1], frame.shape[2]),
            resized=inside,
            statistics=statistics,
            seconds=time.perf_counter() - started,
            **found,
        )

    def _picture_notes(self, encoded: OnnxImage) -> tuple[str, ...]:
        return () if self.world is None else self.world.picture_note(encoded.statistics)

    def _rows(self, words: Vocabulary) -> NDArray[np.float32]:
        return self.text.vocabulary_rows(words, synonyms=self.refinements.synonyms)

    def _segment(
        self,
        encoded: OnnxImage,
        words: Vocabulary,
        rows: NDArray[np.float32],
        task: Task,
        *,
        min_score: float,
        level: int | None,
    ) -> Segmentation:
        return segment_encoded(
            replace(self.settings, refinements=self.refinements),
            encoded,
            words,
            rows,
            task,
            min_score=min_score,
            level=level,
        )

    def _probabilities(
        self, embeddings: NDArray[np.float32], words: Vocabulary, rows: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        told = self.settings
        log_probs = class_log_probs(
            embeddings,
            rows,
            num_classes=len(words),
            logit_scale=told.logit_scale,
            prune=self.refinements.prune,
            sigmoid_bias=told.logit_bias if told.scores == "sigmoid" else None,
        )
        probs = np.exp(log_probs)
        if not np.isfinite(probs).all():
            raise _no_numbers("the names' embeddings")
        return probs

    def _directions(self, encoded: Encoded, masks: Masks) -> NDArray[np.float32]:
        return self.embed_masks(encoded, masks)


def _framed(
    frame: NDArray[np.float32], inside: tuple[int, int]
) -> dict[str, NDArray[np.float32] | NDArray[np.int64]]:
    """A frame [3,H,W] as a batch of one."""
    return {"pixels": frame[None], "size": np.array([inside], np.int64)}


def _promising(object_logits: NDArray[np.float32], heard: float) -> NDArray[np.int64]:
    """The places of proposals that can matter, in order; one at least."""
    scores = np.nan_to_num(np.exp(object_log_scores(object_logits)), nan=-1.0)
    kept = np.flatnonzero(scores >= heard)
    return kept if len(kept) else np.array([scores.argmax()])


def _no_numbers(what: str) -> MasqclipError:
    return MasqclipError(f"{what} are no numbers: the model's weights are damaged: export it anew")
