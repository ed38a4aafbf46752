"""Which files of a folder are no longer what was put there: their SHA-256 sums in checksums.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gibench import atomic

SUMS = "checksums.json"


def seal(out: Path, names: Iterable[str]) -> None:
    """Note the checksums of these files, and of no others."""
    _note(out, {name: _sum(out / name) for name in sorted(names)})


def reseal(out: Path, name: str) -> None:
    """Note the checksum of one file that was rightly written anew, where the folder is sealed."""
    if (out / SUMS).exists() and name in (sums := _sums(out)):
        _note(out, sums | {name: _sum(out / name)})


def tampered(out: Path, names: Iterable[str]) -> list[str]:
    """The paths of the files that differ from their checksums, are lost, or are of `names` and have no checksum."""
    sums = _sums(out)
    return [
        str(out / name)
        for name in sorted(sums.keys() | set(names))
        if not (out / name).is_file() or _sum(out / name) != sums.get(name)
    ]


def _sums(out: Path) -> dict[str, Any]:
    """None where the file is lost or no longer says anything: then nothing is as it was sealed."""
    try:
        found: Any = json.loads((out / SUMS).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _note(out: Path, sums: dict[str, Any]) -> None:
    atomic.write(out / SUMS, lambda path: path.write_text(json.dumps(sums, indent=1) + "\n"))
