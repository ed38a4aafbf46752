"""Files that appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

PART = ".part-"
"""How the name of a file begins that is not whole yet; a writer that was killed leaves it."""


def write(target: Path, writer: Callable[[Path], object]) -> None:
    """Let `writer` fill a file that becomes `target`: readers see the whole file or the one that was there before."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with _part(target.parent) as part:
        writer(part)
        os.chmod(part, 0o644)  # for colleagues, too: a temporary file is private, safetensors's own too
        os.replace(part, target)


@contextlib.contextmanager
def _part(folder: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=PART, dir=folder)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
