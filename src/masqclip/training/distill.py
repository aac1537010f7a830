"""Progressive distillation: learn also what nobody annotated (MasQCLIP, sec. 3.2; stage 2).

A teacher that was trained on annotated classes has masks of other things too, and a good score for
some. Where such a mask overlaps no annotation it becomes one, and a student that starts from the
teacher's weights trains on both, with the teacher's loss. The student may be the next teacher.

- Every mask, annotated or found, is the one class "object".
- The teacher is frozen and sees the very frames that the student trains on.
- Dice is exact, over all pixels (the published code estimates it on 12,544 random points).

Shapes: B pictures, G annotations, M masks of the teacher, H W the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from masqclip.data.digests import digest_model
from masqclip.data.open_coco import CocoFiles, CocoMasks
from masqclip.decoding.instance import InstanceResult, decode_instance
from masqclip.decoding.masks import MaskLogits, ResizedMasks
from masqclip.hub import find_weights, quiet_transformers
from masqclip.proposals.adapters import load_trainable
from masqclip.proposals.base import object_log_scores
from masqclip.proposals.trainable import TrainableProposer
from masqclip.training.settings import DistillSettings
from masqclip.training.stage import Counts
from masqclip.training.teacher import TeacherStage


class DistillStage(TeacherStage):
    """Trains a student on annotations and a teacher's masks; see the module's text.

    Args:
        dataset: pictures with masks; what categories they have does not matter.
        teacher: a proposer's folder or name; the student starts from it, too.
        settings: how.
        held_out: what evaluations look at.

    Raises:
        MasqclipError: the dataset is empty, or the folder holds no proposer.
    """

    name = "distill"

    def __init__(
        self,
        dataset: CocoMasks,
        teacher: str | Path,
        settings: DistillSettings,
        *,
        held_out: CocoFiles | None = None,
    ) -> None:
        # Of a name of the Hub, the folder: it is digested.
        self._source = find_weights(teacher, what="proposer")
        self.teacher = load_teacher(self._source)
        super().__init__(dataset, self.teacher.config, settings, held_out=held_out)
        self.thresholds = (settings.score_threshold, settings.dice_threshold)

    def _load_weights(self) -> None:
        """Start from the teacher."""
        self.module.load_state_dict(self.teacher.state_dict())

    @cached_property
    def inputs(self) -> dict[str, str]:
        """The data, and the teacher."""
        return super().inputs | {"--teacher": digest_model(self._source)}

    @property
    def network(self) -> nn.Module:
        """Student and teacher."""
        return nn.ModuleDict({"student": self.module, "teacher": self.teacher})

    def prepare(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Counts]:
        """Add the teacher's masks to the annotated ones."""
        found = teacher_masks(self.teacher, batch["pixels"])
        targets = [
            add_masks(annotated, result, *self.thresholds)
            for annotated, result in zip(batch["masks"], found, strict=True)
        ]
        added = sum(map(len, targets)) - sum(map(len, batch["masks"]))
        prepared, counts = super().prepare(batch | {"masks": targets})
        return prepared | {"found": added}, counts

    def losses(self, batch: dict[str, Any], totals: Counts) -> dict[str, Tensor]:
        """The teacher stage's loss on all masks; ``found``: the teacher's share, a picture."""
        losses = super().losses(batch, totals)
        return losses | {"found": batch["found"] / totals["pictures"]}


def load_teacher(folder: str | Path) -> TrainableProposer:
    """A proposer, frozen and in inference.

    Raises:
        MasqclipError: the folder does not hold one that a student could start from.
    """
    with quiet_transformers():
        teacher = load_trainable(folder)
    return teacher.eval().requires_grad_(False)


@torch.no_grad()
def teacher_masks(teacher: TrainableProposer, pixels: Tensor) -> list[InstanceResult]:
    """The teacher's instances in every frame, at the frame's size.

    Args:
        teacher: in inference.
        pixels: [B,3,H,W], normalised.
    """
    proposals = teacher(pixels)
    frame = (pixels.shape[-2], pixels.shape[-1])
    return [
        instances(ResizedMasks(logits.float(), frame, frame, frame), scores)
        for logits, scores in zip(proposals.mask_logits, proposals.object_logits, strict=True)
    ]


