"""The page in a real browser, from disk: filters, order, cells, themes, keyboard; no errors, nothing loaded."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic_results as made
from invented_matches import DP, LEVELS, PRUNE, match, two_targets
from invented_matches import results as matched_results
from results_folder import Folder, images

from gibench.listing import known
from gibench.report import as_html

playwright = pytest.importorskip("playwright.sync_api", reason="no playwright here; pip install 'gibench[browser]'")
pytestmark = pytest.mark.slow
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium() -> Iterator:
    """A headless Chromium, the system's or the one that playwright brings."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as tools:
        try:
            browser = tools.chromium.launch(executable_path=path, args=sandbox)
        except playwright.Error as error:
            pytest.skip(f"no browser here: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    origin = {"commit": "abc123", "cpu": "some cpu", "versions": {"torch": "2.14"}, "python": "3.11"}
    folder = Folder(origin, images(made.cells()))
    file = tmp_path_factory.mktemp("page") / "report.html"
    file.write_text(as_html(two_targets(), folder, known()), encoding="utf-8")
    return file.as_uri()


class Reader:
    """A page and everything that it complained about or asked for."""

    def __init__(self, page, address: str, hash: str = "") -> None:
        self.page, self.complaints, self.asked = page, [], []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(address + hash)

    def names(self) -> list[str]:
        rows = self.page.locator(".board tbody tr:visible")
        return [row.get_attribute("data-defense") for row in rows.all()]

    def hash(self) -> str:
        return str(self.page.evaluate("location.hash"))


@pytest.fixture
def opened(chromium, address: str) -> Iterator:
    """Opens the page, with a hash if wanted, and insists that nothing went wrong."""
    readers = []

    def open_(hash: str = "", **settings) -> Reader:
        readers.append(Reader(chromium.new_context(**settings).new_page(), address, hash))
        return readers[-1]

    yield open_
    for reader in readers:
        assert reader.complaints == []
        assert [url for url in reader.asked if not url.startswith(("file:", "data:"))] == []
        reader.page.context.close()


def test_it_loads_from_disk_and_shows_every_defense(opened) -> None:
    reader = opened()
    assert reader.names() == ["prior only", "none", DP, PRUNE]
    assert reader.page.locator("#count").inner_text() == "3 defenses shown"
    assert reader.page.locator(".plot svg a").count() == 3
    assert reader.page.locator(".plot .front").count() == 1
    assert reader.page.locator(".plot .alone").count() == 1, "what auxiliary images alone are worth"
    assert reader.page.locator(".plot path.dot").count() == 2, "matched defenses are diamonds"


def test_filters_keep_the_undefended_and_are_in_the_address(opened) -> None:
    reader = opened()
    reader.page.get_by_label("family").select_option("prune")
    assert reader.names() == ["prior only", "none", PRUNE]
    assert reader.hash() == "#family=prune"
    reader.page.get_by_role("button", name="Reset").click()
    assert reader.names() == ["prior only", "none", DP, PRUNE]
    reader.page.get_by_label("target").select_option("drop 0.01")
    assert reader.names() == ["prior only", "none", DP]
    lines = reader.page.locator(".families tr[data-defense]:visible")
    assert [line.get_attribute("data-defense") for line in lines.all()] == ["none", "none", DP, "prune"]
    assert "unreachable (best 0.81)" in lines.last.inner_text()
    reader.page.get_by_label("find a defense").fill("nothing like it")
    assert reader.page.get_by_text("Nothing is left by these filters.").is_visible()
    again = opened(reader.hash())
    assert again.page.locator("#count").inner_text() == "0 defenses shown"


def test_columns_sort_up_and_down_below_the_floor(opened) -> None:
    reader = opened()
    head = reader.page.locator('.board th[data-column="gain"]')
    for direction, names in (
        ("ascending", [DP, PRUNE, "none"]),
        ("descending", ["none", PRUNE, DP]),
        ("none", ["none", DP, PRUNE]),
    ):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == direction
        assert reader.names() == ["prior only", *names]
    head.get_by_role("button").focus()
    reader.page.keyboard.press("Enter")
    assert reader.hash() == "#sort=gain.up"
    assert opened("#sort=worst.down").names() == ["prior only", "none", PRUNE, DP]


def test_a_number_opens_its_cell_with_the_command(opened) -> None:
    reader = opened()
    number = reader.page.locator(f"tr[data-defense='{DP}'] td[data-column='worst'] button")
    number.focus()
    reader.page.keyboard.press("Enter")
    dialog = reader.page.get_by_role("dialog")
    assert f"adaptive_matching on {DP}" in dialog.inner_text()
    for part in ("gibench run suite=quick", "abc123", "some cpu", "18.0 dB, mean of 10 images", "2.00"):
        assert part in dialog.inner_text()
    assert dialog.locator("img").count() == 12
    cell = reader.hash()
    dialog.get_by_role("button", name="inverting_gradients").first.click()
    assert "inverting_gradients on" in dialog.inner_text()
    reader.page.keyboard.press("Escape")
    assert not dialog.is_visible()
    reader.page.wait_for_function("location.hash === ''")
    assert number.evaluate("element => element === document.activeElement"), "focus comes back"
    assert "adaptive_matching on" in opened(cell).page.get_by_role("dialog").inner_text()
    blind = reader.page.locator(f"tr[data-defense='{DP}'] td[data-column='oblivious'] button")
    blind.click()
    assert "adaptive_matching on" not in dialog.inner_text().splitlines()[0]


def test_a_point_and_a_matched_number_open_cells_too(opened) -> None:
    reader = opened()
    reader.page.locator(".plot a").first.focus()
    reader.page.keyboard.press("Enter")
    assert reader.page.get_by_role("dialog").is_visible()
    reader.page.keyboard.press("Escape")
    title = reader.page.locator("#cell-title")
    for place, opened_cell in (
        (("none", 0, "worst"), "prior_only on none, init"),
        (("none", 1, "worst"), "inverting_gradients on none, init"),
        ((DP, 0, "worst"), f"adaptive_matching on {DP}, init"),
        ((DP, 1, "worst"), f"adaptive_matching on {DP}, init"),
        ((DP, 0, "oblivious"), f"prior_only on {DP}, init"),
        ((PRUNE, 0, "oblivious"), f"inverting_gradients on {PRUNE}, init"),
    ):
        spec, which, attack = place
        line = reader.page.locator(f".families tr[data-defense='{spec}']").nth(which)
        line.get_by_role("button").nth(2 if attack == "oblivious" else 3).click()
        assert opened_cell in title.inner_text()
        reader.page.keyboard.press("Escape")


def test_matched_utility_comes_first_and_follows_the_filters(chromium, tmp_path: Path) -> None:
    matches = [match(family) for family in LEVELS] + [match("latent_perturb", "reach 0.9"), match("clip", "reach 0.9")]
    elsewhere = [match("dpsgd", "retain 0.95", dataset="elsewhere")]
    file = tmp_path / "matched.html"
    file.write_text(as_html(matched_results(matches=matches + elsewhere)), encoding="utf-8")
    reader = Reader(chromium.new_page(), file.as_uri())
    headline, tables = reader.page.locator("#matched"), reader.page.locator("main > section[data-table]")
    assert headline.bounding_box()["y"] < tables.first.bounding_box()["y"]
    assert headline.locator(".setting:visible").count() == 2
    assert headline.locator(".duels tbody tr:visible").count() == 1 + 4, "no rival is asked for at the other target"
    reader.page.get_by_label("target").select_option("reach 0.9")
    assert headline.locator(".setting:visible").count() == 1
    assert headline.locator(".duels tbody tr:visible").count() == 0
    assert headline.locator(".families tr[data-defense]:visible").count() == 4
    reader.page.get_by_label("family").select_option("clip")
    assert headline.locator(".families tr[data-defense]:visible").count() == 3
    assert headline.locator(".families tr[data-defense]:visible td:last-child").all_inner_texts() == ["-", "-", "2"]
    reader.page.get_by_role("button", name="Reset").click()
    assert headline.locator(".families tr[data-defense]:visible").count() == 6 + 4 + 3
    assert reader.complaints == []
    reader.page.close()


def test_every_attack_and_pictures_on_request(opened) -> None:
    reader = opened()
    reader.page.get_by_text("Every attack and checkpoint").click()
    reader.page.locator(".attacks tbody tr").first.wait_for()
    assert reader.page.locator(".attacks tbody tr").count() == 3 * 2 * 5
    reader.page.locator(".attacks tbody button").first.click()
    assert "prior_only on none, init" in reader.page.get_by_role("dialog").inner_text()
    reader.page.keyboard.press("Escape")
    reader.page.get_by_text("Pictures: what an attacker gets").click()
    reader.page.locator(".pictures img").first.wait_for()
    assert reader.page.locator(".pictures img").count() == 9 + 12 + 12
    assert reader.page.locator(".pictures img").first.evaluate("image => image.naturalWidth") == 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_follows_the_system_until_told_otherwise(opened, scheme: str) -> None:
    reader = opened(color_scheme=scheme)

    def brightness() -> int:
        colour = reader.page.evaluate("getComputedStyle(document.body).backgroundColor")
        return int(colour.removeprefix("rgb(").split(",")[0])

    assert (brightness() > 128) == (scheme == "light")
    button = reader.page.locator("#theme")
    button.click()
    assert button.inner_text() == "Theme: light"
    assert brightness() > 128
    button.click()
    assert brightness() < 128
    assert reader.hash() == "#theme=dark"


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_itself_never_scrolls_sideways(opened, width: int) -> None:
    reader = opened(viewport={"width": width, "height": 800})
    assert reader.page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_scripts_the_tables_are_there(opened) -> None:
    reader = opened(java_script_enabled=False)
    assert reader.page.locator(".board tbody tr").count() == 4
    assert "+3.0" in reader.page.locator("main").inner_text()


def test_hundreds_of_rows_open_quickly(chromium, tmp_path: Path) -> None:
    datasets = [f"set{k}" for k in range(60)]
    planned = made.cells(datasets=datasets)
    file = tmp_path / "large.html"
    file.write_text(as_html(made.results(planned, made.rows(planned, victims=2))), encoding="utf-8")
    page = chromium.new_page()
    page.goto(file.as_uri())
    taken = page.evaluate("performance.now()")
    assert page.locator(".board tbody tr").count() == 240
    assert taken < 5000
    took = page.evaluate(
        "(() => { const start = performance.now(); sortBy('gain'); filter(); return performance.now() - start; })()"
    )
    assert took < 1500
    page.close()
