"""Random streams belong to a victim and to a path, to nothing else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gibench.draws import Draws

KINDS = ("normal", "uniform", "permutation")


def draw(draws: Draws, kind: str) -> torch.Tensor:
    return draws.permutation(50) if kind == "permutation" else getattr(draws, kind)(3, 4)


@pytest.mark.parametrize("kind", KINDS)
@given(members=st.lists(st.integers(0, 10**6), min_size=1, max_size=6, unique=True), pick=st.integers(0, 5))
def test_a_member_draws_the_same_alone_and_in_company(kind: str, members: list[int], pick: int) -> None:
    pick %= len(members)
    together = draw(Draws(("a", 1), members), kind)
    assert torch.equal(draw(Draws(("a", 1), (members[pick],)), kind)[0], together[pick])
    assert len({tuple(row.flatten().tolist()) for row in together}) == len(members)


@pytest.mark.parametrize("kind", KINDS)
def test_paths_differ_and_repeat(kind: str) -> None:
    root = Draws(("cell", "defense"), range(3))
    paths = [root, root.at(0), root.at(1), root.at("images"), root.at(0, 1), root.at(1, 0), Draws(("cell",), range(3))]
    drawn = [draw(one, kind) for one in paths]
    assert all(not torch.equal(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
    again = Draws(("cell", "defense"), range(3))
    assert torch.equal(draw(again, kind), drawn[0])
    assert torch.equal(draw(again.at(0).at(1), kind), drawn[4])


@pytest.mark.parametrize("kind", KINDS)
def test_consecutive_draws_differ_and_their_sequence_repeats(kind: str) -> None:
    one, other = Draws(("a",), (1, 2)), Draws(("a",), (1, 2))
    first, second = draw(one, kind), draw(one, kind)
    assert not torch.equal(first, second)
    assert torch.equal(draw(other, kind), first)
    assert torch.equal(draw(other, kind), second)


def test_of_and_part_start_afresh_on_the_same_path() -> None:
    draws = Draws(("a",), range(5))
    whole = draws.normal(7)
    assert torch.equal(draws.part(slice(2, 4)).normal(7), whole[2:4])
    assert torch.equal(draws.of((4, 0)).normal(7), whole[[4, 0]])


def test_numbers_are_what_they_are_called() -> None:
    draws = Draws(("moments",), range(4))
    normal, uniform = draws.normal(20000), draws.uniform(20000)
    assert normal.mean().abs() < 0.02
    assert (normal.std() - 1).abs() < 0.02
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert (uniform.mean() - 0.5).abs() < 0.01
    assert draws.permutation(9).sort(1).values.tolist() == [list(range(9))] * 4
    assert torch.corrcoef(normal).fill_diagonal_(0).abs().max() < 0.03  # members are independent


def test_like_gives_dtype_and_the_same_numbers() -> None:
    double = Draws(("a",)).normal(6, like=torch.zeros(1, dtype=torch.float64))
    assert double.dtype == torch.float64
    assert torch.equal(double.float(), Draws(("a",)).normal(6))


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    before = torch.random.get_rng_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = [draw(Draws(("a",)), kind) for kind in KINDS]
        torch.manual_seed(2)
        state = torch.random.get_rng_state()
        second = [draw(Draws(("a",)), kind) for kind in KINDS]
        assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_seed_names_the_path_and_a_generator_needs_one_member() -> None:
    assert 0 <= Draws(("a",)).seed() < 2**63
    assert Draws(("a",)).seed() == Draws(("a",), (1, 2)).seed() != Draws(("b",)).seed()
    with pytest.raises(ValueError, match="unpack"):
        Draws(("a",), (1, 2)).generator()
