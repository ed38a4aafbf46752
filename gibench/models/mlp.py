"""MLP: fully connected layers with bias on the flattened image (Rumelhart et al. 1986), ReLU, one linear head."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.models import ACTIVATIONS, Centre, Model


@dataclass(frozen=True)
class MLP(Model):
    """`depth` hidden layers of `width`. ReLU is what closed-form attacks read; matching wants a smooth activation."""

    citation: ClassVar[str] = (
        "Rumelhart, Hinton, Williams: Learning representations by back-propagating errors, Nature 323, 1986"
    )
    width: Annotated[int, Field(ge=1, le=4096)] = 256
    depth: Annotated[int, Field(ge=1, le=3)] = 1
    activation: Literal["gelu", "silu", "tanh", "sigmoid", "relu", "leaky_relu"] = "relu"

    def build(self, channels: int, side: int, classes: int) -> nn.Module:
        layers: list[nn.Module] = [Centre(), nn.Flatten()]
        inputs = channels * side * side
        for _ in range(self.depth):
            layers += [nn.Linear(inputs, self.width), ACTIVATIONS[self.activation]()]
            inputs = self.width
        return nn.Sequential(*layers, nn.Linear(inputs, classes))
