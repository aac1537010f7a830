"""A picture between the two halves of the work: framed for the model, encoded, not yet named."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from masqclip.clip.classifier import geometric_mean
from masqclip.clip.masked_vision import ImageTokens
from masqclip.clip.patches import input_size
from masqclip.configuration import MasQClipConfig
from masqclip.data.clip_text import reading
from masqclip.data.frames import resized_size
from masqclip.data.images import LoadedImage
from masqclip.decoding.instance import instance_mask
from masqclip.decoding.masks import ResizedMasks
from masqclip.devices import wait_for
from masqclip.errors import MasqclipError
from masqclip.model import MasQClipModel
from masqclip.options import check_size, longest_edge
from masqclip.picture import Encoded, Picture, check_own
from masqclip.proposals.base import object_log_scores, tempered
from masqclip.proposals.seen import seen_by
from masqclip.towers.families import read_clip_config
from masqclip.weights.configs import describe

#: A probability of none or one has no finite logit to be resized.
_LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True, repr=False)
class EncodedImage(Encoded):
    """A picture after the proposer and CLIP have seen it, before any word.

    Attributes:
        image: the picture as it was read.
        mask_logits: [Q,h,w], over the padded frame.
        object_logits: [Q,2], (object, no object).
        mask_embeddings: [Q,E].
        tokens: CLIP's keys and values, for masks that come later.
        pixel_embeddings: [E,h,w], of a system that has no masks before it knows the words.
        frame_size: (H, W) of the padded frame.
        resized: (height, width) of the picture inside the frame.
        seconds: that encoding took, its share of those that went together; None where nobody
            measured.
    """

    image: LoadedImage
    mask_logits: Tensor
    object_logits: Tensor
    mask_embeddings: Tensor
    tokens: ImageTokens
    frame_size: tuple[int, int]
    resized: tuple[int, int]
    pixel_embeddings: Tensor | None = None
    seconds: float | None = None

    def __repr__(self) -> str:
        """One line: the picture, its size, and how many proposals there are."""
        image = self.image
        return (
            f"<EncodedImage: {image.source}, {image.width} x {image.height} pixels, "
            f"{len(self.mask_logits)} proposals on {self.mask_logits.device}>"
        )

    @property
    def masks(self) -> ResizedMasks:
        """Mask logits at the picture's own size, made as they are read."""
        size = (self.image.height, self.image.width)
        return ResizedMasks(self.mask_logits, self.frame_size, self.resized, size)

    def with_image(self, image: LoadedImage) -> Self:
        """See `Encoded`."""
        return replace(self, image=image)

    def masks_at(self, size: tuple[int, int]) -> NDArray[np.float32]:
        """See `Encoded`."""
        return replace(self.masks, output_size=size).rows(0, size[0]).cpu().numpy()

    def proposed_mask(self, proposal: int) -> NDArray[np.bool_]:
        """See `Encoded`."""
        mask: NDArray[np.bool_] = instance_mask(self.masks, proposal).cpu().numpy()
        return mask

    def object_scores(self) -> NDArray[np.float32]:
        """See `Encoded`."""
        return object_log_scores(self.object_logits).exp().float().cpu().numpy()

    def directions(self) -> NDArray[np.float32]:
        """See `Encoded`."""
        return F.normalize(self.mask_embeddings.float().cpu(), dim=-1).numpy()

    @torch.inference_mode()
    def named(
        self,
        model: MasQClipModel,
        rows: Tensor,
        num_classes: int,
        *,
        object_score: bool = True,
        names: Sequence[str] = (),
    ) -> tuple[ResizedMasks, Tensor]:
        """The masks under some names: the masks, and [Q,K] log-probabilities.

        Args:
            model: that encoded the picture.
            rows: text embeddings of the names, distractors and background (`TextEncoder`).
            num_classes: how many of the rows are names, K.
            object_score: multiply class probabilities with the object score (MasQCLIP, eq. 6).
            names: the K names, for refinements that ask which of them tuning has seen.

        A system without masks gives each name one, which says how probable it is at a pixel.
        """
        if self.pixel_embeddings is None:
            log_probs = self._classes(model, rows, num_classes, names)
            if object_score:
                scores = object_log_scores(self.object_logits)
                if trust := model.refinements.trust:
                    scores = tempered(scores, log_probs, trust)
                log_probs = log_probs + scores.unsqueeze(-1)
            return self.masks, log_probs
        pixels = self.pixel_embeddings.flatten(1).T
        probs = model.classify(pixels[None], rows, num_classes)[0].exp().T
        logits = probs.logit(eps=_LEAST_PROBABILITY)
        shape = self.pixel_embeddings.shape[-2:]
        masks = replace(self.masks, logits=logits.unflatten(1, shape))
        return masks, torch.eye(num_classes, device=probs.device).log()

    def _classes(
        self, model: MasQClipModel, rows: Tensor, num_classes: int, names: Sequence[str]
    ) -> Tensor:
        """[Q,K] class log-probabilities: the tuned queries' answer, or mixed with CLIP's own."""
        log_probs = model.classify(self.mask_embeddings[None], rows, num_classes)[0]
        mix = model.refinements
        if not (mix.untuned_seen or mix.untuned_unseen):
            return log_probs
        if not self.tokens.keys:
            raise MasqclipError(
                "untuned_seen and untuned_unseen ask CLIP about the picture once more, and of this "
                "one only its embeddings are left: encode the picture itself"
            )
        untuned = model.embed_untuned(self.tokens, self.mask_logits[None])
        others = model.classify(untuned, rows, num_classes)[0]
        seen = {reading(name) for name in model.config.tuned_names}
        weights = [mix.untuned_seen if reading(n) in seen else mix.untuned_unseen for n in names]
        return geometric_mean(log_probs, others, log_probs.new_tensor(weights))


