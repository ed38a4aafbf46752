"""Which victims are shown, chosen by rule, and their images: the truth, what was sent, and what came back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gibench.report.gallery import Shown, gallery
from gibench.report.html.embedded import Pool
from gibench.report.html.png import data_uri
from gibench.report.tables import Report
from gibench.report.text import decimals

if TYPE_CHECKING:
    from gibench.report.html.payload import Source
    from gibench.store import Results

MOST_BYTES = 3_000_000
"""Of all pictures together, so that a large suite's page stays quick to open and to send."""


def pictures(results: Results, shown: Report, source: Source) -> dict[str, Any]:
    """`images`: data URIs, each once; `shown`: by table and defense its victims; `left`: defenses left out for size."""
    pool = Pool()
    found: dict[str, list[Any]] = {}
    size, left = 0, 0
    for place in gallery(results, shown, source.read_images):
        if size > MOST_BYTES:
            left += 1
            continue
        before = len(pool.items)
        found.setdefault(f"{place.table}|{place.defense}", []).extend(_victim(place, pool))
        size += sum(map(len, pool.items[before:]))
    return {"images": pool.items, "shown": found, "left": left}


def _victim(place: Shown, pool: Pool) -> list[dict[str, Any]]:
    return [
        {
            "rule": victim.rule,
            "psnr": decimals(victim.psnr, 1),
            "bare": decimals(victim.bare_psnr, 1),
            "index": victim.index,
            "attack": place.attack,
            "checkpoint": place.checkpoint,
            "images": [[name, pool.place(data_uri(image))] for name, image in victim.images.items()],
        }
        for victim in place.victims
    ]
