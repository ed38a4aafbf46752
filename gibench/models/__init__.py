"""Models: small classifiers with smooth activations and nothing in place, so that attacks can differentiate twice."""

from __future__ import annotations

from torch import Tensor, nn

from gibench.registry import Entry


class Model(Entry):
    """One architecture. Its first layer brings [0, 1] to zero mean, so attacks and metrics live in [0, 1]."""

    def build(self, channels: int, side: int, classes: int) -> nn.Module:
        """A freshly initialised net: (n, channels, side, side) in [0, 1] -> logits (n, classes)."""
        raise NotImplementedError


class Centre(nn.Module):
    """(x - 0.5) / 0.25: the fixed input normalisation, public and the same for every dataset."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) / 0.25


ACTIVATIONS: dict[str, type[nn.Module]] = {
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
}
