"""The story of a cell: a trained client sends a message, an attack that sees what the threat model grants answers,
and what comes back is scored. The file to read first."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from gibench.bn import has_batch_norm, statistics_of
from gibench.client import Trained, load_parts, restore, train
from gibench.datasets import Dataset, Parts
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.flags import flags
from gibench.grid import Cell, Client
from gibench.judge import gallery_of, judge_net, judged_right, train_judge
from gibench.machine import peak_mib, provenance
from gibench.message import rounds_seen, transmitted
from gibench.scoring import score
from gibench.store import Store
from gibench.threat import capabilities
from gibench.tuning import settle, tune
from gibench.types import Batch, Images, View
from gibench.utility import memory_of


def run_cell(cell: Cell, store: Store, device: str) -> None:
    """Attack one client and store a row per victim image. Its client and judge must be in the store."""
    clock = time.perf_counter()
    parts = parts_of(cell.client.dataset, cell.client.client_images, cell.client.aux_images, device)
    chosen = _tuned(cell, parts, store, device)
    victims, index = victims_of(parts.test, cell.victims, cell.images, cell.first_victim)
    view, sent = observe(cell, cell.client, parts, victims, store, device)
    attack_draws = Draws((cell.id, "attack"), range(cell.victims))
    guess = settle(cell.attack, chosen).answer(view, attack_draws)
    judge = load_judge(cell.client, parts, store)
    tuned = json.dumps(chosen) if chosen else ""
    rows, x = score(victims, sent, guess, index, judge, gallery_of(parts.test), tuned)
    if guess.members:
        warned = "; ".join(flags(view, sent, guess, _by_member(rows), attack_draws.at("flags")))
        rows = [row | {"flags": warned} for row in rows]
    names = {"victims": victims.x, "transmitted": sent.x, "reconstructions": x}
    store.write_tensors(f"images/{cell.id}", {name: (t * 255).round().byte() for name, t in names.items()})
    cost = {"seconds": time.perf_counter() - clock, "peak_mib": peak_mib(device)}
    origin = provenance(device) | {
        "cell": cell.identity() | {"client": cell.client.identity()},
        "tuned": chosen,
        "seconds": cost["seconds"],
    }
    store.write_rows("cells", cell.id, [{**cell.describe(), **row, **cost} for row in rows], origin)


def run_client(client: Client, store: Store, device: str, judged: bool = False) -> None:
    """Train one client, keep its checkpoints and its row; of one that is only judged the row alone."""
    parts = parts_of(client.dataset, client.client_images, client.aux_images, device)
    trained, row = train(client, parts, judged)
    if not judged:
        place = f"cache/clients/{client.id}"
        for checkpoint, weights in trained.checkpoints.items():
            store.write_tensors(f"{place}/{checkpoint}", weights)
            store.write_tensors(f"{place}/{checkpoint}-memory", trained.memories[checkpoint])
        store.write_tensors(f"{place}/defense", trained.defense.state)
        store.write_tensors(f"{place}/studied", trained.studied)
    judge = load_judge(client, parts, store)
    row["judge_accuracy"] = float(judged_right(judge, parts.test.x, parts.test.y).mean())
    row["peak_mib"] = peak_mib(device)
    store.write_rows("clients", client.id, [row], provenance(device) | {"client": client.identity()})


def victims_of(images: Images, v: int, b: int, first: int = 0) -> tuple[Batch, torch.Tensor]:
    """Images in their stored order as clients with b images each: v of them, from the one with number `first`, and
    their indices, (v, b)."""
    if (first + v) * b > len(images.y):
        raise ValueError(f"{first + v} victims of {b} images are more than the {len(images.y)} images of this part")
    index = torch.arange(first * b, (first + v) * b, device=images.y.device).view(v, b)
    return Batch(images.x[index], images.y[index]), index


def observe(
    cell: Cell, client: Client, parts: Parts, victims: Batch, store: Store, device: str, stage: str = "victims"
) -> tuple[View, Batch]:
    """What the server sees of `victims` under the cell's threat model, and the images that the model really saw.

    The message depends on the client, the checkpoint and the batch size, not on the attack: all attacks of a setting
    answer the same one. Only an active server's attack chooses the model that it is made with.
    """
    trained = load_trained(client, store, device)
    net = restore(client, trained, cell.checkpoint, device)
    local = client.local
    granted = capabilities(cell.threat)
    b, c, h, w = victims.x.shape[1:]
    if "active_server" in granted:
        aux = parts.aux if "aux_data" in granted else None
        net = cell.attack.plant(net, (b, c, h, w), aux, Draws((client.id, cell.checkpoint, cell.batch, "plant")))
    first, cohort = cell.first_victim if stage == "victims" else 0, trained.defense.cohort or 1
    last = first + len(victims.y)
    draws = Draws((client.id, cell.checkpoint, cell.batch, "defense", stage), range(first, last))
    memory = memory_of(trained.memories[cell.checkpoint], range(first * cohort, last * cohort))
    messages = rounds_seen(net, trained.defense, victims, draws, cell.rounds, local, memory, client.cut)
    sent = transmitted(trained.defense, victims, draws.at(0), local)
    known = trained.defense if "defense_params" in granted else client.defense
    view = View(
        model=net,
        update=messages[0],
        kind=client.kind,
        shape=(b, c, h, w),
        classes=client.dataset.classes,
        labels=victims.y if "labels" in granted else None,
        aux=parts.aux if "aux_data" in granted or cell.attack.control else None,
        defense=known if "defense_spec" in granted else None,
        studied=trained.studied if "defense_params" in granted else {},
        local=local if "local_hparams" in granted else None,
        rounds=tuple(messages[1:]) if "many_rounds" in granted else (),
        bn=_statistics(net, sent.x) if "bn_stats" in granted and has_batch_norm(net) else None,
        clients=trained.defense.cohort or 1,
        cut=client.cut,
        planted="active_server" in granted,
    )
    return view, sent


@torch.no_grad()
def _statistics(net: nn.Module, x: torch.Tensor) -> Mapping[str, tuple[torch.Tensor, torch.Tensor]]:
    """What a client gives away that returns its updated buffers: the exact statistics of its batch."""
    return statistics_of(net, x)


def load_trained(client: Client, store: Store, device: str) -> Trained:
    """The artefacts that `run_client` left."""
    place = f"cache/clients/{client.id}"

    def read(name: str) -> Mapping[str, torch.Tensor]:
        tensors = store.read_tensors(f"{place}/{name}")
        if tensors is None:
            raise FileNotFoundError(f"client {client.id} has not been trained: {store.out}/{place}/{name} is missing")
        return {key: tensor.to(device) for key, tensor in tensors.items()}

    defense: Defense = replace(client.defense, state=read("defense"))
    names = ("init", "early", "final")
    memories = {name: dict(read(f"{name}-memory")) for name in names}
    return Trained({name: read(name) for name in names}, memories, defense, read("studied"))


def load_judge(client: Client, parts: Parts, store: Store) -> nn.Module:
    """The judge of this client's dataset, trained on first use."""
    caps = f"{client.client_images}-{client.aux_images}"
    place = f"cache/judges/{client.dataset.spec()}-{client.dataset.checksum[-8:]}-{caps}".replace('"', "")
    draws = Draws(("judge", client.dataset.spec()))
    weights = store.read_tensors(place)
    if weights is None:
        net = train_judge(parts, client.dataset.classes, draws)
        store.write_tensors(place, net.state_dict())
        return net
    net = judge_net(parts, client.dataset.classes, draws)
    net.load_state_dict(weights)
    return net.to(parts.aux.x).eval()


