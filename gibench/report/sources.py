"""What a citation's text says, part by part: authors, title, venue, year, where it can be read.

A citation is one source or several, parted by semicolons, each `Authors: Title, Venue Year, arXiv 1234.56789`; a title
without authors stands alone. What cannot be read so is kept as a note, never lost.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from functools import lru_cache

YEAR = re.compile(r"\b(?:19|20)\d\d\b")
PREFIX = re.compile(r"^(?:after|in) ")
EPRINT = re.compile(r"[,.;]?\s*\barXiv[: ]\s*(\d{4}\.\d{4,5})\b", re.IGNORECASE)
DOI = re.compile(r"[,.;]?\s*\bdoi:\s*(10\.\d+/[^\s;,]*[^\s;,.])", re.IGNORECASE)
TITLE_ENDS = re.compile(r"(?:\.|\?,|,) (?=[A-Z])")
SMALL = {"a", "an", "the", "of", "on", "in", "for", "how", "and", "to", "from", "with", "by"}
VOLUME = re.compile(r" \d[\d()]*(?::\w+)?$")


@dataclass(frozen=True)
class Source:
    """One publication; what is not known is empty. A source without a year is only its note."""

    authors: tuple[str, ...] = ()
    title: str = ""
    venue: str = ""
    year: str = ""
    eprint: str = ""
    doi: str = ""
    note: str = ""

    @property
    def key(self) -> str:
        """First author, year and first telling word of the title: `zhu2019deep`."""
        words = re.findall(r"[A-Za-z0-9]{2,}", _ascii(self.title or self.note))
        word = next((word for word in words if word.lower() not in SMALL), "source")
        author = re.sub(r"[^A-Za-z]", "", _ascii(self.authors[0])) if self.authors else ""
        return (f"{author}{self.year}{word}" if author else f"{word}{self.year}").lower()

    @property
    def same(self) -> str:
        """What two citations of one publication share, however they write it."""
        return self.eprint or self.doi or self.key


@lru_cache(maxsize=512)
def sources(citation: str) -> tuple[Source, ...]:
    """Every source of a citation. A part without a year is a remark on the source that follows it."""
    found: list[Source] = []
    remark = ""
    for part in filter(None, citation.split("; ")):
        source = _source(part)
        if source.year:
            found.append(replace(source, note=source.note or remark))
        remark = part if not source.year and " " in part else ""
    return tuple(found) or ((Source(note=citation),) if citation else ())


def _source(text: str) -> Source:
    eprint, doi = EPRINT.search(text), DOI.search(text)
    rest = DOI.sub("", EPRINT.sub("", PREFIX.sub("", text.strip().rstrip("."))))
    years = list(YEAR.finditer(rest))
    if not years:
        return Source(note=text)
    before, after = rest[: years[-1].start()].rstrip(" ,."), rest[years[-1].end() :].strip(" ,.")
    authors, title = _authors(before)
    end = TITLE_ENDS.search(title)
    if end:
        title, venue = title[: end.start()] + end.group().strip(" ,."), title[end.end() :]
    else:
        venue = ""
    return Source(authors, title, venue, years[-1].group(), eprint[1] if eprint else "", doi[1] if doi else "", after)


def _authors(text: str) -> tuple[tuple[str, ...], str]:
    """Surnames before the first colon, and the rest. A name is a word or three that begin with a capital letter."""
    head, colon, rest = text.partition(": ")
    if not colon:
        return (), text
    names = [name.strip() for name in head.removesuffix("et al.").split(",") if name.strip()]
    if not all(_is_name(name) for name in names) or (len(names) == 1 and sum(c.isupper() for c in head) > 2):
        return (), text
    return (*names, *(["others"] if head.endswith("et al.") else [])), rest


def _is_name(name: str) -> bool:
    words = name.split()
    return words[-1][0].isupper() and len(words) <= 4 and not re.search(r"[\d(){}]", name)


def _ascii(text: str) -> str:
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
