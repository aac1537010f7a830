"""A model's outputs in the shapes that transformers' image processors return."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from masqclip.configuration import MasQClipConfig
from masqclip.decoding.instance import decode_instance
from masqclip.decoding.panoptic import decode_panoptic
from masqclip.decoding.semantic import decode_semantic, semantic_scores
from masqclip.export.coco import masks_to_rle
from masqclip.model_output import MasQClipOutput


class PostProcessing:
    """What `MasQClipModel` has in common with transformers' image processors."""

    config: MasQClipConfig

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
