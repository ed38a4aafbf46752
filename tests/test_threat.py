"""What each threat model grants."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gibench.errors import InputError
from gibench.threat import FLAGS, LETTERS, capabilities, missing


def test_the_published_letters() -> None:
    assert capabilities("A") == frozenset()
    assert capabilities("B") == {"batch_size"}
    assert capabilities("D+kp") == {"batch_size", "local_hparams", "aux_data", "defense_spec", "defense_params"}
    assert capabilities("C+lm") == {"batch_size", "local_hparams", "labels", "many_rounds"}
    assert "bn_stats" in capabilities("E")


def test_each_letter_grants_more_than_the_one_before() -> None:
    for order in ("ABCDE", "CFGH"):
        assert all(a < b for a, b in itertools.pairwise(capabilities(letter) for letter in order))
    assert {letter for letter in LETTERS if "active_server" in capabilities(letter)} == set("FGH")


@given(letter=st.sampled_from(sorted(LETTERS)), flags=st.permutations(sorted(FLAGS)), n=st.integers(1, 4))
def test_flags_add_in_any_order(letter: str, flags: list[str], n: int) -> None:
    expected = capabilities(letter) | {FLAGS[flag] for flag in flags[:n]}
    assert capabilities(f"{letter}+{''.join(flags[:n])}") == expected == LETTERS[letter] | expected


@pytest.mark.parametrize("threat", ["", "Z", "d", "D+", "D+x", "D+kk", "D kp", "+k", "Dkp", "D+k+p", "AB"])
def test_anything_else_is_refused_in_one_line(threat: str) -> None:
    with pytest.raises(InputError, match="unknown threat model") as caught:
        capabilities(threat)
    assert "\n" not in str(caught.value)
    assert "D+kp" in str(caught.value)


def test_missing_names_what_is_lacking_and_where() -> None:
    needs = frozenset({"batch_size", "aux_data", "defense_spec"})
    assert missing(needs, "D+k") == ""
    assert missing(needs, "B") == "needs aux_data, defense_spec, which threat model B does not grant"
    assert missing(frozenset(), "A") == ""
