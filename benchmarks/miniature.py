"""How good a model is on held-out scenes of the miniature world, tuned and untuned.

    masqclip data stickers --sprites sprites --images 300 --seed 1000 --out heldout
    python benchmarks/miniature.py --model masqclip-mini --data heldout --out report

Every name of the world competes (the generalised setting). Instances: the 100 best of a picture, AP by
pycocotools. Semantic: arg-max, unlabelled pixels of the truth ignored. Panoptic: the model's own
thresholds. "Untuned" is the same model with CLIP's own queries, that is MaskCLIP.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import cyclopts
import numpy as np
import torch
from PIL import Image

from masqclip.clip.classifier import class_log_probs
from masqclip.clip.vocabulary import Vocabulary
from masqclip.data.files import write_atomically
from masqclip.data.rle import encode_rle
from masqclip.decoding.instance import decode_instance
from masqclip.decoding.panoptic import decode_panoptic
from masqclip.decoding.semantic import decode_semantic
from masqclip.evaluation.instance import instance_precision
from masqclip.evaluation.panoptic import PanopticQuality
from masqclip.evaluation.semantic import ConfusionMatrix
from masqclip.export.panoptic import rgb_to_ids
from masqclip.proposals.base import object_log_scores
from masqclip.segmenter import EncodedImage, Segmenter


@torch.inference_mode()
def measure(segmenter: Segmenter, folder: Path, *, object_score: bool = True) -> dict[str, float]:
    """All figures of one model on one COCO-style folder of scenes.

    Args:
        segmenter: the model.
        folder: as `masqclip data stickers` writes it.
        object_score: multiply class probabilities with the object score (the paper's rule).
    """
    instances = json.loads((folder / "annotations/instances.json").read_text())
    panoptic = json.loads((folder / "annotations/panoptic.json").read_text())
    categories = panoptic["categories"]
    ids = [category["id"] for category in categories]
    words = Vocabulary.parse(
        [category["name"] for category in categories],
        stuff=[category["name"] for category in categories if not category["isthing"]],
    )
    text = segmenter.text.embed_vocabulary(words)
    confusion = ConfusionMatrix(len(words))
    quality = PanopticQuality({c["id"]: bool(c["isthing"]) for c in categories})
    results: list[dict[str, Any]] = []
    started = time.perf_counter()
    for entry, truth in zip(panoptic["images"], panoptic["annotations"], strict=True):
        encoded: EncodedImage = segmenter.encode(folder / "images" / entry["file_name"])
        log_probs = class_log_probs(encoded.mask_embeddings[None], text, num_classes=len(words))[0]
        if object_score:
            log_probs = log_probs + object_log_scores(encoded.object_logits).unsqueeze(-1)
        found = decode_instance(encoded.masks, log_probs, stuff_ids=words.stuff_ids)
        rles = [encode_rle(mask) for mask in found.unique_masks.numpy()]
        results += [
            {
                "image_id": entry["id"],
                "category_id": ids[label],
                "score": score,
                "segmentation": rles[mask],
            }
            for label, score, mask in zip(
                found.class_ids.tolist(),
                found.scores.tolist(),
                found.mask_index.tolist(),
                strict=True,
            )
        ]
        classes = decode_semantic(encoded.masks, log_probs).class_map.numpy()
        target = np.asarray(Image.open(folder / "semantic" / entry["file_name"]))
        confusion.update(classes, target)
        config = segmenter.model.config
        whole = decode_panoptic(
            encoded.masks,
            log_probs,
            stuff_ids=words.stuff_ids,
            object_threshold=config.object_threshold,
            overlap_threshold=config.overlap_threshold,
        )
        quality.update(
            whole.segment_map.numpy(),
            [{"id": s.id, "category_id": ids[s.class_id]} for s in whole.segments],
            rgb_to_ids(np.asarray(Image.open(folder / "panoptic" / truth["file_name"]))),
            truth["segments_info"],
        )
    seconds = (time.perf_counter() - started) / len(panoptic["images"])
    splits = {
        split: [c["id"] for c in instances["categories"] if c["split"] == split]
        for split in ("base", "novel")
    }
    scores = instance_precision(instances, results, splits=splits)
    scores |= confusion.results() | quality.results()
    return scores | {"seconds a picture, scoring included": seconds}


def untune(segmenter: Segmenter) -> None:
    """Put CLIP's own queries in place of the tuned ones."""
    segmenter.model.queries.start(segmenter.model.clip.vision_model, "clip")


def table(columns: dict[str, dict[str, float]]) -> str:
    """Figures in percent as Markdown, a column a model."""
    rows = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name in next(iter(columns.values())):
        if not name.startswith("seconds"):
            cells = " | ".join(f"{100 * scores[name]:.1f}" for scores in columns.values())
            rows.append(f"| {name} | {cells} |")
    return "\n".join(rows)


def main(
    *,
    model: str = "masqclip-mini",
    data: Annotated[Path, cyclopts.Parameter(alias="-d")] = Path("heldout"),
    out: Path | None = None,
    threads: int = 2,
) -> None:
    """Measure a model on held-out scenes, tuned, without its object score, and untuned.

    Args:
        model: a shipped name or a folder.
        data: a folder that "masqclip data stickers" wrote, of a seed that no training used.
        out: writes OUT.json and OUT.md.
        threads: of the CPU.
    """
    torch.set_num_threads(threads)
    segmenter = Segmenter.from_pretrained(model, device="cpu")
    columns = {
        "tuned": measure(segmenter, data),
        "tuned, no object score": measure(segmenter, data, object_score=False),
    }
    untune(segmenter)
    columns = {"untuned": measure(segmenter, data)} | columns
    print(table(columns))
    if out is not None:
        write_atomically(out.with_suffix(".json"), json.dumps(columns, indent=1).encode())
        write_atomically(out.with_suffix(".md"), (table(columns) + "\n").encode())


if __name__ == "__main__":
    cyclopts.run(main)
