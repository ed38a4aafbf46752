"""A bibliography of everything that a report shows: its datasets, models, attacks, defenses and audits."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import pandas as pd

from gibench.leaderboard.columns import PSEUDO, entry
from gibench.registry import summands
from gibench.report.latex_text import escaped
from gibench.report.sources import VOLUME, Source, sources
from gibench.report.text import one_line

if TYPE_CHECKING:
    from gibench.store import Results

Citations = Mapping[str, Mapping[str, str]]
"""Per kind of entry ("datasets", "models", "attacks", "defenses", "audits") the citation of every name."""

COLUMNS = {"datasets": "dataset", "models": "model", "attacks": "attack", "defenses": "defense", "audits": "audit"}
NO_SOURCE = "no source"  # what the citation of a control says
JOURNALS = ("TMLR", "SIAM J.", "IEEE Trans.")


def as_bibtex(results: Results, citations: Citations) -> str:
    """Entries for every dataset, model, attack, defense and audit of the results, sorted by key.

    A key depends on the source, not on what else is shown; a comment above an entry says who cites it. A text that
    names no publication is a note; names that `citations` does not know are listed in a comment.
    """
    best = _canonical(citations)
    users: dict[Source, list[str]] = {}
    unknown = []
    for kind, name in _shown(results):
        found = sources(citations.get(kind, {}).get(name, ""))
        for source in found:
            if NO_SOURCE in source.note:
                continue
            users.setdefault(best.get(source.same, source), []).append(f"{COLUMNS[kind]} {name}")
        if not found:
            unknown.append(f"{COLUMNS[kind]} {name}")
    keys = _keys(users)
    parts = [_entry(keys[source], source, users[source]) for source in sorted(users, key=lambda s: keys[s])]
    parts += ["% no citation is known of " + ", ".join(map(one_line, unknown))] if unknown else []
    return "\n\n".join(parts) + "\n"


def _shown(results: Results) -> Iterator[tuple[str, str]]:
    """Kind and name of every entry in the grid or, where there is none, in the rows; the order is theirs."""
    planned = pd.DataFrame([*results.grid.get("cells", []), *results.grid.get("audits", [])], dtype=object)
    table = planned if len(planned) else results.rows
    for kind, column in COLUMNS.items():
        for spec in dict.fromkeys(table.reindex(columns=[column])[column].dropna()):
            yield from ((kind, entry(part)) for part in summands(str(spec)) if entry(part) not in PSEUDO)


def _canonical(citations: Citations) -> dict[str, Source]:
    """Of every publication the fullest way in which any entry cites it, so that one work has one key."""
    found: dict[str, Source] = {}
    for names in citations.values():
        for source in (source for text in names.values() for source in sources(text)):
            known = found.get(source.same)
            if known is None or _fullness(source) > _fullness(known):
                found[source.same] = source
    return found


def _fullness(source: Source) -> tuple[int, int, str]:
    return len(source.authors), len(source.title), source.title


def _keys(found: Iterable[Source]) -> dict[Source, str]:
    """Works whose first author, year and first word agree are told apart by a letter."""
    keys: dict[Source, str] = {}
    seen = Counter[str]()
    for source in sorted(found, key=lambda s: (s.key, s.same, s.title)):
        keys[source] = source.key + string.ascii_lowercase[1:][: seen[source.key]][-1:]
        seen[source.key] += 1
    return keys


def _entry(key: str, source: Source, users: list[str]) -> str:
    comment = "% " + ", ".join(dict.fromkeys(map(one_line, users)))
    kind, place = _kind(source)
    fields = {
        "author": " and ".join(map(_name, source.authors)),
        "title": f"{{{escaped(source.title)}}}" if source.title else "",
        "key": "" if source.authors else key,
        **place,
        "year": source.year,
        "eprint": source.eprint,
        "archiveprefix": "arXiv" if source.eprint else "",
        "doi": source.doi,
        "note": escaped(source.note),
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return "\n".join([comment, f"@{kind}{{{key},", *lines, "}"])


def _name(author: str) -> str:
    """Surnames alone are cited; braces keep those of several words together."""
    return f"{{{escaped(author)}}}" if " " in author else escaped(author)


def _kind(source: Source) -> tuple[str, dict[str, str]]:
    """The type of entry and the fields that say where it appeared."""
    venue = source.venue
    if not venue:
        return "misc", {}
    if venue.startswith("Technical report"):
        return "techreport", {"institution": escaped(venue.removeprefix("Technical report").strip(" ,"))}
    if volume := VOLUME.search(venue):
        number, _, pages = volume.group().strip().partition(":")
        volume_number = re.fullmatch(r"(\d+)\((\d+)\)", number)
        where = {"volume": volume_number[1], "number": volume_number[2]} if volume_number else {"volume": number}
        journal = {"journal": escaped(venue[: volume.start()]), **where}
        return "article", journal | ({"pages": escaped(pages)} if pages else {})
    if venue.startswith(JOURNALS):
        return "article", {"journal": escaped(venue)}
    if "Repository" in venue:
        return "misc", {"howpublished": escaped(venue)}
    return "inproceedings", {"booktitle": escaped(venue)}
