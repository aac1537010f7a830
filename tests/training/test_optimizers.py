"""Muon and AdamW as one: the groups' own, the same as both alone, and through a checkpoint; SGD."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from masqclip.errors import MasqclipError
from masqclip.training.optimizers import MOMENTUM, MUON, make_optimizer


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.GELU(), nn.Linear(10, 4))


def groups(model: nn.Module) -> list[dict[str, object]]:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": rest, "lr": 1e-2, "weight_decay": 0.0, "betas": (0.9, 0.98)},
        {"params": matrices, "lr": 2e-2, "weight_decay": 0.1, MUON: True},
    ]


def train(model: nn.Module, optimizers: list[torch.optim.Optimizer], steps: int) -> None:
    for step in range(steps):
        chance = torch.Generator().manual_seed(step)
        loss = model(torch.randn(8, 6, generator=chance)).square().mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_it_is_both_of_torchs_own() -> None:
    ours, theirs = network(), network()
    rest, matrices = groups(theirs)
    del matrices[MUON]
    apart = [
        torch.optim.AdamW([rest]), torch.optim.Muon([matrices], adjust_lr_fn="match_rms_adamw")
    ]  # fmt: skip
    train(ours, [make_optimizer(groups(ours))], 5)
    train(theirs, apart, 5)
    assert torch.equal(weights(ours), weights(theirs))
    alone = network()
    plain = [{k: v for k, v in group.items() if k != MUON} for group in groups(alone)]
    train(alone, [torch.optim.AdamW(plain)], 5)
    assert not torch.allclose(weights(ours), weights(alone))


def test_without_a_group_for_it_there_is_no_muon() -> None:
    model = network()
    plain = [group | {MUON: False} for group in groups(model)]
    assert type(make_optimizer(plain)) is torch.optim.AdamW


def momentum_groups(model: nn.Module) -> list[dict[str, object]]:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    shared = {"weight_decay": 0.1, MOMENTUM: 0.9}
    return [{"params": rest, "lr": 1e-2} | shared, {"params": matrices, "lr": 2e-2} | shared]


def test_with_momentum_it_is_sgd_by_hand() -> None:
    model = network()
    optimizer = make_optimizer(momentum_groups(model))
    assert type(optimizer) is torch.optim.SGD
    expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    moved = {name: torch.zeros_like(p) for name, p in expected.items()}
    for step in range(4):
        train(model, [optimizer], 1)  # of the same numbers in every step
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            moved[name] = 0.9 * moved[name] + parameter.grad + 0.1 * expected[name]
            expected[name] -= (2e-2 if parameter.ndim == 2 else 1e-2) * moved[name]
            torch.testing.assert_close(parameter.detach(), expected[name], msg=f"{name} {step}")


@pytest.mark.parametrize("groups", [groups, momentum_groups])
def test_it_goes_on_from_its_state(
    groups: Callable[[nn.Module], list[dict[str, object]]],
) -> None:
    straight, stopped = network(), network()
    train(straight, [make_optimizer(groups(straight))], 6)
    optimizer = make_optimizer(groups(stopped))
    train(stopped, [optimizer], 3)
    kept = copy.deepcopy((stopped.state_dict(), optimizer.state_dict()))
    resumed = network()
    again = make_optimizer(groups(resumed))
    resumed.load_state_dict(kept[0])
    again.load_state_dict(kept[1])
    for step in range(3, 6):
        chance = torch.Generator().manual_seed(step)
        again.zero_grad()
        resumed(torch.randn(8, 6, generator=chance)).square().mean().backward()
        again.step()
    assert torch.equal(weights(resumed), weights(straight))


def test_a_schedule_moves_both() -> None:
    model = network()
    optimizer = make_optimizer(groups(model))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = weights(model).clone()
    train(model, [optimizer], 1)
    assert torch.equal(weights(model), before)


def test_an_old_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(MasqclipError, match=r"from 2\.9 on.*muon_rate=0"):
        make_optimizer(groups(network()))
