"""LaTeX tables of finished cells, as floats with a caption and notes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gibench.report.latex_text import escaped

NEEDS = r"""% \usepackage{booktabs}
% \usepackage[T1]{fontenc}
% \usepackage{textcomp}"""
WIDE = r"p{0.2\linewidth}"
NOTES = 6
FLOAT = r"\begin{table*}"
FLOATS = 8  # LaTeX gives up on too many that wait for their place


def tabular(columns: str, heads: Sequence[str], rows: Iterable[Sequence[str]], rules: Iterable[int] = ()) -> str:
    """rows: finished cells; rules: after how many rows a thin rule goes."""
    lines = [rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}", r"\toprule"]
    lines += [" & ".join(map(escaped, heads)) + r" \\", r"\midrule"]
    for number, row in enumerate(rows, 1):
        lines.append(" & ".join(row) + r" \\")
        lines += [r"\midrule"] if number in rules else []
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def floating(table: str, caption: str, label: str, notes: Sequence[str]) -> str:
    return "\n".join(
        [
            FLOAT + "[htbp]",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{caption}}}",
            rf"\label{{{label}}}",
            table,
            *([listed(notes)] if notes else []),
            r"\end{table*}",
        ]
    )


def spaced(parts: Iterable[str]) -> Iterator[str]:
    """The parts, with a new page before every so many floats."""
    floats = 0
    for part in parts:
        floats += part.startswith(FLOAT)
        if part.startswith(FLOAT) and floats % FLOATS == 0:
            yield r"\clearpage"
        yield part


def listed(notes: Sequence[str]) -> str:
    shown = [escaped(note) for note in notes[:NOTES]]
    shown += [f"and {len(notes) - NOTES} more notes: see the other formats"] if len(notes) > NOTES else []
    start = r"\par\smallskip\noindent\begin{minipage}{\linewidth}\footnotesize\raggedright"
    return "\n".join([start, "\\\\\n".join(shown), r"\end{minipage}"])


def remark(text: str) -> str:
    return rf"{{\footnotesize\noindent {escaped(text)}\par}}"


def signed_number(number: str) -> str:
    """A signed number with a minus as long as its plus."""
    return number if number == "-" else f"${number}$"


def bold(text: str, strong: bool) -> str:
    return rf"\textbf{{{text.replace('$', '')}}}" if strong else text
