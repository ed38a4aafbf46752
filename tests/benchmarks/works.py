"""What both contenders solve. All settings were chosen on images of the tuning part; the targets are test images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from scene import held, net_of, seen
from torch import Tensor, nn

from gibench.metrics.psnr import PSNR
from gibench.registry import build
from gibench.types import Batch, View

TARGETS = 32  # on which the final PSNR is compared
CHANNELS, CLASSES = 3, 5  # of ihc


@dataclass(frozen=True)
class Work:
    """One net, breaching's schedule on it, and the settings of gibench's attack except for its steps."""

    model: str
    rival_steps: int
    rival_tv: float  # in breaching's scale: of images divided by their deviation, 0.25
    ours: str
    ladder: tuple[int, ...]  # steps to try, fewest first
    ours_round: tuple[int, int]  # targets and steps of one timed round; more targets than TARGETS begin anew
    rival_round: tuple[int, int]
    device: str = "cpu"


COARSE_FIRST = "start='gray', schedule='exponential', continuation={}"
WORKS = {
    "lenet": Work(
        "lenet", 600, 0.005, "lr=0.05, tv=0.03", (50, 75, 100, 125, 150, 200, 300, 400, 600), (32, 100), (2, 300)
    ),
    "lenet_shipped": Work("lenet", 600, 0.2, "lr=0.1, tv=0.3", (25, 50, 75, 100, 150, 200), (32, 100), (2, 300)),
    "convnet": Work(
        "convnet(width=32)",
        600,
        0.0005,
        f"lr=0.07, tv=0.0003, {COARSE_FIRST.format(300)}",
        (100, 125, 150, 175, 200, 250, 300),
        (32, 25),
        (1, 200),
    ),
    "convnet_shipped": Work(
        "convnet(width=32)", 200, 0.2, "lr=0.3, tv=0.3", (25, 50, 75, 100, 150, 200), (32, 25), (1, 200)
    ),
    "resnet18": Work("resnet18", 120, 1.0, "lr=0.1, tv=1.0, start='gray'", (60, 120), (8, 10), (1, 20)),
}
CUDA = {  # run where there is a GPU, on 512 targets at once
    f"{name}_cuda": replace(WORKS[name], ours_round=(512, steps), device="cuda")
    for name, steps in (("lenet", 100), ("convnet", 50))
}


@dataclass(frozen=True)
class Targets:
    """`count` test images from place `first` on, each in a message of its own, as the server sees them."""

    work: Work
    first: int
    count: int

    @cached_property
    def net(self) -> nn.Module:
        return net_of(self.work.model, CHANNELS, CLASSES).to(self.work.device)

    @cached_property
    def batch(self) -> Batch:
        images = held(build("datasets", "ihc").load().test, self.first + self.count, 1)
        return Batch(*(part[self.first :].to(self.work.device) for part in (images.x, images.y)))

    @cached_property
    def aux(self) -> Tensor:
        """Images that nobody attacks, (n, c, h, w)."""
        return build("datasets", "ihc").load().aux.x.to(self.work.device)

    @cached_property
    def view(self) -> View:
        return seen(self.net, self.batch, CLASSES)

    def psnr(self, guess: Tensor) -> list[float]:
        """Of images (count, c, h, w)."""
        scores: list[float] = PSNR().compare(self.batch.x[:, 0], guess).tolist()
        return scores


def one_thread() -> None:
    torch.set_num_threads(1)
