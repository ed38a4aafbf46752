"""Random streams that belong to a victim: what one victim draws does not depend on who shares its chunk.

Every stream is named by a path of words and numbers, such as (client id, "defense", round), and by the member of the
leading axis (victim or client) that it serves. Nothing in gibench touches the global generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor


class Draws:
    """One generator per member of the leading axis, named by a path. Consecutive draws of one object differ.

    Numbers are drawn on the CPU and moved, so that a GPU sees the same ones.
    """

    def __init__(self, path: tuple[str | int, ...], members: Sequence[int] = (0,)) -> None:
        self.path = path
        self.members = tuple(members)

    def at(self, *where: str | int) -> Draws:
        """A fresh set of streams further down the path."""
        return Draws((*self.path, *where), self.members)

    def of(self, members: Sequence[int]) -> Draws:
        """Fresh streams on the same path for other members."""
        return Draws(self.path, members)

    def part(self, chosen: slice) -> Draws:
        """Fresh streams on the same path for a slice of the members."""
        return Draws(self.path, self.members[chosen])

    def normal(self, *shape: int, like: Tensor | None = None) -> Tensor:
        """Standard normal numbers, (members, *shape), in the dtype and on the device of `like`."""
        return self._stack([torch.randn(shape, generator=g) for g in self._generators], like)

    def uniform(self, *shape: int, like: Tensor | None = None) -> Tensor:
        """Uniform numbers on [0, 1), (members, *shape)."""
        return self._stack([torch.rand(shape, generator=g) for g in self._generators], like)

    def words(self, *shape: int) -> Tensor:
        """Uniform 64-bit words, (members, *shape) as int64."""
        lowest = -(1 << 63)
        return self._stack(
            [torch.empty(shape, dtype=torch.int64).random_(lowest, None, generator=g) for g in self._generators], None
        )

    def permutation(self, n: int) -> Tensor:
        """A permutation of range(n) for every member, (members, n)."""
        return torch.stack([torch.randperm(n, generator=g) for g in self._generators])

    def generator(self) -> torch.Generator:
        """The one generator of a stream with a single member: weights, shuffles, anything without a victim."""
        (generator,) = self._generators
        return generator

    def seed(self) -> int:
        """A 63-bit number named by the path, for libraries that want a seed."""
        return _seed(self.path, 0)

    @cached_property
    def _generators(self) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(_seed(self.path, member)) for member in self.members]

    @staticmethod
    def _stack(values: list[Tensor], like: Tensor | None) -> Tensor:
        stacked = torch.stack(values)
        return stacked if like is None else stacked.to(like)


def _seed(path: tuple[str | int, ...], member: int) -> int:
    name = "/".join(str(part) for part in (*path, member))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 1
