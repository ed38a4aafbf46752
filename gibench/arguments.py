"""What users write behind a command: `suite=NAME out=DIR key=value`, read into suites and stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gibench.errors import InputError

if TYPE_CHECKING:
    from gibench.store import Store
    from gibench.suite import Suite


def suite_of(settings: list[str]) -> tuple[Suite, dict[str, Any]]:
    """The suite with its overrides, and the options that are not part of it."""
    from gibench.suite import load_suite, parse_value

    given: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise InputError(f"'{setting}' is not a setting; write key=value, such as suite=quick or 'seeds=[0, 1]'")
        if key in given:
            raise InputError(f"'{key}' is given twice")
        given[key] = text if key in ("suite", "out", "device") else parse_value(text)
    if "suite" not in given:
        raise InputError("no suite is named; write suite=NAME (see `gibench list suites`)")
    options: dict[str, Any] = {key: given.pop(key) for key in ("out", "device", "workers") if key in given}
    if not isinstance(options.get("workers", 1), int):
        raise InputError(f"workers={options['workers']}: a whole number of at least 1 is needed")
    return load_suite(given.pop("suite"), given), options


def store_of(suite: str, options: dict[str, Any]) -> Store:
    from gibench.store import Store, default_out

    return Store(options.get("out") or default_out(suite))


def results_of(where: list[str] | None) -> Store:
    from gibench.store import located

    given = where_of(where)
    return located(given.get("suite"), given.get("out"))


def where_of(where: list[str] | None) -> dict[str, str]:
    """What `suite=NAME out=DIR` says; nothing else is a setting of a command that reads results."""
    given = dict(setting.partition("=")[::2] for setting in where or [])
    unknown = [key for key in given if key not in ("suite", "out")]
    if unknown:
        raise InputError(f"'{unknown[0]}' is not a setting here; write suite=NAME or out=DIR")
    return given


def named(suite: str, options: dict[str, Any]) -> str:
    return f"out={options['out']}" if "out" in options else f"suite={suite}"
