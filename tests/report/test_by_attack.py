"""How strong each attack is: a line per attack, a summary in Markdown, names that stay short."""

import io
import json
import re

import pytest
import synthetic_results as made
from rich.console import Console
from typer.testing import CliRunner

from gibench.cli import app
from gibench.report import print_attacks, render
from gibench.report.by_attack_terminal import attacks_as_terminal

DP = "dpsgd(sigma=0.1)"
NASTY = "[red]x|y[/red] <b>`z`</b>\n\x1b[31m*w*"


def planned(attacks: dict[str, bool] = made.ATTACKS, **kinds) -> list[dict]:
    """The invented grid with other attacks."""
    return [cell for cell in made.cells(**kinds) if cell["attack"] in attacks]


def renamed(cells: list[dict], attack: str, spec: str) -> list[dict]:
    """Copies of the cells of an attack, under another spec."""
    found = [cell | {"attack": spec, "cell": f"{cell['cell']}-{spec}"} for cell in cells if cell["attack"] == attack]
    assert found
    return found


def lines(text: str, names: tuple[str, ...]) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(names)]


def table_of(markdown: str, number: int) -> dict[str, list[str]]:
    """The numbered table of a Markdown text: its cells by their first."""
    blocks = [block.splitlines() for block in markdown.split("\n\n") if block.startswith("|")]
    rows = [re.split(r" ?(?<!\\)\| ?", line)[1:-1] for line in blocks[number]]
    assert len({len(row) for row in rows}) == 1
    return {row[0]: row[1:] for row in rows}


def test_a_table_per_defense_with_the_floor_first_and_the_worst_last() -> None:
    text = attacks_as_terminal(made.results(planned()))
    titles = lines(text, ("ihc",))
    assert [title.split(" · ")[2] for title in titles] == ["none", DP, "prune(p=0.9)"]
    assert all(title.endswith("1 round · n = 10") for title in titles)
    names = ("prior only", "inverting_gradients", "adaptive_matching", "worst")
    shown = lines(text, (*names, "oblivious"))
    assert [line.split("  ")[0] for line in shown] == list(names) * 3
    bare, dp = shown[1].split(), shown[6].split()
    assert bare[1:] == ["35.0", "0.70", "100%", "30.0", "0.60", "100%", "100%", "0.20"]
    assert dp[1:] == ["18.0", "0.36", "0%", "18.0", "0.36", "0%", "100%", "0.20"]
    assert re.search(r"^ +\[34\.\d, 35\.\d\] +\[29\.\d, 30\.\d\] *$", text, re.MULTILINE)


def test_what_joins_at_a_later_checkpoint_keeps_its_place() -> None:
    cells = planned(defenses=["none"])
    late = [cell for cell in cells if cell["checkpoint"] == "final" or cell["attack"] == "inverting_gradients"]
    results = made.Results(made.rows(late), made.clients(late), {"suite": {}, "protocol": 1, "cells": late})
    names = list(table_of(render(results, "markdown", "attack"), 0))[2:]
    assert names == ["prior only (floor)", "`inverting_gradients`", "`adaptive_matching`", "worst"]
    assert lines(attacks_as_terminal(results), ("prior",))[0].split()[2:6] == ["-", "-", "-", "15.0"]


def test_labels_and_seconds_are_those_of_all_checkpoints() -> None:
    cells = planned(defenses=["none"])
    frame = made.rows(cells)
    early = (frame.checkpoint == "init") & (frame.attack == "inverting_gradients")
    frame.loc[early, "label_accuracy"] = 0.5
    frame.loc[early, "seconds"] = 30.0
    line = lines(attacks_as_terminal(made.results(cells, frame)), ("inverting",))[0]
    assert line.split()[-2:] == ["75%", "1.60"]  # (30 + 2) seconds for 20 images


@pytest.mark.parametrize(("width", "columns"), [(60, 5), (100, 9)])
def test_a_narrow_screen_does_without_ssim(width: int, columns: int) -> None:
    text = attacks_as_terminal(made.results(planned()), width)
    assert ("SSIM" in text.split("How to read it")[0]) == (width == 100)
    assert len(lines(text, ("worst",))[0].split()) == columns


