"""Matched utility for a paper: the headline in words, per setting the duels, and a table per target."""

from __future__ import annotations

from collections.abc import Iterator

from gibench.report.latex_tables import WIDE, bold, floating, remark, signed_number, tabular
from gibench.report.latex_text import escaped, spec
from gibench.report.matched import (
    AS_IT_RAN,
    BETTER,
    CLAIM,
    HEADLINE,
    READING,
    Duel,
    Effect,
    MatchedReport,
    MatchedTable,
)
from gibench.report.matched_lines import AtTarget, MatchedLine, by_target

HEADS = ["defense", "util. val.", "util. test", "obliv. dB", "worst dB", "at", "top 10 % dB", "SSIM", "MSE"]
HEADS += ["att. acc.", "recog.", "rank"]
HEADS_OF_DUELS = ["target", "defense", "against", "attacker", "n", "att. acc., points", "relative", "verdict"]
HEADS_OF_DUELS += ["MSE, relative", "verdict"]
NARROW = r"p{0.13\linewidth}"
RULE = "bold: rank 1 at this target, no other defense leaks significantly less"
RULE_OF_DUELS = "bold: better, significantly so after Holm's correction"


def matched_as_latex(shown: MatchedReport, title: str) -> Iterator[str]:
    """The parts of the text, in order. title: what captions say of the suite."""
    yield rf"\paragraph{{{HEADLINE}.}}"
    if shown.summary:
        lines = "\n".join(rf"\item {escaped(line)}" for line in shown.summary)
        yield r"\begin{itemize}\raggedright" + f"\n{lines}\n" + r"\end{itemize}"
    yield rf"\begin{{quote}}{escaped(CLAIM)}\end{{quote}}"
    for number, table in enumerate(shown.tables, 1):
        label = f"tab:gibench-matched-{number}"
        if table.duels:
            yield _duels(table, title, f"{label}-duels")
        for place, part in enumerate(by_target(table.rows), 1):
            yield _families(part, f"{title}. {table.title}", f"{label}-{place}")
    yield remark(READING)
    yield rf"\paragraph{{{AS_IT_RAN}.}}"


def _duels(table: MatchedTable, title: str, label: str) -> str:
    caption = f"{title}. {table.title}. {HEADLINE}, defense against defense; in brackets 95 % intervals; "
    rows = list(map(_duel, table.duels))
    ends = {k for k in range(1, len(rows)) if table.duels[k - 1].target != table.duels[k].target}
    body = tabular(f"l{NARROW}{NARROW}lrrrlrl", HEADS_OF_DUELS, rows, ends)
    return floating(body, f"{escaped(caption + RULE_OF_DUELS)}.", label, [])


def _duel(duel: Duel) -> list[str]:
    who = [escaped(duel.target), *(rf"\raggedright {spec(name)}" for name in (duel.family, duel.rival))]
    who.append(duel.attacker)
    if duel.missing:
        return [*who, "-", "-", "-", rf"\multicolumn{{3}}{{l@{{}}}}{{{escaped(duel.missing)}}}"]
    accuracy, mse = duel.accuracy, duel.mse
    points = f"{signed_number(accuracy.points)} {accuracy.points_span}".strip()
    return [*who, str(duel.n), points, _relative(accuracy), _verdict(accuracy), _relative(mse), _verdict(mse)]


def _relative(effect: Effect) -> str:
    return f"{signed_number(escaped(effect.percent))} {effect.percent_span}".strip()


def _verdict(effect: Effect) -> str:
    return bold(effect.verdict, effect.verdict == BETTER)


def _families(part: AtTarget, title: str, label: str) -> str:
    said = f"{title}. {HEADLINE}, {part.target}: {part.aim}. In brackets 95 % intervals; {RULE}."
    rules = {sum(line.floor for line in part.lines)} - {0}
    return floating(tabular(f"{WIDE}rrrrlrrrrrr", HEADS, map(_cells, part.lines), rules), escaped(said), label, [])


def _cells(line: MatchedLine) -> list[str]:
    called = escaped(line.name) if line.floor else spec(line.name)
    texts = {column: escaped(text) for column, text in line.texts.items()}
    texts["worst"] = bold(f"{texts['worst']} {line.interval}".strip(), line.first)
    texts["rank"] = bold(texts["rank"], line.first)
    return [rf"\raggedright {called} {escaped(line.remark)}".strip(), *texts.values()]
