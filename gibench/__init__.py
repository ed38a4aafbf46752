"""gibench: which defense keeps images out of the gradients that federated learning shares, and what does it cost?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Attack", "Defense", "__version__", "load_suite", "read_results", "run"]

if TYPE_CHECKING:
    from gibench.attacks import Attack
    from gibench.defenses import Defense
    from gibench.runner import run
    from gibench.store import read_results
    from gibench.suite import load_suite

_HOME = {
    "Attack": "gibench.attacks",
    "Defense": "gibench.defenses",
    "load_suite": "gibench.suite",
    "read_results": "gibench.store",
    "run": "gibench.runner",
}


def __getattr__(name: str) -> Any:
    """Public names load on first use, so that `import gibench` and `gibench --help` need no torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'gibench' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
