"""LaTeX: what is bold, what is escaped, tables that are regular, and that it compiles where there is a LaTeX."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import synthetic_results as made
from invented_matches import LEVELS, match, two_targets, unreachable
from invented_matches import results as matched_results

from gibench.report import render
from gibench.report.best import best, front
from gibench.report.latex_tables import spaced
from gibench.report.latex_text import escaped, spec
from gibench.report.tables import report

MATCHES = [match(family) for family in LEVELS]
MATCHES += [match("latent_perturb", "reach 0.9"), unreachable("dpsgd", "reach 0.9")]
NASTY = r"\input{x}$a_b$ 100% & #1 {~^} <b> |é| 中 \\ " + '"q"'
DOCUMENT = r"""\documentclass{article}
\usepackage[margin=15mm]{geometry}
%s
\begin{document}
%s
\end{document}
"""


def rows(latex: str) -> list[list[str]]:
    """The cells of every row of every table."""
    return [re.split(r"(?<!\\) & ", line.removesuffix(r" \\")) for line in latex.splitlines() if line.endswith(r" \\")]


def nasty() -> made.Results:
    cells = [cell | {"dataset": NASTY} for cell in made.cells()]
    cells[4].update(status="skipped", reason=NASTY)
    frame = made.rows(cells)
    matches = [match(family, NASTY, dataset=NASTY, knob=NASTY) for family in ("dpsgd", "prune")]
    ours = {"dataset": NASTY, "family": "latent_perturb(" + NASTY, "reason": NASTY}
    matches += [unreachable("latent_perturb", NASTY) | ours, match("prune", NASTY + "2", dataset=NASTY)]
    matches += [match("dpsgd", NASTY + "2") | ours]
    found = made.results(cells, frame[frame.cell != cells[4]["cell"]], commit=NASTY, damaged=[NASTY])
    return replace(found, grid=found.grid | {"matches": matches})


def test_every_row_has_a_cell_per_column() -> None:
    latex = render(matched_results(matches=MATCHES), "latex")
    columns = re.findall(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}", latex)
    assert len(columns) == 4, "duels, two targets, every defense as it ran"
    assert {len(row) for row in rows(latex)} == {10, 8, 12}, "a duel without numbers says why across three columns"
    assert r"\multicolumn{3}{l@{}}{dpsgd: unreachable (best 0.81)}" in latex
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == 4
    assert len(set(re.findall(r"\\label\{.*?\}", latex))) == 4
    assert r"\usepackage{booktabs}" in latex


def test_the_caption_says_suite_commit_and_what_bold_means() -> None:
    caption = re.search(r"\\caption\{(.*)\}", render(made.results(made.cells()), "latex"))[1]  # type: ignore[index]
    assert "suite quick 1" in caption
    assert "commit 0123456789ab" in caption
    assert "bold: the least gain" in caption
    assert "n = 10 images" in caption


def test_the_least_leak_is_bold_and_so_is_what_cannot_be_told_from_it() -> None:
    def close(cell: dict, victim: int, image: int) -> float:
        strong = cell["defense"].startswith("prune") and cell["attack"] != "prior_only"
        return made.usual(cell, victim, image) - (7.8 if strong else 0)

    apart = report(made.results(made.cells())).tables[0].lines
    assert [line.name for line, mark in zip(apart, best(apart), strict=True) if mark] == ["dpsgd(sigma=0.1)"]
    cells = made.cells()
    near = report(made.results(cells, made.rows(cells, psnr=close))).tables[0].lines
    bold = [line.name for line, mark in zip(near, best(near), strict=True) if mark]
    assert bold == ["dpsgd(sigma=0.1)", "prune(p=0.9)"]
    latex = render(made.results(cells), "latex")
    assert [row[0] for row in rows(latex) if "\\textbf{" in row[10]] == [
        r"\raggedright " + spec("dpsgd(sigma=0.1)") + " epsilon = 5.5, bound 15\\%"
    ]


def test_lower_bounds_and_what_is_unproven_are_never_best() -> None:
    cells = made.cells()
    frame = made.rows(cells)
    gone = (frame.defense == "dpsgd(sigma=0.1)") & (frame.attack == "adaptive_matching")
    lines = report(made.results(cells, frame[~gone])).tables[0].lines
    assert [line.name for line, mark in zip(lines, best(lines), strict=True) if mark] == ["prune(p=0.9)"]
    assert not any(mark for line, mark in zip(lines, front(lines), strict=True) if line.name.startswith("dpsgd"))


def test_the_front_holds_what_no_other_beats_in_both() -> None:
    lines = report(made.results(made.cells())).tables[0].lines
    marks = {line.name: mark for line, mark in zip(lines, front(lines), strict=True)}
    assert marks == {"prior only": False, "none": True, "dpsgd(sigma=0.1)": True, "prune(p=0.9)": False}


def test_nothing_foreign_is_a_command() -> None:
    shown = escaped(NASTY)
    assert not re.search(r"(?<!\\)[$&#%_{}](?!\})", re.sub(r"\\text[a-z]+\{\}", "", shown))
    assert r"\input" not in shown
    for by in ("defense", "attack"):
        text = render(nasty(), "latex", by)
        assert r"\input{x}" not in text
        assert "<b>" not in text
        assert {len(row) for row in rows(text)} <= {12, 10, 8, 9}


def test_what_has_rank_one_at_a_target_is_bold_and_the_caption_says_so() -> None:
    latex = render(matched_results(matches=MATCHES), "latex").partition("Every defense as it ran")[0]
    floats = [part for part in latex.split(r"\begin{table*}")[1:] if "rank 1" in part]
    assert len(floats) == 2
    for part, strong in zip(floats, (["latent_perturb"], ["latent_perturb"]), strict=True):
        assert r"bold: rank 1 at this target" in part
        bold = [row[0] for row in rows(part) if r"\textbf" in row[4] and row[11] == r"\textbf{1}"]
        assert bold == [rf"\raggedright {spec(name)} strength = 1" for name in strong]
        assert part.count(r"\textbf") == 2 * len(strong)


def test_floats_do_not_pile_up() -> None:
    parts = ["words", *["\\begin{table*}"] * 20]
    assert [part for part in spaced(parts) if part != "\\clearpage"] == parts
    run = 0
    for part in spaced(parts):
        run = 0 if part == "\\clearpage" else run + part.startswith("\\begin")
        assert run <= 8


def test_attacks_have_tables_of_their_own() -> None:
    latex = render(made.results(made.cells()), "latex", "attack")
    bare = rows(latex)[1:5]
    assert [row[0] for row in bare] == [
        "prior only (floor)",
        spec("inverting_gradients"),
        spec("adaptive_matching"),
        "worst",
    ]
    assert bare[1][1].startswith(r"\textbf{35.0 [")
    assert bare[3][1].startswith("35.0 [")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
@pytest.mark.parametrize("by", ["defense", "attack"])
def test_it_compiles(by: str, tmp_path: Path) -> None:
    for name, results in (
        ("plain", two_targets()),
        ("matched", matched_results(matches=MATCHES)),
        ("nasty", nasty()),
        ("nothing", made.nothing()),
    ):
        latex = render(results, "latex", by)
        packages = "\n".join(line.lstrip("% ") for line in latex.splitlines() if line.startswith("% "))
        (tmp_path / f"{name}.tex").write_text(DOCUMENT % (packages, latex))
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