def instances(masks: MaskLogits, object_logits: Tensor) -> InstanceResult:
    """The 100 best masks by object probability times mean mask probability inside the mask.

    Args:
        masks: of Q proposals.
        object_logits: [Q,2].
    """
    return decode_instance(masks, object_log_scores(object_logits.float()).unsqueeze(-1))


def add_masks(
    annotated: Tensor, found: InstanceResult, score_threshold: float, dice_threshold: float
) -> Tensor:
    """Annotations [G,H,W] bool and what `select_masks` adds to them, [G+K,H,W]."""
    good = found.scores > score_threshold  # before the masks are copied: most are not
    masks = found.unique_masks[found.mask_index[good]]
    kept = select_masks(annotated, masks, found.scores[good], score_threshold, dice_threshold)
    return torch.cat([annotated, masks[kept]])


def select_masks(
    annotated: Tensor,
    masks: Tensor,
    scores: Tensor,
    score_threshold: float = 0.8,
    dice_threshold: float = 0.1,
) -> Tensor:
    """Which of the teacher's masks become annotations (paper, sec. 3.2).

    Those above the score threshold that overlap no annotation, best first, and none that overlaps a
    better one that was kept: greedy suppression.

    Args:
        annotated: [G,H,W] bool; G may be zero.
        masks: [M,H,W] bool.
        scores: [M] in 0..1.
        score_threshold: exclusive lower bound.
        dice_threshold: exclusive upper bound of the Dice overlap that is let pass.

    Returns:
        [K] int64, in falling order of score.
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] > score_threshold]
    candidates = masks[order]
    clear = (dice(candidates, annotated) < dice_threshold).all(dim=1)
    order, candidates = order[clear], candidates[clear]
    # A table of a few dozen numbers: what follows depends on itself, mask after mask.
    overlaps = (dice(candidates, candidates) >= dice_threshold).tolist()
    kept: list[int] = []
    for row, overlapping in enumerate(overlaps):
        if not any(overlapping[better] for better in kept):
            kept.append(row)
    return order[torch.tensor(kept, dtype=torch.long, device=order.device)]


def dice(first: Tensor, second: Tensor) -> Tensor:
    """Dice overlap 2|A and B| / (|A| + |B|) of masks [M,H,W] and [N,H,W], [M,N]; 0 if both empty.

    One matrix product; its sums of ones are exact in float32 up to 16 million pixels.
    """
    a, b = first.flatten(1).float(), second.flatten(1).float()
    sizes = a.sum(1, keepdim=True) + b.sum(1)
    with torch.autocast(a.device.type, enabled=False):  # bfloat16 cannot count pixels
        return 2 * (a @ b.T) / sizes.clamp(min=1)


def distill_rounds(
    dataset: CocoMasks,
    teacher: str | Path,
    settings: DistillSettings,
    out: str | Path,
    train: Callable[[DistillStage, Path], bool],
    *,
    held_out: CocoFiles | None = None,
) -> bool:
    """Distil once or more often; each round's student is the next round's teacher.

    A round is a run of its own, in ``OUT/round-1`` and so on, the last one in `out`. So a round
    that is done is not done again, and one that was stopped goes on exactly.

    Args:
        dataset: what to train on.
        teacher: folder of the first teacher.
        settings: how; of round r the seed is r - 1 higher, so that orders differ.
        out: folder of the run.
        train: trains a stage in a folder, and says whether it got to the end.
        held_out: what evaluations look at.

    Returns:
        Whether all rounds are done.
    """
    source, folder = Path(teacher), Path(out)
    for number in range(1, settings.rounds + 1):
        goal = folder if number == settings.rounds else folder / f"round-{number}"
        own = replace(settings, seed=settings.seed + number - 1)
        stage = DistillStage(dataset, source, own, held_out=held_out)
        if not train(stage, goal):
            return False
        source = goal
    return True
