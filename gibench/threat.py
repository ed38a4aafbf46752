"""Threat models: which capabilities an identifier such as `D+kp` grants the attacker.

Letters follow Carletti et al. (SoK, USENIX Security 2025). A to E are honest but curious, each granting what the one
before it does and more; F to H choose the model that they send.
Flags: l labels, k the defense's mechanism and settings, p its learned public parameters, m several rounds.
"""

from __future__ import annotations

from gibench.errors import InputError

_C = frozenset({"batch_size", "local_hparams"})
LETTERS = {
    "A": frozenset[str](),
    "B": frozenset({"batch_size"}),
    "C": _C,
    "D": _C | {"aux_data"},
    "E": _C | {"aux_data", "bn_stats"},
    "F": _C | {"active_server"},
    "G": _C | {"active_server", "aux_data"},
    "H": _C | {"active_server", "aux_data", "chosen_cohort", "many_rounds"},
}
FLAGS = {"l": "labels", "k": "defense_spec", "p": "defense_params", "m": "many_rounds"}


def capabilities(threat: str) -> frozenset[str]:
    """What `threat` grants; InputError for anything that is not LETTER or LETTER+FLAGS."""
    letter, plus, flags = threat.partition("+")
    if letter not in LETTERS or (plus and not flags) or set(flags) - set(FLAGS) or len(set(flags)) < len(flags):
        raise InputError(
            f"unknown threat model '{threat}'; write one of {', '.join(LETTERS)}, and after a + any of the flags "
            f"{', '.join(f'{flag} ({name})' for flag, name in FLAGS.items())}, such as D+kp"
        )
    return LETTERS[letter] | {FLAGS[flag] for flag in flags}


def missing(needs: frozenset[str], threat: str) -> str:
    """Why an attack with these needs cannot run under `threat`; empty if it can."""
    lacking = sorted(needs - capabilities(threat))
    return f"needs {', '.join(lacking)}, which threat model {threat} does not grant" if lacking else ""
