"""LeNet (LeCun et al. 1998) as attacks use it: strided 5x5 convolutions, a smooth activation and one linear head."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.models import ACTIVATIONS, Centre, Model


@dataclass(frozen=True)
class LeNet(Model):
    """Two or three convolutions of `width` channels, stride 2 (the third: 1), padding 2."""

    citation: ClassVar[str] = (
        "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition. Proc."
        " IEEE 86(11), 1998. doi:10.1109/5.726791"
    )
    convs: Literal[2, 3] = 2
    width: Annotated[int, Field(ge=1, le=256)] = 12
    activation: Literal["gelu", "silu", "tanh", "sigmoid", "relu", "leaky_relu"] = "gelu"

    def build(self, channels: int, side: int, classes: int) -> nn.Module:
        layers: list[nn.Module] = [Centre()]
        for stride in (2, 2, 1)[: self.convs]:
            layers += [nn.Conv2d(channels, self.width, 5, stride, padding=2), ACTIVATIONS[self.activation]()]
            channels, side = self.width, -(-side // stride)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * side * side, classes))
