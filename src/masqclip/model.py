"""The model: a class-agnostic proposer and a masked CLIP, wired together.

    pixels -> proposer -> masks, object scores
       +----> frozen CLIP <- masks         -> mask embeddings -> x words -> class log-probabilities

The vision side knows no word: text embeddings come in as an argument (`clip/text.py` makes them),
so any vocabulary can be asked for at any call. Pixels come in raw, because the two halves normalise
the same picture differently.

Shapes: B pictures, Q proposals, H W the padded frame, h w = H/4 W/4, E embedding size, K classes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from masqclip.clip.classifier import class_log_probs
from masqclip.clip.mask_coverage import patch_weights
from masqclip.clip.masked_vision import (
    ImageTokens,
    MaskQueries,
    embed_masks,
    encode_and_embed,
    encode_image,
)
from masqclip.clip.patches import input_size, patch_visibility
from masqclip.clip.queries_file import load_queries, save_queries
from masqclip.configuration import MasQClipConfig
from masqclip.data.files import shared
from masqclip.errors import MasqclipError
from masqclip.hub import find_weights
from masqclip.model_output import MasQClipOutput, Seen
from masqclip.picture import Masks
from masqclip.post_processing import PostProcessing
from masqclip.proposals.adapters import build_proposer
from masqclip.proposals.base import Proposals, promising
from masqclip.proposals.segmenters import ModelProposer
from masqclip.refinements import Refinements
from masqclip.result import Task
from masqclip.towers.families import build_clip, learned_scale, tower_of
from masqclip.towers.tower import Tower
from masqclip.weights.configs import describe
from masqclip.weights.folders import load_model


class MasQClipModel(PostProcessing, PreTrainedModel):
    """MasQCLIP: a CLIP, a proposer, and the query projections that join them.

    Attributes:
        system: what a folder's ``config.json`` calls it; the systems of `baselines` are others.
        tasks: what it can be asked for.
        takes_masks: whether it names masks that come from elsewhere.
        has_masks: whether it has masks before it knows the words.
    """

    config_class = MasQClipConfig
    config: MasQClipConfig
    base_model_prefix = "masqclip"
    main_input_name = "pixel_values"
    _supports_sdpa = True
    system: ClassVar[str] = "masqclip"
    tasks: ClassVar[tuple[Task, ...]] = ("instance", "semantic", "panoptic")
    takes_masks: ClassVar[bool] = True
    has_masks: ClassVar[bool] = True

    def __init__(self, config: MasQClipConfig) -> None:
        super().__init__(config)
        if config.system != self.system:
            raise MasqclipError(
                f"this is a model of the system {config.system!r}, not of {self.system!r}; "
                "Segmenter.from_pretrained loads either"
            )
        self.clip: Any = build_clip(config.clip_config, source="the model's clip_config")
        self.proposer = build_proposer(config.proposer_type, config.proposer_config)
        self.proposer.black = _black(config)
        self.queries = MaskQueries(self.tower, config.own_projections)
        self.queries.start(self.tower, config.query_start)  # type: ignore[arg-type]
        self.clip.requires_grad_(False)
        self._make_parts()
        self.post_init()

    def _make_parts(self) -> None:
        """Make what a system has beside these, with the weights that training starts from."""

    @property
    def tower(self) -> Tower:
        """CLIP's tower that reads pictures, of whatever family."""
        return tower_of(self.clip)

    @property
    def refinements(self) -> Refinements:
        """What of the reading and naming of masks is not as published."""
        return Refinements.read(self.config.refinements)

    @property
    def learned(self) -> nn.Module:
        """All that training the system changes."""
        return self.queries

    def _init_weights(self, module: Any) -> None:
        """The parts initialise themselves; nothing is left to do here."""

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path | None, **options: Any) -> Any:
        """Load a model from a folder or the Hub; nothing in a folder is trusted.

        Args:
            name_or_path: a folder, or the Hub's owner/name.
            options: ``dtype`` (float32 by default), and ``output_loading_info`` to have what the
                folder lacks as well; all of transformers' where `name_or_path` is None.

        Raises:
            MasqclipError: there is none, a file of it is damaged, or it is another model.
        """
        if name_or_path is None:
            return super().from_pretrained(None, **options)
        if wrong := options.keys() - {"dtype", "output_loading_info"}:
            raise MasqclipError(f"a folder's model is loaded without the option {min(wrong)!r}")
        folder = find_weights(name_or_path, what="model")
        told = options.pop("output_loading_info", False)
        model, missing = load_model(cls, folder, pickled=False, **options)
        return (model, {"missing_keys": missing}) if told else model

    @classmethod
    def from_parts(
        cls,
        clip: nn.Module,
        proposer: ModelProposer,
        **settings: Any,
    ) -> Self:
        """Join a CLIP and a proposer that exist already; the queries are untuned (MaskCLIP).

        Args:
            clip: the CLIP, of any family, which is frozen; it becomes a part of the model.
            proposer: makes the masks; it becomes a part of the model.
            settings: of `MasQClipConfig`, for instance ``shortest_edge``.
        """
        given: Any = clip
        learned = learned_scale(clip)
        config = MasQClipConfig(
            clip_config=describe(given.config),
            proposer_type=proposer.config.model_type,
            proposer_config=describe(proposer.config),
            system=cls.system,
            **(learned | settings),
        )
        with torch.device("meta"):
            model = cls(config)
        model.clip = clip.requires_grad_(False)
        model.proposer = proposer
        proposer.black = _black(config)
        model.queries = MaskQueries(model.tower, config.own_projections)
        model.queries.start(model.tower, config.query_start)  # type: ignore[arg-type]
        model._make_parts()
        return model.eval()

    def save_queries(self, path: str | Path) -> None:
        """Write what MasQ-Tuning learned as an add-on to this model's CLIP (`queries_file`).

        Raises:
            MasqclipError: its masks have more of their own than queries.
        """
        save_queries(path, self.queries, self.tower)

    def load_queries(self, path: str | Path) -> None:
        """Take over an add-on.

        Raises:
            MasqclipError: it was tuned on another CLIP, or is no add-on; or this model's masks have
                more of their own than queries.
        """
        load_queries(path, self.queries, self.tower)

    def propose(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        """Masks and object scores.

        Args:
            pixel_values: [B,3,H,W] RGB in 0..255, zero where `pixel_mask` is false.
            pixel_mask: [B,H,W] bool, true where the picture is.
        """
        dtype = next(self.proposer.parameters()).dtype
        normalised = self.normalise(pixel_values, pixel_mask)
        return self.proposer(normalised.to(dtype), pixel_mask)

    def normalise(self, pixel_values: Tensor, pixel_mask: Tensor) -> Tensor:
        """Frames as the proposer takes them, zero on padding; arguments as in `propose`."""
        mean = pixel_values.new_tensor(self.config.pixel_mean).view(3, 1, 1)
        std = pixel_values.new_tensor(self.config.pixel_std).view(3, 1, 1)
        return (pixel_values - mean) / std * pixel_mask.unsqueeze(1)

    def encode_image(self, pixel_values: Tensor) -> ImageTokens:
        """What masks read of each frame, resized to CLIP's input (`clip_size`).

        Args:
            pixel_values: [B,3,H,W] RGB in 0..255, zero-padded.
        """
        return encode_image(self.tower, self._clip_input(pixel_values), self.queries)

    def embed_masks(self, tokens: ImageTokens, mask_logits: Tensor) -> Tensor:
        """[B,Q,E] embeddings of masks, given as logits [B,Q,h,w] over the padded frame."""
        return self.embed_patches(tokens, self.visible_patches(mask_logits))

    def embed_patches(self, tokens: ImageTokens, visible: Tensor) -> Tensor:
        """[B,Q,E] embeddings of masks, given as the patches [B,Q,P] that they see; see
        `masked_vision.embed_masks`."""
        first = self.refinements.mask_from_block
        return embed_masks(self.tower, self.queries, tokens, visible, mask_from=first)

    def embed_untuned(self, tokens: ImageTokens, mask_logits: Tensor) -> Tensor:
        """[B,Q,E] embeddings of masks by CLIP's own queries, as `embed_masks`."""
        visible, first = self.visible_patches(mask_logits), self.refinements.mask_from_block
        return embed_masks(self.tower, None, tokens, visible, mask_from=first)

    def encode_and_embed(
        self, pixel_values: Tensor, mask_logits: Tensor
    ) -> tuple[ImageTokens, Tensor]:
        """`encode_image` and `embed_masks` in one pass, faster."""
        visible, first = self.visible_patches(mask_logits), self.refinements.mask_from_block
        pixels = self._clip_input(pixel_values)
        return encode_and_embed(self.tower, self.queries, pixels, visible, mask_from=first)

    def see(
        self, pixel_values: Tensor, pixel_mask: Tensor, *, min_object_score: float = 0.0
    ) -> Seen:
        """All that is taken from frames before any word; arguments as in `propose`.

        Args:
            min_object_score: proposals below it are left out.
        """
        proposals = promising(self.propose(pixel_values, pixel_mask), min_object_score)
        tokens, embeddings = self.encode_and_embed(pixel_values, proposals.mask_logits)
        return Seen(proposals, embeddings, tokens)

    def _clip_input(self, pixel_values: Tensor) -> Tensor:
        """Frames [B,3,H,W] in 0..255, resized and normalised as CLIP takes them."""
        resized = F.interpolate(
            pixel_values / 255,
            size=self.clip_size(pixel_values),
            mode=self.config.clip_resample,
            align_corners=False,
            antialias=self.config.clip_input == "aspect",  # the published stretch has none
        )
        mean = pixel_values.new_tensor(self.config.clip_mean).view(3, 1, 1)
        std = pixel_values.new_tensor(self.config.clip_std).view(3, 1, 1)
        return ((resized - mean) / std).to(self.dtype)

    def visible_patches(self, mask_logits: Tensor) -> Tensor:
        """[B,Q,P]: the patches of CLIP's input that masks, given as logits, cover
        (`patch_visibility`)."""
        return patch_visibility(
            mask_logits,
            image_size=self.clip_size(mask_logits),
            patch_size=self.tower.patch_size,
            share=self.refinements.patch_coverage == "share",
        )

    def patch_weights(
        self,
        masks: Masks,
        *,
        size: tuple[int, int],
        resized: tuple[int, int],
        frame: tuple[int, int],
    ) -> Tensor:
        """[N,P]: how much the patches of CLIP's input count to given masks; the arguments are those
        of `mask_coverage.patch_weights`."""
        patch = self.tower.patch_size
        rows, columns = (side // patch for side in self.clip_size(frame))
        return patch_weights(
            masks,
            size=size,
            resized=resized,
            frame=frame,
            grid=(rows, columns),
            device=self.device,
        )

    def clip_size(self, frame: Tensor | tuple[int, int]) -> tuple[int, int]:
        """(height, width) in pixels at which CLIP sees a frame, or a map in the frame's aspect.

        The published square, or about as many patches in the frame's own aspect.
        """
        if isinstance(frame, Tensor):
            frame = (frame.shape[-2], frame.shape[-1])
        return input_size(self.tower, frame, self.config.clip_input)

    def classify(
        self, mask_embeddings: Tensor, text_embeddings: Tensor, num_classes: int
    ) -> Tensor:
        """[B,Q,K] class log-probabilities, as the model's settings score (`class_log_probs`)."""
        return class_log_probs(
            mask_embeddings,
            text_embeddings,
            num_classes=num_classes,
            logit_scale=self.config.logit_scale,
            prune=self.refinements.prune,
            sigmoid_bias=self.config.logit_bias if self.config.scores == "sigmoid" else None,
        )

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> None:
        """As transformers has it; what it writes is for readers, as far as the umask lets them."""
        with shared(Path(save_directory)):
            super().save_pretrained(save_directory, **options)

    def forward(
        self,
        pixel_values: Tensor,
        pixel_mask: Tensor | None = None,
        text_embeddings: Tensor | None = None,
        num_classes: int | None = None,
    ) -> MasQClipOutput:
        """Propose, embed and, given words, classify.

        Args:
            pixel_values: [B,3,H,W] RGB in 0..255, zero-padded at the bottom right.
            pixel_mask: [B,H,W] bool, true where the picture is; everywhere by default.
            text_embeddings: [R,E] L2-normalised: the classes, then distractors, then background.
            num_classes: how many rows are classes; all but the last by default.

        Raises:
            MasqclipError: the system has pixel embeddings in place of masks.
        """
        if not self.has_masks:
            raise MasqclipError(
                f"a model of the system {self.system!r} has no masks to put out: a Segmenter of "
                "its folder names its pixels"
            )
        if pixel_mask is None:
            pixel_mask = torch.ones_like(pixel_values[:, 0], dtype=torch.bool)
        seen = self.see(pixel_values, pixel_mask)
        log_probs = None
        if text_embeddings is not None:
            classes = len(text_embeddings) - 1 if num_classes is None else num_classes
            log_probs = self.classify(seen.mask_embeddings, text_embeddings, classes)
        return MasQClipOutput(
            mask_logits=seen.proposals.mask_logits,
            object_logits=seen.proposals.object_logits,
            mask_embeddings=seen.mask_embeddings,
            class_log_probs=log_probs,
            frame_size=(int(pixel_values.shape[-2]), int(pixel_values.shape[-1])),
            image_sizes=[(int(mask.any(1).sum()), int(mask.any(0).sum())) for mask in pixel_mask],
        )


def _black(config: MasQClipConfig) -> tuple[float, ...]:
    """A black pixel, normalised for the proposer."""
    return tuple(-mean / std for mean, std in zip(config.pixel_mean, config.pixel_std, strict=True))
