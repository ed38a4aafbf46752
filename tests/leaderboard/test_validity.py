"""A setting in which the undefended attack does not work proves nothing."""

import numpy as np
import pytest
import synthetic_results as made

from gibench.leaderboard import validity


def judged(extra: float, spread: float = 0.0) -> dict:
    """The verdict where every undefended attack gains `extra` dB on average, `spread` up and down."""
    planned = made.cells(checkpoints=["final"], defenses=["none"])

    def psnr(cell: dict, victim: int, image: int) -> float:
        return made.FLOOR if cell["attack"] == "prior_only" else made.FLOOR + extra + spread * (-1) ** victim

    return validity(made.results(planned, made.rows(planned, psnr=psnr))).iloc[0].to_dict()


def test_a_clear_gain_is_valid() -> None:
    found = judged(6.0, spread=1.0)
    assert found["valid"]
    assert found["reason"] == ""
    assert found["gain"] == pytest.approx(6)
    assert 0 < found["gain_low"] < 6 < found["gain_high"]


def test_too_small_a_gain_is_no_evidence() -> None:
    found = judged(2.98)
    assert not found["valid"]
    assert found["reason"] == (
        "no evidence: the undefended attack gains only 2.9 dB over the floor here; this setting proves nothing"
    )


def test_a_gain_that_may_be_chance_is_no_evidence() -> None:
    found = judged(4.0, spread=30.0)
    assert not found["valid"]
    assert "not significant" in found["reason"]


def test_without_an_undefended_attack_there_is_no_evidence() -> None:
    found = validity(made.results(made.cells(defenses=["prune(p=0.9)"])))
    assert list(found.checkpoint) == ["init", "final"]
    assert not found.valid.any()
    assert found.reason.str.contains("no undefended attack has a result").all()


def test_an_attack_that_failed_is_no_evidence() -> None:
    planned = made.cells(checkpoints=["final"], defenses=["none"])
    frame = made.rows(planned)
    found = validity(made.results(planned, made.fail(frame, (frame.attack != "prior_only") & (frame.victim < 2))))
    assert not found.valid.any()
    assert np.isnan(found.gain).all()


def test_nothing_is_judged_without_settings() -> None:
    assert validity(made.nothing()).empty
