"""How the leak is spread over images: an average may hide the few that come back whole."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from gibench.leaderboard.columns import WORST
from gibench.leaderboard.scores import WHERE, Scores
from gibench.report.figures.canvas import COLOURS, OTHER, blank, dressed, in_lines
from gibench.report.headline import Line
from gibench.report.tables import TABLE, Table
from gibench.report.text import one_line


def distributions(table: Table, scored: Scores) -> Figure | None:
    """Per defense a box over images: gain of the worst case over the floor in dB at the headline's checkpoint.

    The box holds half of the images and the median, the whiskers nine tenths; the others are dots.
    """
    lines = [(line, gains(table, line, scored)) for line in table.lines if line.leak != "floor"]
    lines = [(line, values) for line, values in lines if len(values)]
    if not lines:
        return None
    figure, (axis,) = blank(6.4, 1.2 + 0.28 * len(lines))
    for row, (line, values) in enumerate(lines):
        colour = COLOURS.get(line.leak, OTHER)
        axis.boxplot(
            [values],
            positions=[row],
            orientation="horizontal",
            widths=0.6,
            whis=(5, 95),
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": colour, "alpha": 0.25, "edgecolor": colour},
            medianprops={"color": colour},
            whiskerprops={"color": colour},
            capprops={"color": colour},
            flierprops={"marker": ".", "markersize": 3, "markeredgecolor": colour},
        )
    axis.set_yticks(range(len(lines)), [in_lines(line.name, 36) for line, _ in lines], parse_math=False)
    axis.set_ylim(len(lines) - 0.4, -0.6)
    dressed(axis, table.title, "gain over the floor per image, dB", letters=48)
    axis.tick_params(axis="y", labelsize=6.5)
    axis.axvline(0, color=OTHER, linewidth=0.8)
    return figure


def gains(table: Table, line: Line, scored: Scores) -> list[float]:
    """Every image's gain in dB, best attack on it minus floor, at the checkpoint of the line."""
    cells = scored.cells
    here = (cells["defense"].map(one_line) == line.name) & (cells["checkpoint"].map(one_line) == line.checkpoint)
    here &= (cells[TABLE] == table.rows.iloc[0][TABLE]).all(axis=1)
    images = scored.images[scored.images["place"].isin(cells[here]["place"]) & (scored.images["attack"] == WORST)]
    floor = scored.floor["psnr"].reindex(pd.MultiIndex.from_frame(images[WHERE])).to_numpy()
    return [float(gain) for gain in (images["psnr"].to_numpy() - floor) if gain == gain]
