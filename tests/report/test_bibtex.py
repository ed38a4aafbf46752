"""Every citation becomes a valid entry with a stable key; a contract over all entries."""

import re
from dataclasses import replace
from functools import cache

import pytest
import synthetic_results as made

from gibench.listing import known
from gibench.report import as_bibtex
from gibench.report.sources import Source, sources

KINDS = ("datasets", "models", "attacks", "defenses", "audits")
WITHOUT_AUTHORS = {"flrsp2026", "svdefense2026"}  # their citations name none


@cache
def citations() -> dict[str, dict[str, str]]:
    return {kind: {name: entry["citation"] for name, entry in known()[kind].items()} for kind in KINDS}


def results(**columns: list[str]) -> made.Results:
    """A grid with the given entries and nothing else."""
    longest = max(map(len, columns.values()))
    rows = [{name: values[k % len(values)] for name, values in columns.items()} for k in range(longest)]
    return replace(made.nothing(), grid={"cells": rows})


def entries(text: str) -> dict[str, dict[str, str]]:
    """Parsed as strictly as BibTeX would: braces balance, fields end in a comma, keys are plain and different."""
    found: dict[str, dict[str, str]] = {}
    bare = re.sub(r"(?m)^%.*$", "", text)
    for block in filter(str.strip, re.split(r"\n\n+", bare)):
        head, *lines, end = block.strip().splitlines()
        kind = re.fullmatch(r"@(article|inproceedings|misc|techreport)\{([a-z][a-z0-9]*),", head)
        assert kind, head
        assert end == "}"
        assert kind[2] not in found
        fields = dict(re.fullmatch(r"  ([a-z]+) = \{(.*)\},", line).groups() for line in lines)  # type: ignore[union-attr, misc]
        for value in fields.values():
            assert value.replace("\\{", "").count("{") == value.replace("\\}", "").count("}"), value
            assert not re.search(r"(?<!\\)[%#&_$]", value), value
        found[kind[2]] = fields | {"kind": kind[1]}
    return found


def everything() -> dict[str, dict[str, str]]:
    columns = {"datasets": "dataset", "models": "model", "attacks": "attack", "defenses": "defense", "audits": "audit"}
    return entries(as_bibtex(results(**{columns[kind]: list(citations()[kind]) for kind in KINDS}), citations()))


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in known()[kind]])
def test_every_citation_is_understood(kind: str, name: str) -> None:
    found = sources(citations()[kind][name])
    assert found
    if citations()[kind][name] == "control; no source":
        return
    for source in found:
        assert re.fullmatch(r"(19|20)\d\d", source.year)
        assert source.title
        assert source.authors or source.key in WITHOUT_AUTHORS
        assert "arXiv" not in "".join((*source.authors, source.title, source.venue, source.note))
        assert "doi" not in source.venue + source.title
        assert not re.search(r"\d{4}", source.title + source.venue)


def test_all_of_them_make_one_valid_bibliography() -> None:
    found = everything()
    assert len(found) > 50
    eprints = [fields["eprint"] for fields in found.values() if "eprint" in fields]
    assert len(eprints) == len(set(eprints)), "one work has one entry, however entries cite it"
    for key, fields in found.items():
        assert "author" in fields or (key in WITHOUT_AUTHORS and fields["key"] == key)
        assert fields["title"].startswith("{")
        needed = {"article": "journal", "inproceedings": "booktitle", "techreport": "institution", "misc": "title"}
        assert needed[fields["kind"]] in fields


def test_known_sources_are_read_right() -> None:
    found = everything()
    assert found["zhu2019deep"] == {
        "kind": "inproceedings",
        "author": "Zhu and Liu and Han",
        "title": "{Deep leakage from gradients}",
        "booktitle": "NeurIPS",
        "year": "2019",
        "eprint": "1906.08935",
        "archiveprefix": "arXiv",
    }
    assert found["yang2023medmnist"]["doi"] == "10.1038/s41597-022-01721-8"
    assert (found["lecun1998gradient"]["volume"], found["lecun1998gradient"]["number"]) == ("86", "11")
    assert found["boenisch2023when"]["booktitle"] == r"EuroS\&P"
    assert "{Aguera y Arcas}" in found["mcmahan2017communication"]["author"]
    assert found["vanderwalt2014scikit"]["author"].endswith(" and others")


def test_only_what_is_shown_is_cited_and_parts_of_a_stack_are() -> None:
    shown = results(
        dataset=["digits"], attack=["dlg(steps=3)", "prior_only"], defense=["none", "mixup(k=4) + dpsgd(sigma=0.1)"]
    )
    text = as_bibtex(shown, citations())
    keys = list(entries(text))
    assert keys == sorted(keys)
    assert set(keys) == {
        "alpaydin1998optical",
        "zhu2019deep",
        "mcmahan2017communication",
        "zhang2018mixup",
        "abadi2016deep",
    }
    assert "% attack dlg\n@inproceedings{zhu2019deep," in text


def test_a_key_does_not_depend_on_what_else_is_shown() -> None:
    for attack in citations()["attacks"]:
        assert entries(as_bibtex(results(attack=[attack]), citations())).keys() <= everything().keys()


def test_what_cannot_be_read_is_a_note_and_what_is_unknown_is_said() -> None:
    given = {"attacks": {"mine": "our lab, 50% {unpublished} & more", "two": "control; no source"}}
    text = as_bibtex(results(attack=["mine(x=1)", "two", "other"]), given)
    found = entries(text)
    assert [fields["note"] for fields in found.values()] == [r"our lab, 50\% \{unpublished\} \& more"]
    assert text.endswith("% no citation is known of attack other\n")


def test_two_works_that_would_share_a_key_are_told_apart() -> None:
    given = {
        "attacks": {"a": "Li: Deep one, ICML 2020, arXiv 2001.00001", "b": "Li: Deep two, ICML 2020, arXiv 2001.00002"}
    }
    assert list(entries(as_bibtex(results(attack=["a", "b"]), given))) == ["li2020deep", "li2020deepb"]


def test_parts_of_a_source() -> None:
    assert sources("after Fan et al.: Alpha, beta and gamma: how?, USENIX Security 2025, arXiv:2506.08435") == (
        Source(("Fan", "others"), "Alpha, beta and gamma: how?", "USENIX Security", "2025", "2506.08435"),
    )
