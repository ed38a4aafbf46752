"""Datasets: real images in disjoint parts, with licence, citation and checksum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gibench.registry import Entry
from gibench.types import Images


@dataclass(frozen=True)
class Parts:
    """Disjoint parts of one dataset, in a fixed order that is part of the protocol.

    A smaller request for victims or for tuning images is a prefix of a larger one.
    """

    client: Images  # trains the clients
    aux: Images  # the attacker's surrogate data and whatever a defense needs of public data
    val: Images  # chooses knobs
    tune: Images  # chooses attack settings
    test: Images  # utility, and in its stored order the victims


class Dataset(Entry):
    """One source of images. Required of every entry: licence, citation; and per configured dataset the properties."""

    licence: ClassVar[str]

    @property
    def classes(self) -> int:
        """Number of classes; labels are 0..classes-1."""
        raise NotImplementedError

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        raise NotImplementedError

    @property
    def side(self) -> int:
        """Height and width in pixels."""
        raise NotImplementedError

    @property
    def checksum(self) -> str:
        """Digest of the published file, known without reading it."""
        raise NotImplementedError

    def ensure(self) -> None:
        """Make the published file available and check it, downloading where that is possible.

        Raises InputError that names the file, its checksum and where to put it.
        """

    def load(self) -> Parts:
        """The parts, float32 in [0, 1] and int64 labels, on the CPU."""
        raise NotImplementedError

    def identity(self) -> dict[str, object]:
        return {**super().identity(), "checksum": self.checksum}
