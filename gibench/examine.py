"""The story of an examination: a trained client is brought back, an audit looks at it, and its numbers are stored."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

from gibench.audits import Subject
from gibench.cell import load_trained, parts_of
from gibench.client import build_net, restore, split_clients
from gibench.draws import Draws
from gibench.examinations import Examination
from gibench.grid import Client
from gibench.machine import peak_mib, provenance
from gibench.store import Store
from gibench.utility import logits_of


def run_examination(examination: Examination, store: Store, device: str) -> None:
    """Examine one client and store a row per measure. The client must be in the store."""
    clock = time.perf_counter()
    draws = Draws((examination.id, "audit"))
    measures = examination.audit.examine(subject_of(examination.client, store, device, draws.at("inference")), draws)
    if wrong := [m for m in measures if not math.isfinite(m.value)]:
        raise FloatingPointError(f"'{wrong[0].name}' of '{wrong[0].group}' is not finite")
    if not measures:
        raise ValueError("the audit measured nothing")
    cost = {"seconds": time.perf_counter() - clock, "peak_mib": peak_mib(device)}
    rows = [{**examination.describe(), **vars(measure), **cost, "status": "ok"} for measure in measures]
    whole = examination.identity() | {"client": examination.client.identity()}
    store.write_rows("audits", examination.id, rows, provenance(device) | {"examination": whole})


def subject_of(client: Client, store: Store, device: str, draws: Draws) -> Subject:
    """What the training of `client` left in the store; `draws`: of its inference."""
    parts = parts_of(client.dataset, client.client_images, client.aux_images, device)
    trained = load_trained(client, store, device)
    nets = {name: restore(client, trained, name, device) for name in trained.checkpoints}
    (row,) = store.rows_of("clients", client.id).to_dict("records")
    return Subject(
        defense=trained.defense,
        training=client.training,
        local=client.local,
        parts=parts,
        shards=split_clients(parts.client.y, client.training, Draws(("split", client.seed))),
        nets=nets,
        memories=trained.memories,
        row={str(name): float(value) for name, value in row.items() if _is_number(value)},
        logits=lambda images: logits_of(nets["final"], trained.defense, images, draws, trained.memories["final"]),
        fresh=lambda seed: build_net(replace(client, seed=seed), trained.defense).to(device),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
