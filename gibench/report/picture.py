"""What the attacker saw, as a picture: victims, transmitted images and reconstructions in rows."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

Pixels = NDArray[np.uint8]

ROWS = ("victims", "transmitted", "reconstructions")
LEAST, COLUMNS = 4, 12
INCH = 1.1


def picture(images: Mapping[str, Pixels], title: str, psnr: Mapping[str, ArrayLike] | None = None) -> bytes:
    """A PNG with one row per kind of image and up to 12 images in each.

    images: "victims", "transmitted", "reconstructions", each (v, b, c, h, w); a kind that is lacking is left out.
    psnr: per kind the PSNR in dB of every image against the raw one, (v, b) or flat; null is shown as failed.
    Equal arguments give equal bytes.
    """
    unchanged = _unchanged(images)
    shown = [name for name in ROWS if name in images]
    captions = {name: np.asarray(values, dtype=float).ravel() for name, values in (psnr or {}).items()}
    strips = {name: _flat(images[name])[:COLUMNS] for name in shown}
    width = max([LEAST, *(len(strip) for strip in strips.values())])
    inches = width * INCH
    heading = textwrap.wrap(title, max(20, int(inches * 13))) or [""]
    figure = Figure(figsize=(inches + 0.2, max(len(shown), 1) * (INCH + 0.45) + 0.2 * len(heading) + 0.15), dpi=120)
    FigureCanvasAgg(figure)
    axes = figure.subplots(max(len(shown), 1), width, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for row, name in zip(axes, shown, strict=False):
        changed = not (unchanged and name == "transmitted")
        row[0].set_title(name if changed else f"{name} (unchanged)", fontsize=9, loc="left", weight="bold")
        for axis, image in zip(row, strips[name], strict=False):
            axis.imshow(image, cmap="gray" if image.ndim == 2 else None, vmin=0, vmax=255, interpolation="nearest")
        for axis, value in zip(row, captions.get(name, [])[: len(strips[name])] if changed else [], strict=False):
            text = "failed" if math.isnan(value) else f"{value:.1f} dB"
            axis.text(0.5, -0.04, text, transform=axis.transAxes, ha="center", va="top", fontsize=8)
    figure.suptitle("\n".join(heading), fontsize=9, x=0.01, y=0.995, ha="left", va="top", parse_math=False)
    top = 1 - (0.2 * len(heading) + 0.3) / figure.get_figheight()
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.05, top=top, hspace=0.4, wspace=0.06)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _flat(images: Pixels) -> NDArray[np.uint8]:
    """(v, b, c, h, w) -> (v b, h, w) for one channel, else (v b, h, w, c)."""
    flat = images.reshape(-1, *images.shape[-3:])
    return flat[:, 0] if flat.shape[1] == 1 else flat.transpose(0, 2, 3, 1)


def _unchanged(images: Mapping[str, Pixels]) -> bool:
    return "victims" in images and "transmitted" in images and np.array_equal(images["victims"], images["transmitted"])