@torch.inference_mode()
def encode_pictures(
    model: MasQClipModel, images: Sequence[Picture], *, min_object_score: float = 0.0
) -> list[EncodedImage]:
    """Run proposer and CLIP over pictures; those whose frames have one size go together.

    Args:
        model: on any device.
        images: what is encoded already is returned as it is.
        min_object_score: proposals below it do not enter CLIP and are left out. A proposal scores
            at most its object score under any name, so results above this score are the same.
    """
    encoded = {
        i: check_own(image, EncodedImage)
        for i, image in enumerate(images)
        if isinstance(image, Encoded)
    }
    loaded = {i: image for i, image in enumerate(images) if isinstance(image, LoadedImage)}
    framed = {i: frame_picture(image.pixels, model.config) for i, image in loaded.items()}
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, (frame, _) in framed.items():
        groups.setdefault(tuple(frame.shape), []).append(i)
    for shape, members in groups.items():
        started = time.perf_counter()
        pixels = torch.stack([framed[i][0] for i in members]).to(model.device)
        inside = torch.zeros(len(members), *shape[1:], dtype=torch.bool, device=model.device)
        for row, i in enumerate(members):
            height, width = framed[i][1]
            inside[row, :height, :width] = True
        seen = model.see(pixels, inside, min_object_score=min_object_score)
        wait_for(model.device)
        seconds = (time.perf_counter() - started) / len(members)
        for row, i in enumerate(members):
            encoded[i] = EncodedImage(
                image=loaded[i],
                mask_logits=seen.proposals.mask_logits[row].float(),
                object_logits=seen.proposals.object_logits[row].float(),
                mask_embeddings=seen.mask_embeddings[row].float(),
                pixel_embeddings=seen.pixels_of(row),
                tokens=seen.tokens.select(slice(row, row + 1)),
                frame_size=(shape[1], shape[2]),
                resized=framed[i][1],
                seconds=seconds,
            )
    return [encoded[i] for i in range(len(images))]


def resize_model(model: MasQClipModel, size: str | int | tuple[int, int]) -> None:
    """Have a model, and each of its proposers, see pictures at another size; see `set_size`."""
    set_size(model.config, size)
    model.proposer.follow(model.config.shortest_edge, model.config.longest_edge)
    model.config.proposer_config = describe(model.proposer.config)


def set_size(config: MasQClipConfig, size: str | int | tuple[int, int]) -> None:
    """Have a model resize pictures by other edges than its own.

    Args:
        config: the model's, which is changed.
        size: the shorter side in pixels, of which the longer may be as much as in the model's own
            ratio; or both, as a pair or ``"800:1333"``.

    Raises:
        MasqclipError: it is no size.
    """
    shortest, longest = check_size(size, what="size")
    if longest is None:
        own = (config.shortest_edge, config.longest_edge)
        longest = longest_edge(shortest, own, what="size")
    config.shortest_edge, config.longest_edge = shortest, longest


def seen_sizes(config: MasQClipConfig, height: int, width: int) -> str:
    """What a model's parts see of a picture of that size, in words, width first.

    For instance ``the proposer sees 1067 x 800 pixels, CLIP 336 x 336``. Padding is not counted.

    Args:
        config: the model's.
        height, width: of the picture, in pixels.
    """
    inside, frame = frame_sizes(height, width, config)
    proposers = seen_by(config.proposer_type, config.proposer_config, inside)
    told = " and ".join(f"{wide} x {tall}" for tall, wide in proposers)
    clip = read_clip_config(config.clip_config, source="the model's clip_config")
    rows, columns = input_size(clip.vision_config, frame, config.clip_input)
    who = "the proposer sees" if len(proposers) == 1 else "the proposers see"
    return f"{who} {told} pixels, CLIP {columns} x {rows}"


def frame_sizes(
    height: int, width: int, config: MasQClipConfig
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of a picture inside its padded frame, and of the frame."""
    new = resized_size(height, width, config)
    divisor = config.size_divisor
    return new, (-(-new[0] // divisor) * divisor, -(-new[1] // divisor) * divisor)


def frame_picture(pixels: np.ndarray, config: MasQClipConfig) -> tuple[Tensor, tuple[int, int]]:
    """Resize a picture by the model's rule and pad it: [3,H,W] in 0..255, and its size inside."""
    height, width = pixels.shape[:2]
    new, frame = frame_sizes(height, width, config)
    picture = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None]
    if new != (height, width):
        picture = F.interpolate(
            picture, size=new, mode="bilinear", align_corners=False, antialias=True
        )
    right, bottom = frame[1] - new[1], frame[0] - new[0]
    return F.pad(picture[0].float(), (0, right, 0, bottom)), new
