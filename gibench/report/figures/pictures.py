"""The gallery as one figure: a row per defense, three victims chosen by rule, each as truth, sent and rebuilt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from gibench.report.figures.canvas import blank, in_lines
from gibench.report.gallery import RULES, Shown
from gibench.report.tables import Table
from gibench.report.text import decimals

KINDS = ("truth", "transmitted", "undefended", "defended")


def strips(table: Table, places: Sequence[Shown]) -> Figure | None:
    """None where no images are at hand."""
    if not places:
        return None
    width = len(RULES) * len(KINDS)
    figure, axes = blank(0.62 * width + 1.8, 0.5 + 0.85 * len(places), len(places), width)
    for axis in axes:
        axis.axis("off")
        axis.set_box_aspect(1)
    for row, place in enumerate(places):
        for v, victim in enumerate(place.victims):
            start = row * width + v * len(KINDS)
            for axis, kind in zip(axes[start : start + len(KINDS)], KINDS, strict=True):
                if kind in victim.images:
                    image = victim.images[kind]
                    grey = image.shape[0] == 1
                    pixels = image[0] if grey else image.transpose(1, 2, 0)
                    axis.imshow(pixels, cmap="gray" if grey else None, vmin=0, vmax=255, interpolation="nearest")
                if row == 0:
                    axis.set_title(kind, fontsize=6)
            caption = f"{victim.rule}: {decimals(victim.psnr, 1)} dB"
            below = axes[start].text(0, -0.08, caption, transform=axes[start].transAxes, fontsize=6, va="top")
            below.set_in_layout(False)
        left = axes[row * width]
        name = in_lines(place.defense, 25)
        box: dict[str, Any] = {"ha": "right", "va": "center", "fontsize": 6, "parse_math": False}
        left.text(-0.15, 0.5, name, transform=left.transAxes, **box)
    figure.suptitle(table.title, fontsize=8, x=0.01, ha="left", parse_math=False)
    return figure