def _by_member(rows: list[dict[str, Any]]) -> dict[str, list[float | None]]:
    """PSNR of every image by member of an ensemble, and under "" that of the candidate handed over."""
    members = [json.loads(row["members"]) for row in rows]
    return {"": [row["psnr"] for row in rows]} | {name: [m[name] for m in members] for name in members[0]}


def _tuned(cell: Cell, parts: Parts, store: Store, device: str) -> dict[str, object]:
    """The frozen choice of the attack's open fields, made once per setting and kept."""
    if not cell.attack.open_fields():
        return {}
    client = cell.rehearsal
    count = min(cell.tune_images, len(parts.tune.y) // cell.images)
    setting = (
        cell.checkpoint,
        cell.images,
        cell.threat,
        cell.rounds,
        count,
        json.dumps(cell.attack.identity(), default=str),
    )
    draws = Draws((client.id, "tune", *setting), range(count))
    place = f"cache/tuned/{draws.seed():016x}.json"
    if (kept := store.read_json(place)) is not None:
        return kept
    batch, _ = victims_of(parts.tune, count, cell.images)
    chosen = tune(cell.attack, batch, lambda held: observe(cell, client, parts, held, store, device, "tune")[0], draws)
    store.write_json(place, chosen)
    return chosen


@lru_cache(maxsize=2)
def parts_of(dataset: Dataset, client_images: int | None, aux_images: int | None, device: str) -> Parts:
    """The parts of a suite's dataset on the device; the last two are kept."""
    return load_parts(dataset, client_images, aux_images, device)