def test_three_checkpoints_fit_even_where_reconstructions_are_perfect() -> None:
    cells = planned(checkpoints=("init", "early", "final"), defenses=["none"])
    frame = made.rows(cells, psnr=lambda cell, victim, image: 99.8 + 0.2 * (victim > 0))
    text = attacks_as_terminal(made.results(cells, frame))
    assert max(map(len, text.splitlines())) <= 100
    assert len(lines(text, ("worst",))[0].split()) == 12
    assert "gradients\n" not in text.replace(" ", "").split("worst")[0].replace("inverting_\ngradients", "")
    assert "…" not in text


def test_what_could_not_run_says_why_once() -> None:
    cells = planned() + renamed(planned(), "adaptive_matching", "bn_matching")
    for cell in cells:
        if cell["attack"] in ("adaptive_matching", "bn_matching") and cell["defense"] == "none":
            cell.update(status="skipped", reason="needs bn_stats")
    frame = made.rows([cell for cell in cells if cell["status"] != "skipped" and cell["attack"] != "bn_matching"])
    broken = (frame.defense == DP) & (frame.attack == "adaptive_matching") & (frame.checkpoint == "init")
    results = made.results(cells, made.fail(frame, broken & (frame.victim < 5), "diverged"))
    text = " ".join(attacks_as_terminal(results).split())
    none, dp = text.split(" · n = 10 ")[2:4]
    assert "adaptive_matching skipped - - skipped - - - -" in none
    assert none.count("! adaptive_matching, bn_matching: skipped: needs bn_stats") == 1
    assert "adaptive_matching failed - - 18.0 0.36 0%" in dp
    assert "! adaptive_matching: init: failed: 5 of 10 victims failed: diverged" in dp
    assert "! bn_matching: missing: no result yet" in dp
    assert re.search(r"worst [\d.]+\*", dp)
    assert "! worst" not in text
    markdown = render(results, "markdown", "attack")
    assert table_of(markdown, 0)["`adaptive_matching`"] == ["-", "-"]
    assert table_of(markdown, 2)["`adaptive_matching`"][-1] == "init: failed: 5 of 10 victims failed: diverged"
    assert table_of(markdown, 2)["worst"][0].startswith("16.5\\* [")


def test_flags_are_shown_where_they_were_raised() -> None:
    cells = planned()
    frame = made.rows(cells).assign(flags="")
    frame.loc[(frame.defense == DP) & (frame.attack == "adaptive_matching"), "flags"] = "gap; masked"
    results = made.results(cells, frame)
    assert lines(attacks_as_terminal(results), ("!",)) == ["! adaptive_matching: gap; masked"]
    assert table_of(render(results, "markdown", "attack"), 2)["`adaptive_matching`"][-1] == "gap; masked"


def test_specs_that_share_a_name_are_numbered_and_listed() -> None:
    cells = planned()
    long = "inverting_gradients(steps=9000, lr=0.1)"
    cells += renamed(cells, "inverting_gradients", long)
    results = made.results(cells, made.rows(cells, psnr=lambda cell, *_: made.FLOOR + 10 * cell["attack"].count("g")))
    text = attacks_as_terminal(results)
    assert text.count(long) == 1
    assert f"inverting_gradients #2 = {long}" in text.splitlines()
    assert [line.split("  ")[0] for line in lines(text, ("inv",))[:2]] == [f"inverting_gradients #{k}" for k in (1, 2)]
    assert "adaptive_matching #" not in text
    markdown = render(results, "markdown", "attack")
    assert f"- `inverting_gradients #2`: `{long}`" in markdown
    assert list(table_of(markdown, 0))[2:5] == [
        "prior only (floor)",
        "`inverting_gradients #1`",
        "`inverting_gradients #2`",
    ]


