"""That the comparison compares like with like."""

from __future__ import annotations

import pytest
import torch
from scene import net_of

from benchmarks import match, rival
from benchmarks.floor import multiplications
from benchmarks.works import WORKS, Targets


@pytest.mark.filterwarnings("ignore")  # of breaching's imports
@pytest.mark.parametrize("name", ["lenet", "convnet"])
def test_the_rival_attacks_the_same_targets_with_the_same_gradient(name: str) -> None:
    """Its own loss is zero at our target and not at another one."""
    pytest.importorskip("breaching", reason="brought by `make bench`")
    targets = Targets(WORKS[name], 3, 2)
    attack = rival.attacker(targets, 1)
    (model,), labels, _ = attack.prepare_attack(*(payload := rival.message(targets, 1)))
    attack.objective.initialize(attack.loss_fn, attack.cfg.impl, None)

    def loss(x: torch.Tensor) -> float:
        value, _ = attack.objective(model, payload[1][0]["gradients"], (x - rival.MEAN) / rival.DEVIATION, labels)
        return abs(float(value))

    assert loss(targets.batch.x[1]) < 1e-5
    assert loss(targets.batch.x[0]) > 1e-3


def test_the_floor_counts_every_multiplication() -> None:
    """Two 5x5 convolutions with stride 2 and a linear layer."""
    expected = 16**2 * 12 * 3 * 25 + 8**2 * 12 * 12 * 25 + 12 * 8**2 * 5
    assert multiplications(net_of("lenet", 3, 5), torch.zeros(2, 3, 32, 32)) == expected


def test_equal_quality_is_the_first_rung_that_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(match, "quality", lambda processes, steps, count: steps / 10)
    assert match.fewest([], (10, 20, 40), 1.5, 2) == (20, 2.0)
    assert match.fewest([], (10, 20, 40), 5.0, 2) == (None, 4.0)
