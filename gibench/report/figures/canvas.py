"""Blank figures and how they are saved: without dates, random ids or the names of programs."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

KINDS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
)
"""File formats, each with the metadata to leave out."""

COLOURS = {"low": "#1d7a46", "some": "#b57400", "HIGH": "#b42318", "unproven": "#7a3fa0"}
OTHER, SOFT, ACCENT = "#5f6770", "#d5d8dc", "#2457c5"


def blank(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of so many inches and its axes, row by row."""
    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def dressed(axis: Axes, title: str, across: str = "", up: str = "", letters: int = 76) -> None:
    """Titles, the first in lines of so many letters, and as few rules as are needed to read it."""
    axis.set_title(in_lines(title, letters), fontsize=9, loc="left", parse_math=False)
    axis.set_xlabel(across, fontsize=8, parse_math=False)
    axis.set_ylabel(up, fontsize=8, parse_math=False)
    axis.tick_params(labelsize=8, color=SOFT)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color(SOFT)
    axis.grid(True, color=SOFT, linewidth=0.5)
    axis.set_axisbelow(True)


def in_lines(text: str, letters: int) -> str:
    """Broken after spaces and brackets into lines of so many letters, where it can be."""
    lines = [""]
    for part in re.split(r"(?<=[ (])", text):
        if lines[-1] and len(lines[-1] + part.rstrip()) > letters:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def saved(figure: Figure, kind: str) -> bytes:
    file = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "gibench"}):
        figure.savefig(file, format=kind, metadata=dict(KINDS[kind]))
    return file.getvalue()
