"""What a frozen proposer says of every training picture, computed once and kept on disk.

Tuning wants two things of a proposal: the patches that it covers and the name that it should get.
Neither changes while the queries learn, so without random crops they are worth keeping: bits where
mask logits are megabytes, and no proposer in the training steps. Mirrored pictures are kept beside
the others, since a proposer is not symmetric.

Shapes: V = 1 or 2 variants (as it is, mirrored), Q proposals, P patches.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from masqclip.data.digests import digest_tensors
from masqclip.data.files import write_atomically
from masqclip.data.stickers.drawn import DrawnScenes
from masqclip.errors import MasqclipError
from masqclip.training.stage import to_device

if TYPE_CHECKING:
    from masqclip.training.tune import TuneStage

#: Raised with every change of how proposals are named: what was stored by another rule is refused.
_RULES = 2

#: Settings of a `TuneStage` that its proposals do not depend on.
_FREE = (
    "learns", "batch_size", "learning_rate", "weight_decay", "background_weight", "loss_weight",
    "seed",
)  # fmt: skip


class ProposalCache:
    """The stored proposals of a dataset: a small file a picture.

    Args:
        folder: where they are, or will be.
        stage: whose proposals they are: the folder fits its model, dataset and settings only.

    Raises:
        MasqclipError: the settings crop at random or need no proposals, or the folder holds those
            of another run.
    """

    def __init__(self, folder: str | Path, stage: TuneStage) -> None:
        if stage.settings.augmentation == "jitter":
            raise MasqclipError(
                "proposals cannot be stored under large-scale jitter, which crops anew each time; "
                "set augmentation=none or augmentation=square"
            )
        if stage.settings.masks == "ground-truth":
            raise MasqclipError("tuning on ground-truth masks needs no proposals to be stored")
        if isinstance(stage.dataset, DrawnScenes):
            stage.dataset.check_finite("proposals are stored for every picture")
        self.folder = Path(folder)
        about, key = self.folder / "key.txt", _key(stage).encode()
        if about.exists() and about.read_bytes() != key:
            raise MasqclipError(
                f"{folder} holds proposals of another proposer, dataset or setting, or of another "
                "release; choose another folder, or delete it"
            )
        write_atomically(about, key)

    def fill(
        self,
        stage: TuneStage,
        device: torch.device | str = "cpu",
        report: Callable[[int], None] | None = None,
    ) -> None:
        """Propose on every picture that is not stored yet; stopped, it goes on where it was.

        Args:
            stage: as it will train.
            device: where to run.
            report: called with the number of pictures done, after each.
        """
        stage.to(torch.device(device))
        variants = (False, True) if stage.settings.flip else (False,)
        unused = torch.Generator()  # nothing is drawn without jitter
        for row in range(len(stage.dataset)):
            if not self._path(row).exists():
                try:
                    sample = stage.dataset[row]
                except MasqclipError:
                    continue  # training skips it, too
                frames = [stage.frame(sample, mirror, unused) for mirror in variants]
                group = stage.group(frames, [sample] * len(frames))
                with torch.inference_mode():
                    visible, targets = stage.propose(to_device(group, torch.device(device)))
                content = io.BytesIO()
                np.savez(
                    content,
                    visible=np.packbits(visible.cpu().numpy(), axis=-1),
                    patches=visible.shape[-1],
                    targets=targets.cpu().numpy(),
                )
                write_atomically(self._path(row), content.getvalue())
            if report is not None:
                report(row + 1)

    def read(self, pictures: Sequence[tuple[int, bool]]) -> dict[str, Tensor]:
        """The stored ``visible`` [B,Q,P] bool and ``targets`` [B,Q] of (row, mirrored) pairs.

        Raises:
            MasqclipError: a picture is not stored: it could not be read when the others were. Or
                what is stored is damaged.
        """
        visible, targets = [], []
        for row, mirrored in pictures:
            if not self._path(row).is_file():
                raise MasqclipError(f"{self.folder} lacks picture {row}: start again, to store it")
            try:
                with np.load(self._path(row)) as stored:
                    bits = np.unpackbits(
                        stored["visible"][int(mirrored)], axis=-1, count=int(stored["patches"])
                    )
                    visible.append(torch.from_numpy(bits.astype(bool)))
                    targets.append(torch.from_numpy(stored["targets"][int(mirrored)]))
            except Exception as error:  # of an archive, an array, or what is in neither
                raise MasqclipError(
                    f"the proposals {self._path(row)} are damaged ({type(error).__name__}): delete "
                    "that file and start again, to store them anew"
                ) from error
        return {"visible": torch.stack(visible), "targets": torch.stack(targets)}

    def _path(self, row: int) -> Path:
        return self.folder / f"{row // 1000:04d}" / f"{row:07d}.npz"


def _key(stage: TuneStage) -> str:
    """A line that changes with anything the stored proposals follow from."""
    settings = {name: v for name, v in asdict(stage.settings).items() if name not in _FREE}
    clip = stage.model.tower
    parts = {
        "rules": _RULES,
        "proposer": digest_tensors(stage.model.proposer.state_dict()),
        "dataset": stage.inputs["--data"],
        "settings": settings,
        "clip": [clip.image_size, clip.patch_size, stage.model.config.clip_input],
        "edges": [stage.model.config.shortest_edge, stage.model.config.longest_edge],
    }
    return json.dumps(parts, sort_keys=True, default=str)
