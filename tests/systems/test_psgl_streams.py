"""The audit of PSGL's streams tells a stream with the digit in it from one with nothing."""

from __future__ import annotations

import pytest
import torch

from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.systems.psgl import packed
from gibench.systems.psgl_streams import Sent, stream_accuracies
from gibench.types import Images


def sent(images: Images) -> Sent:
    return Sent(packed(images.x, torch.zeros_like(images.x)), images.y)


@pytest.mark.slow
def test_what_is_thresholded_away_is_worth_nothing_and_what_is_left_all(digits: Parts) -> None:
    train, test = sent(Images(digits.client.x[:600], digits.client.y[:600])), sent(digits.test)
    most = float(test.y.bincount().max() / len(test.y))
    none = stream_accuracies(train, test, Draws(("none",)), threshold=0, epochs=8, width=8)
    assert list(none) == ["sent", "recovered", "rest", "fused"]
    assert none["rest"] <= most  # a stream of zeros
    assert min(none["sent"], none["recovered"], none["fused"]) > 0.6
    everything = stream_accuracies(train, test, Draws(("all",)), threshold=1e3, epochs=8, width=8)
    assert everything["recovered"] <= most
    assert min(everything["sent"], everything["rest"], everything["fused"]) > 0.6
