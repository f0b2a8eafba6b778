"""Batch normalization over the images of all hosts.

With each host normalizing over its own images only, a model trained on two hosts would be another
model than one trained on one host with the same batch. torch's SyncBatchNorm needs GPUs; this one
runs wherever the process group does. Names of parameters and buffers are those of BatchNorm2d.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from kennel.training.group import Group


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose mean and variance are those of the whole batch. Input and output (n, C, H, W)."""

    group: Group

    def forward(self, images: Tensor) -> Tensor:
        """Normalizes with the batch's statistics while training, with the running ones otherwise."""
        if not self.training:
            return super().forward(images)
        out, mean, variance, count = cast(
            "tuple[Tensor, Tensor, Tensor, Tensor]",
            _Normalize.apply(images, self.weight, self.bias, self.eps, self.group),  # type: ignore[no-untyped-call]
        )
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            if self.running_mean is not None and self.running_var is not None:
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * (count / (count - 1)), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        return out


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Any:
        images, weight, bias, eps, group = given
        own_count = images.numel() // images.shape[1]
        own_variance, own_mean = torch.var_mean(_wide(images), dim=(0, 2, 3), correction=0)
        channels = own_mean.numel()
        sent = torch.cat([own_mean, own_variance, own_mean.new_tensor([own_count])])
        parts = group.gather(sent)
        means, variances, counts = parts[:, :channels], parts[:, channels:-1], parts[:, -1:]
        count = counts.sum()
        mean = (means * counts).sum(dim=0) / count
        variance = ((variances + (means - mean) ** 2) * counts).sum(dim=0) / count
        out = functional.batch_norm(images, mean, variance, weight, bias, training=False, eps=eps)
        inverse = torch.rsqrt(variance + eps)
        ctx.save_for_backward(images, weight, mean, inverse, count)
        ctx.group = group
        ctx.mark_non_differentiable(mean, variance, count)
        return out, mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        images, weight, mean, inverse, count = ctx.saved_tensors
        channels = mean.numel()
        shape = (1, channels, 1, 1)
        gradient = _wide(gradients[0])
        # Centred before it is summed: channels whose mean is large lose no digits.
        centred = _wide(images) - mean.view(shape)
        bias_gradient = gradient.sum(dim=(0, 2, 3))
        weight_gradient = (gradient * centred).sum(dim=(0, 2, 3)) * inverse
        # Each host keeps its own part of the weight's gradient (the job adds the parts up); the gradient
        # of the images needs the sums over all hosts now.
        sums = ctx.group.sum_(torch.cat([bias_gradient, weight_gradient])) / count
        scale = weight * inverse
        slope = -scale * sums[channels:] * inverse
        offset = -scale * sums[:channels]
        flow = torch.addcmul(offset.view(shape), centred, slope.view(shape)).addcmul_(gradient, scale.view(shape))
        return flow.to(images.dtype), weight_gradient, bias_gradient, None, None


def _wide(tensor: Tensor) -> Tensor:
    """Half precision is too coarse for sums over a batch."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def globalize(model: nn.Module, group: Group) -> None:
    """Makes every BatchNorm2d of the model normalize over all hosts of the group, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and not isinstance(child, GlobalBatchNorm2d):
                wide = GlobalBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum)
                wide.weight, wide.bias = child.weight, child.bias
                wide.running_mean, wide.running_var = child.running_mean, child.running_var
                wide.num_batches_tracked = child.num_batches_tracked
                wide.group = group
                setattr(parent, name, wide)
