"""The page without a browser: nothing foreign is markup, nothing is loaded, numbers open cells that exist."""

import base64
import json
import re
import shlex
import zlib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import synthetic_results as made
from invented_matches import DP, PRUNE, match, two_targets, unreachable
from results_folder import Folder, images

from gibench.arguments import suite_of
from gibench.grid import cells
from gibench.listing import known
from gibench.report import as_html
from gibench.report.html.command import command
from gibench.report.html.embedded import embedded
from gibench.report.html.png import png
from gibench.store import Store

RESULTS = Path(__file__).parents[2] / "results"
NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \"'&<!-- \u2028 {{ 7*7 }}"


class Elements(HTMLParser):
    """Every element with its attributes, and the text of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script":
            self.scripts.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def data(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_foreign_texts_are_never_markup() -> None:
    planned = [cell | {"dataset": NASTY, "checkpoint": NASTY} for cell in made.cells()]
    planned[4].update(status="skipped", reason=NASTY)
    frame = made.rows(planned)
    folder = Folder({"commit": NASTY, "cpu": NASTY, "cell": {"attack": {"name": NASTY}}}, {})
    results = made.results(planned, frame[frame.cell != planned[4]["cell"]], commit=NASTY, damaged=[NASTY])
    matches = [match(family, NASTY, dataset=NASTY, knob=NASTY, measure=NASTY) for family in ("dpsgd", "prune")]
    matches += [unreachable("latent_perturb", NASTY) | {"dataset": NASTY, "reason": NASTY}]
    matches += [match("dpsgd", NASTY + "2", dataset=NASTY) | {"family": "latent_perturb(" + NASTY}]
    matches += [matches[1] | {"target": NASTY + "2"}]
    results = replace(results, grid=results.grid | {"matches": matches})
    page = as_html(results, folder, {"defenses": {"none": {"place": NASTY, "summary": NASTY}}})
    plain = Elements(as_html(made.results(made.cells())))
    found = Elements(page)
    for place in ("matched", "duels", "families"):
        assert any(place in (a.get("id"), a.get("class")) for _, a in found.found), "what is tested is there"
    assert len(found.of("script")) == len(plain.of("script")) == 2
    assert not found.of("img")
    assert not any("onerror" in attributes for _, attributes in found.found)
    assert "{{ 7*7 }}" in page
    assert any("alert(1)" in text for text in data(page)["pool"] if isinstance(text, str))


def test_embedded_data_survives_every_text() -> None:
    value = {"a": [NASTY, "<!--", "]]>", "é中\u2029"]}
    text = str(embedded(value))
    assert not re.search("[<>&\u2028\u2029]", text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="JSON"):
        embedded({"a": float("nan")})


def test_nothing_is_loaded_from_anywhere() -> None:
    page = as_html(two_targets(), Folder({}, images(made.cells())))
    found = Elements(page)
    assert not found.of("link")
    assert not [a for _, a in found.found if a.get("src") or (a.get("href") or "#")[0] != "#"]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|url\(|@import|fetch\(|XMLHttp", page)
    policy = next(a["content"] for a in found.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_equal_results_give_equal_pages() -> None:
    folder = Folder({}, images(made.cells()))
    assert as_html(two_targets(), folder) == as_html(two_targets(), folder)


def test_tables_say_what_they_are_to_a_screen_reader() -> None:
    found = Elements(as_html(two_targets()))
    assert {attributes.get("scope") for attributes in found.of("th")} == {"col", "row", "rowgroup"}
    assert all(attributes.get("type") for attributes in found.of("button"))
    assert found.of("html")[0]["lang"] == "en"
    assert [a["name"] for a in found.of("select")] == ["family", "target"]
    ids = [a["id"] for _, a in found.found if a.get("id")]
    assert len(ids) == len(set(ids))
    assert all(a["aria-labelledby"] in ids for _, a in found.found if a.get("aria-labelledby"))


def test_filters_know_families_places_and_targets() -> None:
    results = two_targets()
    page = Elements(as_html(results, None, known()))
    rows = {a["data-defense"]: a for a in page.of("tr") if a.get("data-defense")}
    assert rows[DP]["data-family"] == "dpsgd"
    assert rows[DP]["data-place"] == "gradient"
    assert rows[DP]["data-targets"] == "drop 0.05|drop 0.01"
    assert rows["none"]["data-targets"] == ""
    assert "place" not in [a["name"] for a in page.of("select")] or len(rows) > 2


def test_matched_lines_know_where_their_cells_are() -> None:
    page = Elements(as_html(two_targets(), None, known()))
    lines = [a for a in page.of("tr") if "data-defense" in a and "data-targets" not in a]
    assert [(a["data-defense"], a["data-checkpoint"], a["data-leak"]) for a in lines] == [
        ("none", "init", "floor"),
        ("none", "init", ""),
        (DP, "init", ""),
        (PRUNE, "init", ""),
        ("none", "init", "floor"),
        ("none", "init", ""),
        (DP, "init", ""),
        ("prune", "-", ""),
    ]
    assert [a["data-family"] for a in lines[:3]] == ["", "none", "dpsgd"]
    assert lines[2]["data-place"] == "gradient"
    assert [a["data-target"] for a in page.of("tbody") if "data-target" in a] == ["drop 0.05", "drop 0.01"]


def test_matches_in_no_attacked_setting_open_nothing() -> None:
    results = two_targets()
    elsewhere = match("dpsgd", dataset="elsewhere")
    text = as_html(replace(results, grid=results.grid | {"matches": [elsewhere]}))
    (setting,) = [a for a in Elements(text).of("div") if a.get("class") == "setting"]
    assert (setting["data-table"], setting["data-dataset"]) == ("-1", "elsewhere")
    block = text[text.index('<section id="matched"') : text.index('<h2 class="part"')]
    assert "<button" not in block


def test_every_cell_says_what_it_was_and_where_it_comes_from() -> None:
    origin = {"commit": "abc123", "cpu": "some cpu", "gpu": None, "versions": {"torch": "2.14"}, "python": "3.11"}
    origin["cell"] = {"attack": {"name": "lti", "epochs": 7}, "victims": 10, "client": {"defense": {"sigma": 0.1}}}
    found = data(as_html(made.results(made.cells()), Folder(origin, {})))
    assert {cell["id"] for cell in found["cells"]} == {cell["cell"] for cell in made.cells()}
    cell, pool = found["cells"][0], found["pool"]
    assert dict(pool[p] for p in cell["o"]) == {
        "commit": "abc123",
        "machine": "some cpu",
        "versions": "torch 2.14",
        "python": "3.11",
        "seconds": "2.00",
        "memory": "500 MiB at most",
    }
    settings = dict(pool[p] for p in cell["s"])
    assert settings["attack settings"] == "name = lti, epochs = 7"
    assert (settings["seed"], settings["checkpoint"]) == ("0", "init")
    assert pool[cell["r"]] == "15.0 dB, mean of 10 images"
    assert {cell["t"] for cell in found["cells"]} == {0}


def test_cells_of_another_run_and_damaged_origins_do_no_harm() -> None:
    class Broken(Folder):
        def provenance(self, kind: str, name: str) -> dict:
            raise FileNotFoundError(name)

    planned = made.cells()
    results = made.results(planned[:6], made.rows(planned))
    found = data(as_html(results, Broken({}, {})))
    assert len(found["cells"]) == 6
    assert [found["pool"][p][0] for p in found["cells"][0]["o"]] == ["seconds", "memory"]


@pytest.mark.parametrize("overrides", [[], ["victims=5", "training.epochs=2", "training.alpha=0.5", "seeds=[0, 3]"]])
def test_the_command_selects_exactly_the_cell(overrides: list[str]) -> None:
    suite, _ = suite_of(["suite=smoke", *overrides])
    described = suite.model_dump()
    planned = [cell for cell in cells(suite) if not cell.skip]
    for cell in planned[:: max(1, len(planned) // 12)]:
        words = command(cell.describe(), json.loads(json.dumps(identity(cell), default=str)), described)
        again = shlex.split(" ".join(words))
        assert again[:2] == ["gibench", "run"]
        selected, options = suite_of(again[2:])
        assert cell.id in {one.id for one in cells(selected)}
        assert options == {"out": f"runs/cell-{cell.id}"}
        assert len(cells(selected)) <= 4


def identity(cell) -> dict:
    """What a cell's file says of it."""
    return cell.identity() | {"client": cell.client.identity()}


