"""The page in a real browser: no error, no request, and a table that sorts, filters and turns its pages."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from run_folders import make_run
from test_smoothed_page import make_run as make_smoothed
from training_folders import make_training

from withstand.core.records import Alarm, Counts
from withstand.reporting.page import report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
COUNTS = Counts(proved=9000, refuted=600, unknown=300, invalid=100)
HOSTILE = '</script><script>window.hit=1</script><img src=x onerror="window.hit=1">'
SWITCHES = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1200,900",
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if not CHROMIUM or not DRIVER:
        pytest.skip("no chromium with chromedriver is installed here (Debian: chromium, chromium-driver)")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra `test`)")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def logged(browser: Any) -> tuple[list[str], list[str]]:
    """What the console said and which addresses were asked for, since the last question."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [entry["message"] for entry in browser.get_log("browser")], asked


@pytest.fixture(scope="module")
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    alarms = [Alarm(name="zero gradients", sentence="Most gradients are zero.")]
    file = report(make_run(tmp_path_factory.mktemp("browser") / "run", COUNTS, alarms=alarms))
    logged(browser)
    browser.get(file.as_uri())
    said, asked = logged(browser)
    assert said == []
    assert file.as_uri() in asked
    assert [address for address in asked if not address.startswith(("data:", file.as_uri()))] == []
    return browser


@pytest.fixture
def table(page: Any) -> "Table":
    page.refresh()
    return Table(page)


class Table:
    """The table of samples as its user sees it."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def one(self, selector: str) -> Any:
        return self.page.find_element("css selector", selector)

    def column(self, title: str) -> list[str]:
        script = """
            const heads = [...document.querySelectorAll("#table thead th")];
            const at = heads.findIndex((head) => head.textContent === arguments[0]);
            return [...document.querySelectorAll("#table tbody tr")].map((row) => row.cells[at].textContent);
        """
        return self.page.execute_script(script, title)

    def sort(self, title: str) -> Any:
        heads = self.page.find_elements("css selector", "#table thead button")
        button = next(head for head in heads if head.text.strip() == title)
        self.click(button)
        return button

    def click(self, element: Any) -> None:
        self.page.execute_script("arguments[0].click()", element)

    @property
    def shown(self) -> str:
        return self.one("#shown").text


def test_the_first_page_of_ten_thousand(table: Table) -> None:
    assert table.column("sample") == [str(i) for i in range(25)]
    assert table.shown == "1 to 25 of 10,000 samples"
    assert not table.one("#previous").is_enabled()


def test_columns_sort_both_ways_with_empty_cells_last(table: Table) -> None:
    button = table.sort("lowest margin seen")
    first = [float(value) for value in table.column("lowest margin seen")]
    assert first == sorted(first)
    assert first[0] == -0.25
    head = table.page.execute_script("return arguments[0].parentElement", button)
    assert head.get_attribute("aria-sort") == "ascending"
    table.sort("lowest margin seen")
    assert head.get_attribute("aria-sort") == "descending"
    assert float(table.column("lowest margin seen")[0]) > 2
    table.sort("distance")
    assert set(table.column("distance")) == {"0.1"}
    table.sort("distance")
    assert set(table.column("distance")) == {"0.1"}


def test_verdicts_method_and_search_filter(table: Table) -> None:
    for verdict in ("proved", "invalid", "unknown"):
        table.click(table.one(f"[data-verdict={verdict}]"))
    assert table.one("[data-verdict=proved]").get_attribute("aria-pressed") == "false"
    assert set(table.column("verdict")) == {"refuted"}
    assert table.shown == "1 to 25 of 600 samples, filtered from 10,000"
    table.one("#method").send_keys("crown")
    assert table.shown == "No sample matches, filtered from 10,000"
    table.click(table.one("[data-verdict=proved]"))
    assert table.shown == "1 to 25 of 9,000 samples, filtered from 10,000"
    table.page.refresh()
    table.one("#search").send_keys("budget ended")
    assert set(table.column("verdict")) == {"unknown"}
    assert table.shown == "1 to 25 of 300 samples, filtered from 10,000"


def test_pages_turn(table: Table) -> None:
    table.click(table.one("#next"))
    assert table.column("sample")[0] == "25"
    table.one("#size").send_keys("100")
    assert len(table.column("sample")) == 100
    assert table.shown == "1 to 100 of 10,000 samples"


def test_of_ten_thousand_rows_only_those_of_a_page_are_drawn(table: Table) -> None:
    for title in ("clean margin", "settled by", "note"):
        table.sort(title)
        assert len(table.column("sample")) == 25


def test_what_must_be_seen_at_once_is(table: Table) -> None:
    alarm, bar, svg = table.one(".alarms"), table.one(".bar"), table.one("#envelope svg")
    assert alarm.rect["y"] < 900
    assert bar.rect["width"] > 900
    assert svg.rect["height"] > 200
    widths = {key: table.one(f".part.{key}").rect["width"] for key in ("proved", "refuted")}
    assert widths["proved"] / widths["refuted"] == pytest.approx(15, rel=0.05)
    images = table.page.find_elements("css selector", ".card:not([hidden]) .pictures img")
    assert len(images) == 18
    assert all(table.page.execute_script("return arguments[0].naturalWidth", image) == 8 for image in images)


def test_all_witnesses_are_there_and_their_pages_turn(table: Table) -> None:
    seen: list[str] = []
    on = table.one("#witnesses .turn button:last-child")
    for page in range(4):
        heads = table.page.find_elements("css selector", "#witnesses .card:not([hidden]) h3")
        assert len(heads) == 6
        seen += [head.text for head in heads]
        assert table.one("#witnesses .turn p").text == f"{6 * page + 1} to {6 * page + 6} of 600"
        table.click(on)
    assert len(set(seen)) == 24
    table.click(table.one("#witnesses .turn button"))
    assert table.one("#witnesses .turn p").text == "19 to 24 of 600"
    assert len(table.page.find_elements("css selector", "#witnesses .card")) == 600


WIDE = """
    const cut = [];
    for (const table of document.querySelectorAll("table")) {
      const box = table.closest(".scroll") ?? table.parentElement;
      if (table.getBoundingClientRect().width > box.clientWidth + 1 && getComputedStyle(box).overflowX !== "auto")
        cut.push(table.id || table.className);
    }
    for (const cell of document.querySelectorAll("th, td")) {
      const hides = getComputedStyle(cell).overflow === "hidden";
      if (hides && cell.scrollWidth > cell.clientWidth + 1) cut.push(cell.textContent);
    }
    return [document.documentElement.scrollWidth, cut];
