"""Batch statistics: what a BatchNorm layer saw of a client's images, and what its updated buffers give away."""

from __future__ import annotations

from torch import Tensor, nn

BatchNorm = (nn.BatchNorm2d, nn.BatchNorm1d)


def has_batch_norm(net: nn.Module) -> bool:
    """Whether the net normalises by batch statistics anywhere."""
    return any(isinstance(module, BatchNorm) for module in net.modules())


def statistics_of(net: nn.Module, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and (biased) variance of each BatchNorm layer's input over a victim's images and pixels.

    x (v, b, c, h, w) -> {layer: (mean (v, channels), variance (v, channels))}, differentiable.
    """
    v, b = x.shape[:2]
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def note(name: str, given: Tensor) -> None:
        values = given.unflatten(0, (v, b)).flatten(3).transpose(1, 2).flatten(2)  # (v, channels, b * pixels)
        seen[name] = values.mean(2), values.var(2, unbiased=False)

    hooks = [
        module.register_forward_pre_hook(lambda m, args, name=name: note(name, args[0]))
        for name, module in net.named_modules()
        if isinstance(module, BatchNorm)
    ]
    try:
        net(x.flatten(0, 1))
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def running_statistics(net: nn.Module, v: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The buffers of every BatchNorm layer for v victims, as `statistics_of` gives them."""
    found = {}
    for name, module in net.named_modules():
        if isinstance(module, BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            found[name] = module.running_mean.expand(v, -1), module.running_var.expand(v, -1)
    return found
