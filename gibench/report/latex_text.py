"""Foreign texts, brought into a form that LaTeX prints as they are."""

from __future__ import annotations

from gibench.report.text import one_line

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "·": r"$\cdot$",
    "±": r"$\pm$",
}


def escaped(text: object) -> str:
    """One line in which nothing is a command; what fonts often lack, beyond Latin letters, is a question mark."""
    return "".join(SPECIAL.get(c, c if ord(c) < 0x180 else "?") for c in one_line(text))


def spec(text: object) -> str:
    """An entry's spec in typewriter letters; it may break after a comma or a bracket."""
    shown = escaped(text).replace(", ", r",\ \allowbreak ").replace("(", r"(\allowbreak ")
    return rf"\texttt{{{shown}}}"