@pytest.mark.parametrize("folder", [path.parent for path in RESULTS.glob("*/grid.json")], ids=lambda path: path.name)
def test_committed_results_can_be_made_again_by_their_commands(folder: Path) -> None:
    store = Store(folder)
    results = store.read()
    for place in (0, len(results.rows) // 2, -1):
        row = results.rows.iloc[place].to_dict()
        words = command(row, store.provenance("cells", row["cell"])["cell"], results.grid["suite"])
        selected, _ = suite_of(shlex.split(" ".join(words))[2:])
        assert row["cell"] in {cell.id for cell in cells(selected)}


def test_victims_are_chosen_by_rule() -> None:
    planned = made.cells()
    found = data(as_html(made.results(planned), Folder({}, images(planned))))
    shown = found["pictures"]["shown"][f"0|{DP}"]
    # PSNR rises with the victim's number modulo 5: of ten victims 4 and 9 leak most, 0 and 5 least
    assert [(victim["rule"], victim["index"]) for victim in shown] == [
        ("leaks most", 4),
        ("median", 2),
        ("leaks least", 5),
    ]
    assert [victim["psnr"] for victim in shown] == ["20.0", "18.0", "16.0"]
    kinds = [kind for kind, _ in shown[0]["images"]]
    assert kinds == ["truth", "transmitted", "undefended", "defended"]
    firsts = [first_pixel(found["pictures"]["images"][place]) for _, place in shown[0]["images"]]
    assert firsts == [4, 54, 104, 104]
    assert [kind for kind, _ in found["pictures"]["shown"]["0|none"][0]["images"]] == kinds[:3]


def first_pixel(uri: str) -> int:
    content = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    start = content.index(b"IDAT") + 4
    return zlib.decompressobj().decompress(content[start:])[1]


def test_many_pictures_stop_at_a_limit_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gibench.report.html.pictures.MOST_BYTES", 1000)
    planned = made.cells()
    found = data(as_html(made.results(planned), Folder({}, images(planned))))["pictures"]
    assert found["left"] == 2
    assert len(found["shown"]) == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_pixels(channels: int) -> None:
    import io

    import matplotlib.image

    image = np.random.default_rng(0).integers(0, 256, (channels, 5, 7)).astype(np.uint8)
    read = (matplotlib.image.imread(io.BytesIO(png(image))) * 255).round().astype(np.uint8)
    assert np.array_equal(read if channels == 3 else read[None], image.transpose(1, 2, 0) if channels == 3 else image)


def test_old_grids_without_matches_and_suites_show_a_page() -> None:
    results = replace(made.results(made.cells()), grid={"protocol": 1, "cells": []})
    assert "<h2" in as_html(results)
