"""What several processes share besides gradients. With one process these do nothing.

Both work on the CPU (gloo) as on GPUs (NCCL), so that tests run what clusters run.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn import functional as collective


def is_distributed() -> bool:
    """Whether several processes train together."""
    return distributed.is_available() and distributed.is_initialized()


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, in their order; gradients flow back to where a row came from.

    Args:
        rows: [n, ...], of the same shape in every process.

    Returns:
        [processes * n, ...].
    """
    if not is_distributed():
        return rows
    return torch.cat(list(collective.all_gather(rows.contiguous())))


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Batch norm whose statistics are those of the whole batch, over all processes.

    torch's own needs GPUs.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise [B, C, H, W]."""
        if not self.training:
            return super().forward(input)
        with torch.autocast(input.device.type, enabled=False):
            values = input.float()
            count = values.new_tensor([values.numel() / values.shape[1]])
            sums = torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count])
            total, squares, count = collective.all_reduce(sums).split([*[values.shape[1]] * 2, 1])
            mean = total / count
            variance = squares / count - mean.square()
            self._remember(mean.detach(), variance.detach() * count / (count - 1))
            scale = self.weight * torch.rsqrt(variance + self.eps)
            shift = self.bias - mean * scale
            return (values * scale[:, None, None] + shift[:, None, None]).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = 0.1 if self.momentum is None else self.momentum
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def synchronise_batch_norm(module: nn.Module) -> None:
    """Let every batch norm of a module that trains use the statistics of all processes."""
    for child in module.modules():
        if type(child) is nn.BatchNorm2d:
            # The same parameters and buffers, another forward pass.
            child.__class__ = SynchronisedBatchNorm
