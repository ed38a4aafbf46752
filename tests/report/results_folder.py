"""Invented images and origins of cells, as a results folder hands them over."""

from __future__ import annotations

from typing import Any

import numpy as np


def images(planned: list[dict[str, Any]], victims: int = 10) -> dict[str, dict[str, Any]]:
    """Per cell (v, 1, 1, 8, 8) bytes in which the victim's number can be read off the first pixel."""
    numbers = np.arange(victims, dtype=np.uint8).reshape(-1, 1, 1, 1, 1) * np.ones((1, 1, 1, 8, 8), dtype=np.uint8)
    return {
        cell["cell"]: {"victims": numbers, "transmitted": numbers + 50, "reconstructions": numbers + 100}
        for cell in planned
    }


class Folder:
    """A results folder, as far as the page asks: origins and images of its cells."""

    def __init__(self, origin: dict[str, Any], images: dict[str, dict[str, Any]]) -> None:
        self.origin, self.images = origin, images

    def provenance(self, kind: str, name: str) -> dict[str, Any]:
        return self.origin

    def read_images(self, cell: str) -> dict[str, Any]:
        return self.images.get(cell, {})
