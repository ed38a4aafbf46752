"""Where suites lie, and their expectations beside them; no torch, so that `check` needs none."""

from __future__ import annotations

from pathlib import Path

from gibench.errors import InputError, suggest

EXPECTED = ".expected"


def suite_files() -> dict[str, Path]:
    """The suites that ship with gibench, by name."""
    package = Path(__file__).parent
    folder = next((p for p in (package / "suites", package.parent / "suites") if p.is_dir()), package)
    return {p.stem: p for p in sorted(folder.glob("*.toml")) if not p.stem.endswith(EXPECTED)}


def find_suite(name: str) -> Path:
    """The file of a suite that is given by its name or by a path. InputError if there is none."""
    known = suite_files()
    if name in known:
        return known[name]
    if name.endswith(".toml") or "/" in name:
        if Path(name).is_file():
            return Path(name)
        raise InputError(f"there is no suite file {name}; give the path of a TOML file or one of: {', '.join(known)}")
    raise suggest("suite", name, list(known))


def expectations_beside(suite: Path) -> Path:
    """`mine.toml` -> `mine.expected.toml`, whether or not it is there."""
    return suite.with_name(f"{suite.stem}{EXPECTED}.toml")
