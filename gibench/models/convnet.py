"""ConvNet: 3x3 convolutions with GroupNorm (Wu & He 2018) or BatchNorm, GELU, average pooling, one linear head."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.models import Centre, Model


@dataclass(frozen=True)
class ConvNet(Model):
    """`depth` blocks of convolution, GroupNorm, GELU; each block but the first halves the side by average pooling."""

    citation: ClassVar[str] = "Wu, He: Group Normalization, ECCV 2018, arXiv 1803.08494"
    depth: Annotated[int, Field(ge=1, le=4)] = 3
    width: Annotated[int, Field(ge=8, le=256, multiple_of=8)] = 32
    norm: Literal["group", "batch"] = "group"

    def build(self, channels: int, side: int, classes: int) -> nn.Module:
        layers: list[nn.Module] = [Centre()]
        for block in range(self.depth):
            layers += [
                nn.Conv2d(channels, self.width, 3, padding=1),
                nn.BatchNorm2d(self.width) if self.norm == "batch" else nn.GroupNorm(self.width // 8, self.width),
                nn.GELU(),
            ]
            if block:
                layers.append(nn.AvgPool2d(2))
                side //= 2
            channels = self.width
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, classes))