def test_the_summary_marks_the_best_only_where_it_clearly_beats_the_floor() -> None:
    cells = planned(datasets=("ihc", "digits"), checkpoints=["final"])
    weak = {"prior_only": 15.0, "inverting_gradients": 17.9, "adaptive_matching": 12.0}
    strong = {"prior_only": 15.0, "inverting_gradients": 20.04, "adaptive_matching": 20.0}

    def psnr(cell: dict, victim: int, image: int) -> float:
        return (weak if cell["dataset"] == "ihc" else strong)[cell["attack"]]

    shown = table_of(render(made.results(cells, made.rows(cells, psnr=psnr)), "markdown", "attack"), 0)
    assert shown == {
        "attack": ["ihc final", "digits final"],
        "---": ["---:", "---:"],
        "prior only (floor)": ["15.0", "15.0"],
        "`inverting_gradients`": ["17.9", "**20.0**"],
        "`adaptive_matching`": ["12.0", "**20.0**"],
        "worst": ["17.9", "20.0"],
    }


def test_the_summary_has_the_first_model_the_smallest_batch_and_a_table_per_threat() -> None:
    cells = []
    for model, batch, threat in (("lenet", 8, "D+kp"), ("lenet", 2, "D+kp"), ("convnet", 1, "D+kp"), ("lenet", 2, "F")):
        fields = {"model": model, "threat": threat}
        own = planned(batch=batch, defenses=["prune(p=0.9)", "none"])
        cells += [cell | fields | {"cell": f"{cell['cell']}{model}{batch}{threat}"} for cell in own]
    suite = made.SUITE | {"models": ["lenet", "convnet"], "batch_sizes": [8, 2, 1], "threats": ["D+kp", "F"]}
    results = made.Results(made.rows(cells), made.clients(cells), {"suite": suite, "protocol": 1, "cells": cells})
    markdown = render(results, "markdown", "attack")
    heads = [line for line in markdown.splitlines() if line.startswith("###")]
    assert heads == [
        f"### PSNR in dB · defense none · lenet · batch 2 · threat {threat} · labels given · 1 round"
        for threat in ("D+kp", "F")
    ]
    assert re.findall("<summary>(.*)</summary>", markdown) == [
        f"ihc · {part}" for part in ("lenet · batch 8", "lenet · batch 2", "convnet · batch 1")
    ]
    assert markdown.count("<details>") == markdown.count("</details>") == 3


def test_foreign_texts_are_never_markup() -> None:
    cells = [cell | {"dataset": NASTY, "checkpoint": NASTY} for cell in planned()]
    cells += renamed(cells, "inverting_gradients", NASTY)
    for cell in cells:
        if cell["attack"] == "adaptive_matching":
            cell.update(status="skipped", reason=NASTY)
    results = made.results(cells, made.rows([cell for cell in cells if cell["attack"] == "inverting_gradients"]))
    console = Console(file=io.StringIO(), width=140, color_system=None)
    print_attacks(results, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[red]x|y[/red]" in shown
    assert "\x1b" not in shown
    markdown = render(results, "markdown", "attack")
    assert "<summary>[red]x|y[/red] &lt;b&gt;`z`&lt;/b&gt; [31m*w* · lenet · batch 1</summary>" in markdown
    assert "\\[red\\]x\\|y\\[/red\\] \\<b\\>\\`z\\`\\</b\\>" in markdown
    assert "<b>" not in re.sub(r"`[^`\n]*`", "", markdown)
    notes = [row[-1] for row in table_of(markdown, 1).values()]
    assert "skipped: \\[red\\]x\\|y\\[/red\\] \\<b\\>\\`z\\`\\</b\\> \\[31m\\*w\\*" in notes


def test_programs_get_the_same_from_either_view() -> None:
    results = made.results(planned())
    for form in ("csv", "json"):
        assert render(results, form, "attack") == render(results, form, "defense")
    assert json.loads(render(results, "json", "attack"))["rows"][1]["ssim_over_half"] == 1.0


def test_the_command_prints_either_view(monkeypatch: pytest.MonkeyPatch) -> None:
    class Store:
        def read(self) -> made.Results:
            return made.results(planned())

    monkeypatch.setattr("gibench.cli.results_of", lambda where: Store())
    shown = CliRunner().invoke(app, ["report", "--by", "attack"])
    assert shown.output == attacks_as_terminal(Store().read())
    assert CliRunner().invoke(app, ["report"]).output == render(Store().read(), "terminal")
