"""Contrastive pretraining of a small CLIP on pictures with captions (Radford et al., 2021).

The shipped miniature stands on this: a CLIP that has read captions of every thing of its world and
has never seen a mask. Notable choices:

- Small pictures are windows. A picture smaller than CLIP's input becomes a patch-aligned window of
  it at a random place, with just that window's position embeddings. A window of a third of the
  patches costs a third of the time, and things keep the size they will have in whole pictures.
- A share of the patches is not looked at, others each time (FLIP, Li et al. 2023): the picture
  costs that much less, and nothing else changes.
- Small pictures may be laid together, four and four, and read each under its own patches
  (`mosaics`, see `windows.py`).
- Pictures may be drawn as they are needed (``stickers:...``), by worker processes, or on the GPU
  that trains. Sources may come and go in the course of a run: small pictures first, whole scenes
  last.
- The tokenizer is a byte-level BPE in CLIP's own format, learned from the captions, because the
  49,152 words of the original would be most of a small model's weight.
- A picture may have several captions, each of which describes it: all of them are its positives,
  and captions that say the same are one. Captions of pictures that are not in the batch may join as
  negatives (`extra_captions`): a text costs far less than a picture, and a small batch then
  compares with as many texts as a large one.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masqclip.data.digests import combine_digests, digest_model
from masqclip.data.stickers.plans import Plans
from masqclip.errors import MasqclipError
from masqclip.hub import find_weights, quiet_transformers
from masqclip.towers.families import family_of, words_of
from masqclip.towers.loading import load_clip_and_tokenizer
from masqclip.towers.normalisation import OPENAI, clip_normalisation, write_normalisation
from masqclip.towers.tower import Words
from masqclip.training.captioned import CaptionedPictures, open_captioned
from masqclip.training.distributed import gather_rows
from masqclip.training.optimizers import MUON
from masqclip.training.sampling import SkippedPictures
from masqclip.training.settings import PretrainSettings
from masqclip.training.small_clip import contrast_of, learn_tokenizer, new_clip
from masqclip.training.stage import WHOLE, Counts, Share, Stage
from masqclip.training.windows import SIDE, mosaic_features, normalise, window_features


class PretrainStage(Stage):
    """Trains a CLIP from nothing; see the module's text.

    Args:
        sources: caption folders and ``stickers:...``; each step takes one of them, in proportion
            to their sizes or weights, and all pictures of one have one size.
        settings: the CLIP and its training.
        start: the folder of a CLIP to go on from, with its tokenizer; a new one by default.
        steps: of the whole run, which sources may have a part of only.

    Raises:
        MasqclipError: a folder is empty, `start` holds no CLIP of these sizes, the pictures do not
            fit the patches, or there is a part of the run that no source has.
    """

    name = "pretrain"
    module: Any
    accumulates = False  # every picture of a batch is compared with every caption of it

    def __init__(
        self,
        sources: Sequence[str | Path],
        settings: PretrainSettings,
        *,
        start: str | Path | None = None,
        steps: int = 1,
    ) -> None:
        self.settings, self.steps = settings, steps
        self._start = None if start is None else find_weights(start, what="CLIP")
        self.sources: list[CaptionedPictures] = [open_captioned(source) for source in sources]
        _check_sources(self.sources, settings.patch_size)
        self.notes = tuple(note for source in self.sources for note in source.notes)
        self.skipped = SkippedPictures(sum(source.count for source in self.sources))
        self.normalisation = OPENAI
        if self._start is not None:
            self.normalisation = clip_normalisation(self._start)
            self.module, self.tokenizer = load_clip_and_tokenizer(self._start)
            vision = self.module.config.vision_config
            if self.module.config.model_type != settings.family:
                raise MasqclipError(
                    f"the CLIP in {start} is of the family {self.module.config.model_type!r}; the "
                    f"settings say {settings.family!r}: set family={self.module.config.model_type}"
                )
            if (vision.image_size, vision.patch_size) != (settings.image_size, settings.patch_size):
                raise MasqclipError(
                    f"the CLIP in {start} reads {vision.image_size} pixels in patches of "
                    f"{vision.patch_size}; the settings say {settings.image_size} and "
                    f"{settings.patch_size}"
                )
            return
        self.tokenizer = learn_tokenizer(
            (caption for source in self.sources for caption in source.all_captions()),
            merges=settings.merges,
        )
        torch.manual_seed(settings.seed)
        self.module = new_clip(settings, self.tokenizer)

    @property
    def words(self) -> Words:
        """The tower that reads words."""
        return words_of(self.module, self.tokenizer)

    @property
    def data(self) -> dict[str, int]:
        """How many pictures and captions there are, of those that are not drawn without end."""
        files = [source for source in self.sources if source.count]
        found = {}
        if files:
            found["pictures"] = sum(source.count for source in files)
            found["captions"] = sum(len(source.all_captions()) for source in files)
        if drawn := len(self.sources) - len(files):
            found["sources of drawn scenes"] = drawn
        return found

    @cached_property
    def inputs(self) -> dict[str, str]:
        """The data, and the CLIP that training goes on from."""
        found = {"--data": combine_digests(source.fingerprint() for source in self.sources)}
        return found | ({} if self._start is None else {"--start": digest_model(self._start)})

    def to(self, device: torch.device) -> None:
        """Move the model; scenes are painted where it is.

        Raises:
            MasqclipError: the model is to be compiled, and nothing here does so.
        """
        if self.settings.compile and device.type == "cpu":
            _check_compiler()
        super().to(device)
        for source in self.sources:
            source.place(device)
        # For windows of some dozen patches a processor's fused attention is several times slower
        # backward than the plain one; a GPU's is faster and saves memory.
        self.module.set_attn_implementation("eager" if device.type == "cpu" else "sdpa")
        if self.settings.compile:
            for layer in self.module.vision_model.encoder.layers:
                layer.compile(dynamic=False)  # pictures have few sizes
            for layer in self.module.text_model.encoder.layers:
                layer.compile(dynamic=True)  # captions come in many numbers and lengths

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Matrices decay, by Muon where it is asked for; gains, biases and embeddings do not."""
        settings = self.settings
        inner: list[nn.Parameter] = []
        matrices: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in self.module.named_parameters():
            if parameter.ndim < 2 or "embedding" in name:
                rest.append(parameter)
            elif settings.muon_rate and ".layers." in name:
                inner.append(parameter)
            else:
                matrices.append(parameter)
        adamw = {"lr": settings.learning_rate, "betas": (0.9, settings.second_moment)}
        decay = settings.weight_decay
        groups: list[dict[str, Any]] = [
            {"params": matrices, "weight_decay": decay, **adamw},
            {"params": rest, "weight_decay": 0.0, **adamw},
        ]
        if inner:
            groups.append(
                {
                    "params": inner,
                    "lr": settings.muon_rate,
                    "ns_steps": settings.muon_steps,
                    "weight_decay": decay,
                    MUON: True,
                }
            )
        return groups

    def batch(self, step: int, share: Share = WHOLE) -> dict[str, Any]:
        """Pictures of one source, and the captions of the whole batch.

        Returns:
            ``pixels`` [B,3,h,w] uint8, or the plan of scenes to be painted by `prepare`;
            ``source``, whose they are; ``side``, how many stand along each side of a mosaic, 1
            where each is alone; ``corner`` [2], the first patch of the window or of the mosaic;
            ``kept`` [B,k], the patches of each picture that are looked at; ``tokens`` [T,L], the
            captions of the whole batch, each once, and behind them the extra ones; ``described``
            [N,t] bool, which of the batch's t captions describe which of its N pictures;
            ``share``, which part this is of how many; ``skipped``, why a picture could not be
            read: it is gray, and no caption describes it.
        """
        settings = self.settings
        chance = np.random.default_rng((settings.seed, step))
        number = self._source_of(step, chance)
        source = self.sources[number]
        places = share.of(settings.batch_size)
        found = source.take(step, places, settings.batch_size, settings.seed)
        texts = list(dict.fromkeys(text for several in found.captions for text in several))
        column = {text: i for i, text in enumerate(texts)}
        described = torch.zeros(settings.batch_size, len(texts), dtype=torch.bool)
        for row, several in enumerate(found.captions):
            described[row, [column[text] for text in several]] = True
        extra = source.some_captions(settings.extra_captions, chance)
        others = list(dict.fromkeys(text for text in extra if text not in column))
        words = self.words
        tokens = words.pad(words.token_ids(texts + others, cut=True))
        described[[places[unread] for unread in found.unread]] = False
        height, width = source.size or found.size
        if min(height, width) < settings.image_size < max(height, width):
            raise MasqclipError(
                f"a picture of {height} x {width} pixels is neither a window of CLIP's input, "
                f"{settings.image_size} pixels, nor as large both ways: set image_size to "
                f"{max(height, width)} or more, or crop the pictures"
            )
        grid = settings.image_size // settings.patch_size
        rows, columns = (min(grid, length // settings.patch_size) for length in (height, width))
        side = self._side(rows, columns, len(places), chance)
        free = [grid - side * rows + 1, grid - side * columns + 1]
        return {
            "pixels": found.pictures,
            "source": number,
            "side": side,
            "corner": torch.from_numpy(chance.integers(0, free)),
            "kept": self._kept(rows * columns, chance)[list(places)],
            "tokens": tokens,
            "described": described,
            "share": (share.index, share.count),
            "skipped": list(found.unread.values()),
        }

    def _source_of(self, step: int, chance: np.random.Generator) -> int:
        """Which source a step takes: of those that have this part of the run, by weight."""
        at = step / self.steps
        there = [i for i, s in enumerate(self.sources) if s.first <= min(at, 1 - 1e-9) < s.last]
        weights = np.array([self.sources[i].weight for i in there], float)
        return there[int(chance.choice(len(there), p=weights / weights.sum()))]

    def _side(self, rows: int, columns: int, count: int, chance: np.random.Generator) -> int:
        """How many of `count` pictures, of so many patches, stand along each side of a mosaic."""
        settings = self.settings
        if not settings.mosaics:  # nothing is drawn
            return 1
        if count % SIDE**2:
            raise MasqclipError(
                f"mosaics are of {SIDE**2} pictures, and each process has {count} of the batch: "
                f"set batch_size to a multiple of {SIDE**2} times the number of processes"
            )
        small = SIDE * max(rows, columns) * settings.patch_size <= settings.image_size
        return SIDE if chance.random() < settings.mosaics and small else 1

    def _kept(self, patches: int, chance: np.random.Generator) -> Tensor:
        """[N,k]: which patches of each picture of the whole batch are looked at."""
        left = max(1, round(patches * (1 - self.settings.drop_patches)))
        every = np.broadcast_to(np.arange(patches), (self.settings.batch_size, patches))
        if left < patches:
            every = chance.random(every.shape).argsort(axis=1)[:, :left]
        return torch.from_numpy(np.sort(every, axis=1))

    def prepare(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
        """Paint what is only planned, bring pictures to 0..1 and at most CLIP's size."""
        self.skipped.note(batch["skipped"])
        pictures, side = batch["pixels"], self.settings.image_size
        if isinstance(pictures, Plans):
            pictures = self.sources[batch["source"]].paint(pictures)
        pixels = pictures.float() / 255
        if min(pixels.shape[-2:]) >= side and pixels.shape[-2:] != (side, side):
            pixels = F.interpolate(
                pixels, size=(side, side), mode="bicubic", align_corners=False
            ).clamp(0, 1)
        return batch | {"pixels": pixels}, {}

    @property
    def remarks(self) -> str:
        """Which pictures were skipped."""
        return self.skipped.summary()

    def losses(self, batch: dict[str, Any], totals: Counts) -> dict[str, Tensor]:
        """The contrastive loss, and how often a picture finds a caption of its own.

        Symmetric, over all captions and over all pictures; of a family whose pairs are judged one
        by one (Zhai et al., 2023, eq. 1) the sum over a picture's pairs.
        """
        clip, settings = self.module, self.settings
        pixels = normalise(batch["pixels"], self.normalisation)
        features = window_features if batch["side"] == 1 else mosaic_features
        images = F.normalize(features(clip, pixels, batch["corner"], batch["kept"]).float(), dim=-1)
        texts = F.normalize(self.words.embed(batch["tokens"]).float(), dim=-1)
        family = family_of(clip.config.model_type)
        scale = clip.logit_scale.exp().clamp(max=family.largest_scale)
        # A part compares its pictures with all captions, and its captions with all pictures.
        described, (part, parts) = batch["described"].float(), batch["share"]
        pictures, captions = described.shape
        own = F.pad(described[part * len(images) :][: len(images)], (0, len(texts) - captions))
        # Autocast would round the very differences that are learned from.
        with torch.autocast(images.device.type, enabled=False):
            by_image = images @ texts.T * scale
            found = own.gather(1, by_image.argmax(-1, keepdim=True)).sum() / pictures
            if contrast_of(settings, clip) == "sigmoid":
                logits = by_image + clip.logit_bias
                loss = F.binary_cross_entropy_with_logits(logits, own, reduction="sum") / pictures
                return {"loss": loss, "found": found}
            by_text = texts[:captions][part::parts] @ gather_rows(images).T * scale
        loss = (
            _spread(by_image, own) / pictures
            + _spread(by_text, described.T[part::parts]) / captions
        )
        return {"loss": loss / 2, "found": found}

    def save(self, folder: Path) -> None:
        """Write the CLIP and its tokenizer in Hugging Face's format."""
        with quiet_transformers():
            self.module.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        image_size = self.module.config.vision_config.image_size
        write_normalisation(folder, self.normalisation, image_size)


def _spread(logits: Tensor, positives: Tensor) -> Tensor:
    """Cross-entropy with a row's positives, in equal shares; the sum over rows that have any."""
    target = positives / positives.sum(-1, keepdim=True).clamp(min=1)
    return F.cross_entropy(logits, target, reduction="sum")


def _check_compiler() -> None:
    """Refuse to compile for a CPU where there is no compiler; torch would tell of it in a page."""
    # As torch finds it.
    name = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if sys.platform != "win32" and shutil.which(name) is None:
        raise MasqclipError(
            f"compile=true needs a C++ compiler on a CPU, and there is no {name}: install one, or "
            "set compile=false"
        )


def _check_sources(sources: Sequence[CaptionedPictures], patch_size: int) -> None:
    """Refuse pictures that are no whole patches, and parts of the run without pictures."""
    if not sources:
        raise MasqclipError("pretraining needs folders with captioned pictures; none is given")
    for source in sources:
        if source.size is not None and any(side % patch_size for side in source.size):
            raise MasqclipError(
                f"pictures of {source.size[0]} pixels are no whole number of patches of "
                f"{patch_size}: give a size that is"
            )
    covered = 0.0
    for source in sorted(sources, key=lambda source: source.first):
        if source.first > covered:
            break
        covered = max(covered, source.last)
    if covered < 1:
        raise MasqclipError(
            f"no data is given for the part of the run from {covered:g} on: see first and last"
        )