"""
"""The width that a page takes, and its tables and cells of which a part cannot be reached."""


SIDEWAYS = """
    const boxes = [...document.querySelectorAll(".scroll")].filter((box) => box.scrollWidth > box.clientWidth + 1);
    return boxes.map((box) => box.ariaLabel ?? box.getAttribute("aria-labelledby"));
"""
"""The tables that scroll sideways."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of every kind, with names as long as people give them."""
    home, counts = tmp_path_factory.mktemp("pages"), Counts(proved=20, refuted=9, unknown=6, invalid=2)
    model = "nets/resnet-18-of-the-third-experiment-with-a-long-name.onnx"
    runs = [make_run(home / f"a-run-with-a-long-name-{i}", counts, model=model, threat="linf:8/255") for i in range(5)]
    training = make_training(home / "training")
    smoothed = make_smoothed(home / "smoothed")
    return {
        "run": report(runs[0]),
        "several": report(runs),
        "training": report(training),
        "smoothed": report(smoothed),
    }


@pytest.mark.parametrize("width", [1400, 1280, 390])
@pytest.mark.parametrize("kind", ["run", "several", "training", "smoothed"])
def test_nothing_is_cut_at_any_width(kind: str, width: int, browser: Any, pages: dict[str, Path]) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        browser.get(pages[kind].as_uri())
        browser.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        taken, cut = browser.execute_script(WIDE)
        assert taken <= width
        assert cut == []
        if width >= 1280:
            assert browser.execute_script(SIDEWAYS) == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_several_runs_are_told_apart_by_folder_and_budget(browser: Any, pages: dict[str, Path]) -> None:
    browser.get(pages["several"].as_uri())
    told = [row.text for row in browser.find_elements("css selector", ".several tbody tr")]
    assert all(f"a-run-with-a-long-name-{i}" in text for i, text in enumerate(told))
    assert all("10 min 0 s" in text for text in told)


def test_a_narrow_screen_does_not_scroll_sideways(table: Table) -> None:
    narrow = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    table.page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    assert table.page.execute_script("return document.documentElement.scrollWidth") <= 360
    table.page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_hostile_names_run_nothing(browser: Any, tmp_path: Path) -> None:
    counts = Counts(proved=3, refuted=7, unknown=2, invalid=1)
    first = make_run(tmp_path / "one", counts, classes=[HOSTILE] * 10, model=HOSTILE)
    for file in (report(first), report([first, first])):
        logged(browser)
        browser.get(file.as_uri())
        said, asked = logged(browser)
        assert said == []
        assert [address for address in asked if not address.startswith(("data:", file.as_uri()))] == []
        assert browser.execute_script("return window.hit === undefined")
        assert HOSTILE in browser.find_element("css selector", "body").text


def test_the_page_of_a_smoothed_model_runs_without_an_error(browser: Any, tmp_path: Path) -> None:
    file = report(make_smoothed(tmp_path / "run"))
    logged(browser)
    browser.get(file.as_uri())
    said, asked = logged(browser)
    assert said == []
    assert [address for address in asked if not address.startswith(("data:", file.as_uri()))] == []
    table = Table(browser)
    assert table.column("smoothed answer") == ["right", "right", "wrong", "abstained", "right"]
    table.sort("radius")
    assert table.column("radius") == ["0", "0.1", "0.2", "0.3", "0.4"]
    table.click(table.one("[data-verdict=abstained]"))
    assert len(table.column("radius")) == 4
