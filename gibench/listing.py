"""What there is, as plain data: the entries of a kind, or the suites."""

from __future__ import annotations

from typing import Any

from gibench import registry

KINDS = [*registry.KINDS, "suites"]


def listing(kind: str) -> list[dict[str, Any]]:
    """One object per name: `name`, `summary`, `citation`, `fields` (name, type, default), `needs`.

    `needs` are the threat model's capabilities an attack asks for (for a defense: those its adaptive attack asks for);
    for a dataset the file it reads, if any. A defense also has its `place`, `knob` and the knob's `sweep`.
    """
    return _suites() if kind == "suites" else [_entry(kind, name) for name in registry.names(kind)]


def known() -> dict[str, dict[str, dict[str, Any]]]:
    """Every entry of every kind, as `listing` has it, by kind and name."""
    return {kind: {entry["name"]: entry for entry in listing(kind)} for kind in registry.KINDS}


def _entry(kind: str, name: str) -> dict[str, Any]:
    cls = registry.entry_class(kind, name)
    return {
        "name": name,
        "summary": cls.summary(),
        "citation": cls.citation,
        "fields": registry.fields_of(kind, name),
        "needs": sorted(cls.needs),
        **({"licence": cls.licence} if hasattr(cls, "licence") else {}),
        **(_strength(kind, name) if kind == "defenses" else {}),
    }


def _strength(kind: str, name: str) -> dict[str, Any]:
    """Where a defense acts, what simulating it takes, which field sets its strength, from weakest to strongest."""
    entry: Any = registry.build(kind, name)
    return {"needs": sorted(entry.match_needs), "place": entry.place, "knob": entry.knob, "sweep": list(entry.sweep)}


def _suites() -> list[dict[str, Any]]:
    from gibench.suite import Suite, load_suite
    from gibench.suite_files import suite_files

    found = []
    for name in suite_files():
        suite = load_suite(name)
        fields = [
            {"name": field, "type": str(info.annotation), "default": value}
            for field, info in Suite.model_fields.items()
            if (value := suite.model_dump()[field]) is not None
        ]
        found.append(
            {"name": name, "summary": suite.summary, "citation": "", "fields": fields, "needs": suite.datasets}
        )
    return found
