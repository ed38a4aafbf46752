"""Suites: shipped ones, overrides, and one line for every mistake."""

from pathlib import Path

import pydantic
import pytest

from gibench.errors import InputError
from gibench.grid import cells
from gibench.suite import Suite, load_suite, parse_value
from gibench.suite_files import suite_files

SMALL = """
datasets = ["digits"]
models = ["lenet"]
defenses = ["prune(p=0.9)"]
attacks = ["inverting_gradients(steps=10)"]
[training]
epochs = 2
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    file = tmp_path / "mine.toml"
    file.write_text(SMALL)
    return str(file)


def told(name: str, overrides: dict | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_suite(name, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_there_are_shipped_suites() -> None:
    assert "quick" in suite_files()
    assert all(path.is_file() and not name.endswith(".expected") for name, path in suite_files().items())


@pytest.mark.parametrize("name", suite_files())
def test_every_shipped_suite_loads_and_its_grid_builds_without_data(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIBENCH_DATA", str(tmp_path))
    suite = load_suite(name)
    assert suite.name == name
    assert suite.summary
    grid = cells(suite)
    assert grid
    clients = {cell.client.id: cell.client for cell in grid}.values()
    undefended = {client.dataset for client in clients if client.defense.entry_name() == "none"}
    assert undefended == {client.dataset for client in clients}
    assert any(cell.attack.entry_name() == "prior_only" for cell in grid)
    assert not list(tmp_path.iterdir())


def test_a_file_by_its_path_gets_its_name_and_defaults(path: str) -> None:
    suite = load_suite(path)
    assert (suite.name, suite.checkpoints, suite.batch_sizes, suite.threats) == (
        "mine",
        ["init", "final"],
        [1],
        ["D+kp"],
    )
    assert (suite.training.epochs, suite.training.clients, suite.training.protocol) == (2, 64, "fedsgd")


def test_overrides_reach_every_level_and_words_become_lists(path: str) -> None:
    given = {"victims": 3, "training.epochs": 7, "training.protocol": "fedavg", "defenses": "none", "seeds": [2, 5]}
    suite = load_suite(path, given)
    assert (suite.victims, suite.training.epochs, suite.training.protocol) == (3, 7, "fedavg")
    assert (suite.defenses, suite.seeds) == (["none"], [2, 5])
    assert load_suite(path).training.epochs == 2
    assert load_suite(path, {"threats": "B", "checkpoints": "final"}).threats == ["B"]
    assert load_suite(path, {"name": "other"}).name == "other"


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("victim", 3, ["unknown suite key 'victim'", "did you mean 'victims'?", "training.epochs"]),
        ("training.epoch", 3, ["'training.epoch'", "did you mean 'training.epochs'?"]),
        ("victims", 0, ["victims", "greater than or equal to 1", "0"]),
        ("victims", "many", ["victims", "integer", "'many'"]),
        ("victims.x", 1, ["victims"]),
        ("name.x.y", 1, ["name"]),
        ("seeds", [0, 0], ["seeds", "0 is listed twice"]),
        ("seeds", [-1], ["seeds", "greater than or equal to 0"]),
        ("seeds", [], ["seeds", "at least 1"]),
        ("defenses", [], ["defenses", "at least 1"]),
        ("defenses", ["none", "none"], ["'none' is listed twice"]),
        ("threats", ["D+x"], ["unknown threat model 'D+x'"]),
        ("checkpoints", ["late"], ["checkpoints", "'init', 'early' or 'final'"]),
        ("batch_sizes", [0], ["batch_sizes"]),
        ("batch_sizes", [17], ["batch_sizes"]),
        ("training.lr", 0, ["training.lr", "greater than 0"]),
        ("training.lr", float("nan"), ["training.lr"]),
        ("training.lr", float("inf"), ["training.lr"]),
        ("training.momentum", 1, ["training.momentum", "less than 1"]),
        ("training.protocol", "fedprox", ["training.protocol", "'fedsgd', 'fedavg' or 'split'"]),
        ("training.alpha", -1, ["training.alpha"]),
        ("name", "no spaces", ["name"]),
        ("name", "../up", ["name"]),
    ],
)
def test_bad_values_are_told_in_one_line(path: str, key: str, value: object, parts: list[str]) -> None:
    text = told(path, {key: value})
    for part in parts:
        assert part in text


def test_files_that_are_no_suites(tmp_path: Path) -> None:
    assert "did you mean 'quick'?" in told("quik")
    assert "there is no suite file" in told(str(tmp_path / "none.toml"))
    broken = tmp_path / "broken.toml"
    broken.write_text("datasets = [")
    assert "not a TOML file" in told(str(broken))
    broken.write_bytes(b"\xff\xfe\x00")
    assert "not a TOML file" in told(str(broken))
    broken.write_text("models = ['lenet']")
    assert "datasets" in told(str(broken))


def test_a_suite_cannot_be_changed(path: str) -> None:
    with pytest.raises(pydantic.ValidationError):
        load_suite(path).victims = 5
    assert isinstance(load_suite(path), Suite)


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), ("0.5", 0.5), ("1e-3", 1e-3), ("true", True), ("[1, 2]", [1, 2]), ('"x y"', "x y"), ("final", "final"),
     ("D+kp", "D+kp"), ("prune(p=0.9)", "prune(p=0.9)"), ('["none", "prune"]', ["none", "prune"]), ("", "")],
)  # fmt: skip
def test_values_on_the_command_line(text: str, value: object) -> None:
    if text:
        assert parse_value(text) == value
        assert type(parse_value(text)) is type(value)


@pytest.mark.parametrize("text", ["[1, 2", '"open', "[none]", "{a=", ""])
def test_values_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="cannot read the value"):
        parse_value(text)
