"""Figures: twice the same bytes, and planted values where they should be."""

import math
from pathlib import Path

import numpy as np
import pytest
import synthetic_results as made
from invented_matches import CURVES, DP, PRUNE, two_targets
from results_folder import images

from gibench.errors import InputError
from gibench.leaderboard.points import recorded
from gibench.leaderboard.scores import scores
from gibench.report.figures import figures
from gibench.report.figures.budgets import budgeted, budgets
from gibench.report.figures.canvas import in_lines, saved
from gibench.report.figures.distributions import distributions, gains
from gibench.report.figures.knobs import knobs
from gibench.report.figures.tradeoff import tradeoff
from gibench.report.tables import report
from gibench.report.targets import met


def read(name: str) -> dict:
    return images(made.cells())[name]


@pytest.mark.parametrize("kind", ["svg", "png", "pdf"])
def test_twice_the_same_bytes_without_dates(kind: str) -> None:
    first, second = (figures(two_targets(), kind, read) for _ in range(2))
    assert first == second
    assert list(first) == [
        f"tradeoff-1-ihc-lenet-batch1.{kind}",
        f"distributions-1-ihc-lenet-batch1.{kind}",
        f"gallery-1-ihc-lenet-batch1.{kind}",
        f"knobs-ihc-lenet-fedsgd.{kind}",
    ]
    for content in first.values():
        assert content.startswith({"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[kind])
        assert not any(trace in content for trace in (b"Matplotlib v", b"CreationDate", b"<dc:date>"))


def test_points_of_the_trade_off_are_where_the_table_says() -> None:
    results = two_targets()
    table = report(results).tables[0]
    targets = met(table, recorded(results))
    assert targets == {DP: ["drop 0.05", "drop 0.01"], PRUNE: ["drop 0.05"]}
    axis = tradeoff(table, targets).axes[0]  # type: ignore[union-attr]
    points = {bar.get_label(): bar.lines[0] for bar in axis.containers}
    found = {name: (line.get_xdata()[0], line.get_ydata()[0]) for name, line in points.items()}
    assert found == {
        "none": pytest.approx((90.0, 20.0)),
        DP: pytest.approx((85.0, 3.0)),
        PRUNE: pytest.approx((85.0, 11.0)),
    }
    assert {name: line.get_marker() for name, line in points.items()} == {"none": "o", DP: "D", PRUNE: "D"}
    front = next(line for line in axis.lines if line.get_label() == "front")
    assert np.allclose(front.get_xydata(), [(85, 3), (90, 20)])


def test_names_in_a_trade_off_do_not_lie_on_each_other() -> None:
    names = ["none", *(f'latent_perturb(kind="bottleneck", beta={k}, lam=0.1)' for k in range(8))]
    planned = made.cells(defenses=tuple(names), seeds=(0,))
    clients = made.clients(planned)
    clients["utility"] = clients["defense"].map({name: 0.8 + 0.004 * k for k, name in enumerate(names)})
    rows = made.rows(planned, psnr=lambda cell, victim, image: 12.0 + 0.2 * names.index(cell["defense"]))
    figure = tradeoff(report(made.results(planned, rows, clients=clients)).tables[0])
    assert figure is not None
    figure.draw_without_rendering()
    texts = figure.axes[0].texts
    assert len(texts) > 4
    boxes = [text.get_window_extent() for text in texts]
    assert not any(a.overlaps(b) for k, a in enumerate(boxes) for b in boxes[:k])
    assert max(len(line) for text in texts for line in text.get_text().splitlines()) <= 26


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("dpsgd", ["dpsgd"]),
        ('latent_perturb(kind="code", latent=9)', ["latent_perturb(", 'kind="code", latent=9)']),
        ("an_unbroken_name_of_many_letters", ["an_unbroken_name_of_many_letters"]),
    ],
)
def test_specs_are_broken_where_they_may_be(text: str, lines: list[str]) -> None:
    assert in_lines(text, 24) == "\n".join(lines)


