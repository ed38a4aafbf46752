"""What users type, and the one line they get for a mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gibench.cli import main

QUICK = "suite=quick"


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `gibench ARGUMENTS`, in this process."""
    before = sys.argv
    sys.argv = ["gibench", *arguments]
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = before
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "suite=quikc"], ["unknown suite 'quikc'", "did you mean 'quick'", "smoke"]),
        (["run", QUICK, "victms=3"], ["unknown suite key 'victms'", "did you mean 'victims'"]),
        (["run", QUICK, "training.epoch=3"], ["training.epoch", "did you mean 'training.epochs'"]),
        (["run", QUICK, 'defenses=["dpsdg"]'], ["unknown defense 'dpsdg'", "did you mean 'dpsgd'"]),
        (["run", QUICK, 'attacks=["lti(epoch=3)"]'], ["lti has no field 'epoch'", "did you mean 'epochs'"]),
        (["run", QUICK, 'defenses=["dpsgd(sigma=-1)"]'], ["sigma", "greater than or equal to 0", "-1"]),
        (["run", QUICK, 'defenses=["prune(p=1.5)"]'], ["p:", "less than 1", "1.5"]),
        (["run", QUICK, 'defenses=["prune(p=[])"]'], ["sweep", "empty"]),
        (["run", QUICK, 'defenses=["prune(p=0.9"]'], ["not a spec"]),
        (["run", QUICK, "victims=0"], ["victims", "greater than or equal to 1"]),
        (["run", QUICK, "victims=many"], ["victims", "integer"]),
        (["run", QUICK, "victims=[1"], ["cannot read the value"]),
        (["run", QUICK, "victims=100000"], ["victims=100000", "test images of ihc"]),
        (["run", QUICK, "first_victim=99990"], ["after the first 99990", "test images of ihc", "at most 0"]),
        (["run", QUICK, "seeds=[0,0]"], ["0 is listed twice"]),
        (["run", QUICK, "threats=Z+kp"], ["unknown threat model 'Z+kp'", "D+kp"]),
        (["run", QUICK, "device=cuda"], ["no CUDA device"]),
        (["run", QUICK, "device=tpu"], ["device=tpu", "auto, cpu, cuda"]),
        (["run", QUICK, "workers=0"], ["workers=0"]),
        (["run", QUICK, "workers=two"], ["workers=two"]),
        (["run", "victims=3"], ["no suite is named"]),
        (["run", "quick"], ["'quick' is not a setting", "suite=quick"]),
        (["run", QUICK, "seeds=[0]", "seeds=[1]"], ["'seeds' is given twice"]),
        (["run", "suite=nowhere.toml"], ["no suite file nowhere.toml"]),
        (["run", QUICK, "out=/proc/nowhere"], ["out=/proc/nowhere cannot be written"]),
        (["plan", "suite=quikc"], ["did you mean 'quick'"]),
        (["report", "suite=quick"], ["holds no results"]),
        (["report"], ["no run was made from this folder"]),
        (["report", "suite=quick", "--format", "markdwn"], ["unknown report format", "did you mean 'markdown'"]),
        (
            ["report", QUICK, "--figures", "x", "--figure-format", "svgg"],
            ["unknown figure format", "did you mean 'svg'"],
        ),
        (["report", "victims=3"], ["'victims' is not a setting here"]),
        (["check", "out=x"], ["no suite is named", "suite=NAME"]),
        (["check", "suite=full"], ["nothing is expected yet", "full.expected.toml", "--accept"]),
        (["check", "suite=smoke", "--accept"], ["--accept asks", "--yes"]),
        (["check", "suite=smoke", "--yes"], ["give both"]),
        (["check", "suite=smoke", "victims=3"], ["'victims' is not a setting here"]),
        (["check", "suite=smoke"], ["holds no results"]),
        (["list", "attack"], ["unknown kind 'attack'", "did you mean 'attacks'"]),
        (["list", "attacks", "--format", "yaml"], ["unknown list format"]),
        (["show", "abc"], ["no run was made"]),
        (["frobnicate"], ["frobnicate"]),
        (["report", "--nonsense"], ["--nonsense"]),
    ],
)
def test_a_mistake_is_one_line_and_code_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    if "device=cuda" in arguments:
        import torch

        if torch.cuda.is_available():
            pytest.skip("there is a CUDA device here")
    code, out, err = call(capsys, *arguments)
    assert code == 2
    assert not out
    assert len(err.strip().splitlines()) == 1
    for word in words:
        assert word in err
    assert not list(tmp_path.iterdir()), "something was written"


def test_a_suite_that_is_not_toml(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("datasets = [")
    code, _, err = call(capsys, "run", "suite=mine.toml")
    assert code == 2
    assert "mine.toml is not a TOML file" in err


def test_a_dataset_that_is_missing_without_network(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(url: str, target: Path) -> None:
        raise OSError("network is unreachable")

    monkeypatch.setenv("GIBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("gibench.datasets.files.download", offline)
    code, _, err = call(capsys, "run", "suite=paper", "out=results")
    assert code == 2
    assert "pneumoniamnist.npz" in err
    assert "28209eda62fecd6e6a2d98b1501bb15f" in err
    assert "GIBENCH_DATA" in err
    assert not (tmp_path / "results").exists()


def test_help_needs_no_torch() -> None:
    check = (
        "import sys; sys.argv = ['gibench', '--help']\n"
        "from gibench.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'torch', 'pandas', 'pydantic', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    for command in ("run", "plan", "report", "check", "list", "show"):
        assert command in done.stdout


@pytest.mark.parametrize("kind", ["datasets", "models", "defenses", "attacks", "metrics", "suites"])
def test_list_json_is_what_scripts_rely_on(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    code, out, _ = call(capsys, "list", kind, "--format", "json")
    entries = json.loads(out)
    assert code == 0
    assert entries
    for entry in entries:
        assert {"name", "summary", "citation", "fields", "needs"} <= entry.keys()
        assert entry["summary"]
        for field in entry["fields"]:
            assert {"name", "type", "default"} == field.keys()
    assert call(capsys, "list", kind)[0] == 0


def test_plan_counts_without_data_or_results(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIBENCH_DATA", str(tmp_path / "nothing"))
    for command in (["plan"], ["run", "--dry-run"]):
        code, out, _ = call(capsys, *command, "suite=quick", "threats=A")
        assert code == 0
        assert "skipped" in out
        assert "needs aux_data, batch_size, defense_spec, which threat model A does not grant" in out
        assert "no timings are recorded yet" in out
    assert not (tmp_path / "runs").exists()
