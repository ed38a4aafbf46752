"""Stained colonic glands (CMMI), the slide that scikit-image ships: 32x32 RGB patches by stain level, no download."""

from __future__ import annotations

import hashlib
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from gibench.datasets import Dataset, Parts
from gibench.datasets.parts import NAMES, shuffled
from gibench.draws import Draws
from gibench.errors import InputError
from gibench.types import Images

SHA256 = "c5b3ef509a92f16d4c29be8cf0300fe75d53e13a3ce650159db932caea8dcc1b"  # of the 512x512x3 bytes of the slide
TILE, GAP, SIDE, STRIDE = 96, 8, 32, 4  # pixels
LAYOUT = (  # which part owns which tile; chosen so that every part sees every stain level in similar shares
    "aux    val    tune   client client",
    "test   client aux    aux    val",
    "client client tune   client client",
    "val    aux    aux    test   aux",
    "test   test   client tune   test",
)


@dataclass(frozen=True)
class Ihc(Dataset):
    """x (n, 3, 32, 32), levels classes: the mean DAB of the patch by colour deconvolution, cut at quantiles.

    The slide is cut in 5x5 tiles with unused gaps of 8 pixels; a tile belongs to one part, and its patches, 4 pixels
    apart, overlap each other but no other part. The quantiles are those of client and aux together.
    """

    citation: ClassVar[str] = (
        "IHC expression of FHL2 in colonic glands, Center for Microscopy and Molecular Imaging (CMMI); in van der Walt"
        " et al.: scikit-image, PeerJ 2:e453, 2014. doi:10.7717/peerj.453; Ruifrok, Johnston: Quantification of"
        " histochemical staining by color deconvolution, Anal. Quant. Cytol. Histol. 23, 2001"
    )
    licence: ClassVar[str] = "no known copyright restrictions"
    levels: Literal[2, 3, 4, 5, 6, 8, 10] = 5

    @property
    def classes(self) -> int:
        return self.levels

    @property
    def channels(self) -> int:
        return 3

    @property
    def side(self) -> int:
        return SIDE

    @property
    def checksum(self) -> str:
        return f"sha256:{SHA256}"

    def load(self) -> Parts:
        from skimage.color import rgb2hed
        from skimage.data import immunohistochemistry

        slide = immunohistochemistry()
        if (found := hashlib.sha256(slide.tobytes()).hexdigest()) != SHA256:
            raise InputError(f"ihc: scikit-image's slide has SHA-256 {found}, expected {SHA256}: another release")
        stain = _patches(torch.from_numpy(rgb2hed(slide)[..., 2:]))
        stain = {part: patches.mean((1, 2, 3)) for part, patches in stain.items()}
        known = torch.cat([stain["client"], stain["aux"]])
        edges = known.quantile(torch.arange(1, self.levels, dtype=known.dtype) / self.levels)
        pixels = _patches(torch.from_numpy(np.asarray(slide, np.float32) / 255))
        return Parts(**{part: Images(pixels[part], torch.bucketize(stain[part], edges)) for part in NAMES})


def corners(part: str) -> Tensor:
    """Row and column of the upper left pixel of every patch of a part, (n, 2), in stored order."""
    tiles = [(i, j) for i, line in enumerate(LAYOUT) for j, owner in enumerate(line.split()) if owner == part]
    steps = torch.arange(0, TILE - SIDE + 1, STRIDE)
    inside = torch.cartesian_prod(steps, steps)
    every = torch.cat([inside + torch.tensor(tile) * (TILE + GAP) for tile in tiles])
    return every[shuffled(len(every), Draws(("split", "ihc", part)))]


def _patches(plane: Tensor) -> dict[str, Tensor]:
    """All patches (n, c, 32, 32) of every part from (512, 512, c)."""
    windows = plane.unfold(0, SIDE, 1).unfold(1, SIDE, 1)
    return {part: windows[tuple(corners(part).T)].contiguous() for part in NAMES}