def test_curves_over_budgets_have_the_numbers_of_the_table() -> None:
    names = [f"dpsgd_budget(epsilon={e:g})" for e in (1, 1e3, 1e9)]
    planned = made.cells(defenses=("none", *names), seeds=(0,))
    clients = made.clients(planned)
    spent = dict(zip(names, (1.0, 1e3, 1e9), strict=True))
    clients["epsilon"] = clients["defense"].map(spent)
    clients["gdp_mu"] = clients["defense"].map(dict(zip(names, (0.5, 2.0, 9.0), strict=True)))

    def psnr(cell: dict, victim: int, image: int) -> float:
        return 12.0 if cell["attack"] == "prior_only" else 14.0 + math.log10(spent.get(cell["defense"], 1e20))

    results = made.results(planned, made.rows(planned, psnr=psnr), clients=clients)
    table = report(results).tables[0]
    assert [point["defense"] for point in budgeted(table)] == names
    leak, share, utility = budgets(table).axes  # type: ignore[union-attr]
    curves = {
        line.get_label(): line.get_xydata()
        for axis in (leak, share, utility)
        for line in axis.lines
        if not line.get_label().startswith("_")
    }
    worst = leak.containers[0].lines[0].get_xydata()
    assert np.allclose(worst, [(1, 14), (1e3, 17), (1e9, 23)])
    assert np.allclose(curves["floor"][:, 1], 12)
    bound = curves["bound"][:, 1]
    assert bound[0] < bound[1] < bound[2] <= 100
    assert np.allclose(curves["accuracy"][:, 1], 85)
    assert all(axis.get_xscale() == "log" for axis in (leak, share, utility))
    assert budgets(report(two_targets()).tables[0]) is None


def test_boxes_hold_the_gains_of_single_images() -> None:
    results = two_targets()
    table, scored = report(results).tables[0], scores(results)
    lines = {line.name: line for line in table.lines}
    assert gains(table, lines[DP], scored) == pytest.approx([3.0] * 10)
    assert gains(table, lines["none"], scored) == pytest.approx([20.0] * 10)
    axis = distributions(table, scored).axes[0]  # type: ignore[union-attr]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["none", DP, PRUNE]


def test_knob_curves_show_measured_fitted_and_two_targets() -> None:
    ((where, figure),) = knobs(CURVES, recorded(two_targets()))
    assert where == "ihc-lenet-fedsgd"
    axis = figure.axes[0]
    assert axis.get_xscale() == "log"
    lines = {line.get_label(): line.get_xydata() for line in axis.lines}
    assert np.allclose(lines["fitted"], [(0.001, 0.9), (0.01, 0.88), (0.1, 0.851), (1, 0.5)])
    assert len(lines["measured"]) == 8
    diamonds = [line.get_xydata()[0] for line in axis.lines if line.get_marker() == "D"]
    assert np.allclose(diamonds, [(0.1, 0.851)] * 2)
    assert {text.get_text() for text in axis.texts} == {"drop 0.05", "drop 0.01"}


def test_suites_without_matches_and_images_have_fewer_figures() -> None:
    names = [name.partition("-")[0] for name in figures(made.results(made.cells()))]
    assert names == ["tradeoff", "distributions"]
    assert figures(made.nothing()) == {}


def test_names_are_files_and_texts_are_no_mathematics(tmp_path: Path) -> None:
    nasty = "../$x_{y$/é"
    planned = [cell | {"dataset": nasty} for cell in made.cells()]
    for name, content in figures(made.results(planned), "svg").items():
        assert "/" not in name
        assert content


def test_an_unknown_kind_names_those_that_exist() -> None:
    with pytest.raises(InputError, match=r"did you mean 'svg'.*svg, pdf, png"):
        figures(made.nothing(), "svgg")


def test_saving_leaves_the_global_settings_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    saved(tradeoff(report(two_targets()).tables[0]), "svg")  # type: ignore[arg-type]
    assert dict(matplotlib.rcParams) == before
