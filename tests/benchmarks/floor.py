"""The arithmetic floor: a step of gradient matching is about seven forward passes, at the speed of a matrix product."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn

PASSES = 7


def floor_seconds(net: nn.Module, x: Tensor) -> float:
    """Of one step for one image of x (n, c, h, w)."""
    return PASSES * 2 * multiplications(net, x) / gemm_rate(x.device)


def multiplications(net: nn.Module, x: Tensor) -> int:
    """Multiply-adds of convolutions and linear layers in one forward pass of one image."""
    counted: list[int] = []

    def count(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, Tensor)
        positions = out[0].numel() // len(weight)
        counted.append(weight.numel() * positions)

    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    with torch.no_grad():
        net(x[:1])
    for hook in hooks:
        hook.remove()
    return sum(counted)


def gemm_rate(device: torch.device, side: int = 1024, rounds: int = 15) -> float:
    """Median operations per second of a square product in single precision."""
    a = torch.eye(side, device=device) + 0.5
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        float((a @ a)[0, 0])  # waits for a GPU
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / statistics.median(seconds)
