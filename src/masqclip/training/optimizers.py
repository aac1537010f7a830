"""One optimizer for all parameters of a stage: AdamW, and Muon where a group asks for it; or SGD.

Muon (Jordan et al., 2024) replaces the update of a matrix by the nearest matrix whose singular
values are all one, so that rare directions are learned as fast as common ones. It is for matrices
inside a network; embeddings, gains and biases stay with AdamW. Here both are torch's own, run as
one, with one list of groups and one state, so that schedules and checkpoints need not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import torch

from masqclip.errors import MasqclipError

#: In a group of parameters: let Muon update them.
MUON = "muon"
#: In a group of parameters: SGD's momentum, which makes SGD of AdamW for all groups.
MOMENTUM = "momentum"


def make_optimizer(groups: Sequence[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW; where groups have ``muon``, AdamW for the others; SGD where groups have ``momentum``.

    Args:
        groups: as AdamW takes them; of a Muon's group all parameters are matrices.

    Raises:
        MasqclipError: this torch has no Muon.
    """
    if any(MOMENTUM in group for group in groups):
        return torch.optim.SGD(groups)
    if not any(group.get(MUON) for group in groups):
        return torch.optim.AdamW([{k: v for k, v in g.items() if k != MUON} for g in groups])
    if not hasattr(torch.optim, "Muon"):
        raise MasqclipError("Muon is in torch from 2.9 on: take a newer one, or set muon_rate=0")
    return MuonAndAdamW(groups)


class MuonAndAdamW(torch.optim.Optimizer):
    """Both, as one optimizer; see `make_optimizer`."""

    def __init__(self, groups: Sequence[dict[str, Any]]) -> None:
        plain = [{k: v for k, v in g.items() if k != MUON} for g in groups if not g.get(MUON)]
        muon = [{k: v for k, v in g.items() if k != MUON} for g in groups if g.get(MUON)]
        self._adamw = torch.optim.AdamW(plain)
        # A rate of AdamW's size, whatever a matrix's shape.
        self._muon = torch.optim.Muon(muon, adjust_lr_fn="match_rms_adamw")
        super().__init__([*self._adamw.param_groups, *self._muon.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both work on this one's groups and state."""
        count = len(self._adamw.param_groups)
        self._adamw.param_groups = self.param_groups[:count]
        self._muon.param_groups = self.param_groups[count:]
        self._adamw.state = self._muon.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state, and share it anew."""
        super().load_state_dict(state_dict)
        self._share()

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._adamw.step()
        self._muon.step()
        return loss
