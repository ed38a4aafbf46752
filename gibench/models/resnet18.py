"""ResNet-18 for small images (He et al. 2016): 3x3 stem, four stages, GroupNorm by default, nothing in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.models import Centre, Model


@dataclass(frozen=True)
class ResNet18(Model):
    """Basic blocks [2, 2, 2, 2] of width, 2, 4 and 8 times `width` channels, global average pooling, linear head.

    Paper: GELU instead of ReLU, so that gradients can be matched; GroupNorm unless `norm = "batch"`. Batch
    normalisation runs on its running statistics in every message (evaluation mode); see `client.py`.
    """

    citation: ClassVar[str] = (
        "He, Zhang, Ren, Sun: Deep residual learning for image recognition, CVPR 2016, arXiv 1512.03385"
    )
    width: Annotated[int, Field(ge=8, le=128, multiple_of=8)] = 64
    norm: Literal["group", "batch"] = "group"

    def build(self, channels: int, side: int, classes: int) -> nn.Module:
        def norm(width: int) -> nn.Module:
            return nn.BatchNorm2d(width) if self.norm == "batch" else nn.GroupNorm(min(32, width // 8), width)

        layers: list[nn.Module] = [
            Centre(),
            nn.Conv2d(channels, self.width, 3, padding=1, bias=False),
            norm(self.width),
            nn.GELU(),
        ]
        before = self.width
        for stage in range(4):
            width = self.width << stage
            for stride in (1 if stage == 0 else 2, 1):
                layers.append(_Block(before, width, stride, norm))
                before = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


class _Block(nn.Module):
    def __init__(self, before: int, width: int, stride: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, padding=1, bias=False),
            norm(width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            norm(width),
        )
        same = stride == 1 and before == width
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), norm(width))
        )
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return out
