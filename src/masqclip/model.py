"""The model: a class-agnostic proposer and a masked CLIP, wired together.

    pixels -> proposer -> masks, object scores
       +----> frozen CLIP <- masks         -> mask embeddings -> x words -> class log-probabilities

The vision side knows no word: text embeddings come in as an argument (`clip/text.py` makes them),
so any vocabulary can be asked for at any call. Pixels come in raw, because the two halves normalise
the same picture differently.

Shapes: B pictures, Q proposals, H W the padded frame, h w = H/4 W/4, E embedding size, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, PreTrainedModel

from masqclip.clip.classifier import class_log_probs
from masqclip.clip.mask_coverage import Masks, patch_weights
from masqclip.clip.masked_vision import (
    ImageTokens,
    MaskQueries,
    embed_masks,
    encode_and_embed,
    encode_image,
    input_size,
    patch_visibility,
)
from masqclip.clip.queries_file import load_queries, save_queries
from masqclip.configuration import MasQClipConfig
from masqclip.decoding.instance import decode_instance
from masqclip.decoding.panoptic import decode_panoptic
from masqclip.decoding.semantic import decode_semantic, semantic_scores
from masqclip.errors import MasqclipError
from masqclip.export.coco import masks_to_rle
from masqclip.hub import find_weights
from masqclip.model_output import MasQClipOutput
from masqclip.proposals.adapters import build_proposer
from masqclip.proposals.base import Proposals
from masqclip.proposals.segmenters import SegmenterProposer
from masqclip.weights.configs import build_config, describe
from masqclip.weights.folders import load_model


class MasQClipModel(PreTrainedModel):
    """MasQCLIP: a CLIP, a proposer, and the query projections that join them."""

    config_class = MasQClipConfig
    config: MasQClipConfig
    base_model_prefix = "masqclip"
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: MasQClipConfig) -> None:
        super().__init__(config)
        clip_config = build_config(CLIPConfig, config.clip_config, source="the model's clip_config")
        self.clip = CLIPModel(clip_config)
        self.proposer = build_proposer(config.proposer_type, config.proposer_config)
        self.proposer.black = _black(config)
        self.queries = MaskQueries(self.clip.vision_model)
        self.queries.start(self.clip.vision_model, config.query_start)  # type: ignore[arg-type]
        self.clip.requires_grad_(False)
        self.post_init()

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
        clip: CLIPModel,
        proposer: SegmenterProposer,
        **settings: Any,
    ) -> MasQClipModel:
        """Join a CLIP and a proposer that exist already; the queries are untuned (MaskCLIP).

        Args:
            clip: the CLIP, which is frozen; it becomes a part of the model.
            proposer: makes the masks; it becomes a part of the model.
            settings: of `MasQClipConfig`, for instance ``shortest_edge``.
        """
        learned = {"logit_scale": min(100.0, float(clip.logit_scale.detach().exp()))}
        config = MasQClipConfig(
            clip_config=describe(clip.config),
            proposer_type=proposer.config.model_type,
            proposer_config=describe(proposer.config),
            **(learned | settings),
        )
        with torch.device("meta"):
            model = cls(config)
        model.clip = clip.requires_grad_(False)
        model.proposer = proposer
        proposer.black = _black(config)
        model.queries = MaskQueries(clip.vision_model)
        model.queries.start(clip.vision_model, config.query_start)  # type: ignore[arg-type]
        return model.eval()

    def save_queries(self, path: str | Path) -> None:
        """Write what MasQ-Tuning learned as an add-on to this model's CLIP (`queries_file`)."""
        save_queries(path, self.queries, self.clip.vision_model)

    def load_queries(self, path: str | Path) -> None:
        """Take over an add-on.

        Raises:
            MasqclipError: it was tuned on another CLIP, or is no add-on.
        """
        load_queries(path, self.queries, self.clip.vision_model)

    def propose(self, pixel_values: Tensor, pixel_mask: Tensor) -> Proposals:
        """Masks and object scores.

        Args:
            pixel_values: [B,3,H,W] RGB in 0..255, zero where `pixel_mask` is false.
            pixel_mask: [B,H,W] bool, true where the picture is.
        """
        mean = pixel_values.new_tensor(self.config.pixel_mean).view(3, 1, 1)
        std = pixel_values.new_tensor(self.config.pixel_std).view(3, 1, 1)
        normalised = (pixel_values - mean) / std * pixel_mask.unsqueeze(1)
        dtype = next(self.proposer.parameters()).dtype
        return self.proposer(normalised.to(dtype), pixel_mask)

    def encode_image(self, pixel_values: Tensor) -> ImageTokens:
        """CLIP's keys and values of each frame, resized to CLIP's input (`clip_size`).

        Args:
            pixel_values: [B,3,H,W] RGB in 0..255, zero-padded.
        """
        return encode_image(self.clip.vision_model, self._clip_input(pixel_values))

    def embed_masks(self, tokens: ImageTokens, mask_logits: Tensor) -> Tensor:
        """[B,Q,E] embeddings of masks, given as logits [B,Q,h,w] over the padded frame."""
        return self.embed_patches(tokens, self.visible_patches(mask_logits))

    def embed_patches(self, tokens: ImageTokens, visible: Tensor) -> Tensor:
        """[B,Q,E] embeddings of masks, given as the patches [B,Q,P] that they see; see
        `masked_vision.embed_masks`."""
        return embed_masks(self.clip, self.queries, tokens, visible)

    def encode_and_embed(
        self, pixel_values: Tensor, mask_logits: Tensor
    ) -> tuple[ImageTokens, Tensor]:
        """`encode_image` and `embed_masks` in one pass, faster."""
        visible = self.visible_patches(mask_logits)
        return encode_and_embed(self.clip, self.queries, self._clip_input(pixel_values), visible)

    def _clip_input(self, pixel_values: Tensor) -> Tensor:
        """Frames [B,3,H,W] in 0..255, resized and normalised as CLIP takes them."""
        resized = F.interpolate(
            pixel_values / 255,
            size=self.clip_size(pixel_values),
            mode="bicubic",
            align_corners=False,
            antialias=self.config.clip_input == "aspect",  # the published stretch has none
        )
        mean = pixel_values.new_tensor(self.config.clip_mean).view(3, 1, 1)
        std = pixel_values.new_tensor(self.config.clip_std).view(3, 1, 1)
        return ((resized - mean) / std).to(self.dtype)

    def visible_patches(self, mask_logits: Tensor) -> Tensor:
        """[B,Q,P] bool: the patches of CLIP's input that masks, given as logits, cover."""
        return patch_visibility(
            mask_logits,
            image_size=self.clip_size(mask_logits),
            patch_size=self.clip.config.vision_config.patch_size,
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
        patch = self.clip.config.vision_config.patch_size
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
        return input_size(self.clip.config.vision_config, frame, self.config.clip_input)

    def classify(
        self, mask_embeddings: Tensor, text_embeddings: Tensor, num_classes: int
    ) -> Tensor:
        """[B,Q,K] class log-probabilities, at the model's own temperature (`class_log_probs`)."""
        return class_log_probs(
            mask_embeddings,
            text_embeddings,
            num_classes=num_classes,
            logit_scale=self.config.logit_scale,
        )

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
        """
        if pixel_mask is None:
            pixel_mask = torch.ones_like(pixel_values[:, 0], dtype=torch.bool)
        proposals = self.propose(pixel_values, pixel_mask)
        _, embeddings = self.encode_and_embed(pixel_values, proposals.mask_logits)
        log_probs = None
        if text_embeddings is not None:
            classes = len(text_embeddings) - 1 if num_classes is None else num_classes
            log_probs = self.classify(embeddings, text_embeddings, classes)
        return MasQClipOutput(
            mask_logits=proposals.mask_logits,
            object_logits=proposals.object_logits,
            mask_embeddings=embeddings,
            class_log_probs=log_probs,
            frame_size=(int(pixel_values.shape[-2]), int(pixel_values.shape[-1])),
            image_sizes=[(int(mask.any(1).sum()), int(mask.any(0).sum())) for mask in pixel_mask],
        )

    def post_process_semantic_segmentation(
        self,
        outputs: MasQClipOutput,
        target_sizes: Sequence[tuple[int, int]] | None = None,
        return_segmentation_scores: bool = False,
    ) -> list[Any]:
        """Class maps, as transformers' image processors return them.

        Returns:
            For each picture a [H,W] map of class indices, or with `return_segmentation_scores` a
            dictionary ``{"segmentation": [H,W], "segmentation_scores": [K,H,W]}``.
        """
        results: list[Any] = []
        for i, log_probs in enumerate(outputs.log_probs):
            masks = outputs.masks(i, _size(target_sizes, i))
            segmentation = decode_semantic(masks, log_probs).class_map
            if return_segmentation_scores:
                scores = semantic_scores(masks, log_probs)
                results.append({"segmentation": segmentation, "segmentation_scores": scores})
            else:
                results.append(segmentation)
        return results

    def post_process_instance_segmentation(
        self,
        outputs: MasQClipOutput,
        threshold: float = 0.5,
        target_sizes: Sequence[tuple[int, int]] | None = None,
        return_coco_annotation: bool = False,
        return_binary_maps: bool = False,
        label_ids_to_fuse: Iterable[int] = (),
    ) -> list[dict[str, Any]]:
        """Instances above `threshold`, as transformers' image processors return them.

        Args:
            outputs: of this model.
            threshold: smallest score that is kept.
            target_sizes: (height, width) of each result.
            return_coco_annotation: ``segmentation`` is a list of COCO run-length encodings.
            return_binary_maps: ``segmentation`` is a [N,H,W] tensor of masks, which may overlap.
            label_ids_to_fuse: stuff classes, of which there are no instances.

        Returns:
            For each picture ``{"segmentation", "segments_info": [{"id", "label_id", "score",
            "was_fused"}]}``; by default the segmentation is a [H,W] map of ids, -1 where nothing
            is, on which higher scores lie on top.
        """
        results: list[dict[str, Any]] = []
        for i, log_probs in enumerate(outputs.log_probs):
            found = decode_instance(
                outputs.masks(i, _size(target_sizes, i)),
                log_probs,
                min_score=threshold,
                stuff_ids=frozenset(label_ids_to_fuse),
            )
            info = [
                {"id": n, "label_id": int(label), "score": float(score), "was_fused": False}
                for n, (label, score) in enumerate(zip(found.class_ids, found.scores, strict=True))
            ]
            segmentation: Any
            if return_coco_annotation:
                segmentation = masks_to_rle(found.masks.cpu().numpy())
            elif return_binary_maps:
                segmentation = found.masks.float()
            else:
                segmentation = torch.full(found.masks.shape[-2:], -1, dtype=torch.int32)
                for n in reversed(range(len(info))):
                    segmentation[found.masks[n].cpu()] = n
            results.append({"segmentation": segmentation, "segments_info": info})
        return results

    def post_process_panoptic_segmentation(
        self,
        outputs: MasQClipOutput,
        threshold: float | None = None,
        overlap_mask_area_threshold: float | None = None,
        label_ids_to_fuse: Iterable[int] = (),
        target_sizes: Sequence[tuple[int, int]] | None = None,
    ) -> list[dict[str, Any]]:
        """Panoptic maps, as transformers' image processors return them.

        Args:
            outputs: of this model.
            threshold: smallest score of a proposal that takes part; the model's own by default.
            overlap_mask_area_threshold: smallest share of a mask that must be left to it.
            label_ids_to_fuse: stuff classes; their segments are merged.
            target_sizes: (height, width) of each result.

        Returns:
            For each picture ``{"segmentation": [H,W] ids, 0 = nothing, "segments_info": [{"id",
            "label_id", "score", "was_fused"}]}``.
        """
        config = self.config
        results: list[dict[str, Any]] = []
        for i, log_probs in enumerate(outputs.log_probs):
            found = decode_panoptic(
                outputs.masks(i, _size(target_sizes, i)),
                log_probs,
                stuff_ids=frozenset(label_ids_to_fuse),
                object_threshold=config.object_threshold if threshold is None else threshold,
                overlap_threshold=config.overlap_threshold
                if overlap_mask_area_threshold is None
                else overlap_mask_area_threshold,
            )
            info = [
                {
                    "id": segment.id,
                    "label_id": segment.class_id,
                    "score": segment.score,
                    "was_fused": not segment.thing,
                }
                for segment in found.segments
            ]
            results.append({"segmentation": found.segment_map, "segments_info": info})
        return results


def _size(target_sizes: Sequence[tuple[int, int]] | None, index: int) -> tuple[int, int] | None:
    return None if target_sizes is None else target_sizes[index]


def _black(config: MasQClipConfig) -> tuple[float, ...]:
    """A black pixel, normalised for the proposer."""
    return tuple(-mean / std for mean, std in zip(config.pixel_mean, config.pixel_std, strict=True))
