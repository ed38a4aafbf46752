"""What holds for every audit: measures that are numbers, named once, the same every time, or a reason why not."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import cast

import pytest
from trained import client

from gibench.audits import Audit, Measure, Subject
from gibench.draws import Draws
from gibench.registry import build, names

SMALL = {
    "mesas": "mesas(trials=1, clients=8, images=4)",
    "encrypted_inference": "encrypted_inference(images=2, pieces=4)",
    "fairness": 'fairness(attack="inverting_gradients(steps=10, tv=0.01)", victims=8)',
    "rero": "rero(priors=[0.1])",
    "psgl_streams": "psgl_streams(epochs=1)",
    "attribute_inference": "attribute_inference(sigmas=[0.1], flips=[0.5], rounds=3, splits=1)",
}
OF = {"rero": "dpsgd(sigma=1.0)", "psgl_streams": "psgl(epochs=2)"}
"""Clients that audits look at which do not serve undefended ones."""
ALL = [SMALL.get(name, name) for name in names("audits")]


def served(spec: str) -> str:
    """The defense of a client that this audit serves, where its library is at hand."""
    name = spec.partition("(")[0]
    defense = OF.get(name, "none")
    one = client(defense)
    if reason := cast(Audit, build("audits", spec)).unfit(one.defense, one.skeleton):
        pytest.skip(reason)
    return defense


def examine(spec: str, subject: Subject) -> list[Measure]:
    return cast(Audit, build("audits", spec)).examine(subject, Draws(("test audit",)))


def timeless(measures: list[Measure]) -> list[Measure]:
    return [measure for measure in measures if measure.unit != "s"]


@pytest.mark.parametrize("spec", ALL)
def test_measures_are_numbers_named_once_and_the_same_every_time(spec: str, subject: Callable[..., Subject]) -> None:
    found, again = (examine(spec, subject(served(spec))) for _ in range(2))
    assert found
    assert all(math.isfinite(measure.value) for measure in found)
    assert len({(measure.group, measure.name) for measure in found}) == len(found)
    assert timeless(found) == timeless(again)
    for measure in found:
        assert measure.name
        assert "\n" not in measure.group + measure.name + measure.unit + measure.note
        assert measure.unit != "share" or -1 <= measure.value <= 1
    groups = [measure.group for measure in found]
    assert sum(a != b for a, b in pairwise(groups)) == len(set(groups)) - 1, "a group's measures stand together"


@pytest.mark.parametrize("spec", ALL)
def test_an_audit_leaves_the_client_as_it_is(spec: str, subject: Callable[..., Subject]) -> None:
    client = subject(served(spec))
    before = {name: p.clone() for name, p in client.nets["final"].state_dict().items()}
    images = client.parts.client.x.clone()
    examine(spec, client)
    assert client.parts.client.x.equal(images)
    assert all(p.equal(before[name]) for name, p in client.nets["final"].state_dict().items())


@pytest.mark.parametrize(
    ("audit", "defense", "why"),
    [
        ("contract", "noise", "none alone"),
        ("attribute_inference", "noise", "none alone"),
        ("mesas", "secagg", "sum of several clients"),
        ("encrypted_inference", "precode", "no protocol for the layer"),
        ("rero", "prune", "no differential privacy"),
        ("psgl_streams", "noise", "no map"),
    ],
)
def test_clients_that_an_audit_cannot_judge_have_a_reason(audit: str, defense: str, why: str) -> None:
    one = client(defense)
    assert why in cast(Audit, build("audits", audit)).unfit(one.defense, one.skeleton)
    general = set(names("audits")) - OF.keys() - {"encryption"}  # which asks for a library
    bare = client()
    assert all(cast(Audit, build("audits", name)).unfit(bare.defense, bare.skeleton) == "" for name in general)
