"""The page in a real browser without a network: plots are drawn, nothing is asked for, names stay text, and it opens fast."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paging import HOSTILE, candidates, history, many_runs, measured_blocks
from telling import compared, session, told, with_verdict

from pytest_greencompute.report.html import page
from pytest_greencompute.results.result import Pairs
from pytest_greencompute.results.summary import Summary
from pytest_greencompute.store.history import History
from pytest_greencompute.values.provenance import Machine

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.alone(waits=True),
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"),
]
MOST_SECONDS, MOST_BYTES = 2.0, 10_000_000


class Browser:
    """Headless Chromium that can reach nothing but files."""

    def __init__(self, folder: Path) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self._folder = folder
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))

    def open(self, text: str) -> float:
        """Open a page; the seconds until it was loaded and had painted something."""
        path = self._folder / "page.html"
        path.write_text(text, encoding="utf-8")
        self.driver.get(path.as_uri())
        timing = self.run(
            "const [entry] = performance.getEntriesByType('navigation');"
            "const paint = performance.getEntriesByName('first-contentful-paint')[0];"
            "return [entry.loadEventEnd, paint ? paint.startTime : 0]"
        )
        return float(max(timing)) / 1000

    def run(self, script: str, *args: Any) -> Any:
        return self.driver.execute_script(script, *args)

    def size(self, width: int, height: int = 900) -> None:
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)

    def prefer(self, scheme: str, media: str = "") -> None:
        self.command("Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}])

    def command(self, name: str, **parameters: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, parameters)

    def wait(self, script: str, seconds: float = 10.0) -> Any:
        end = time.monotonic() + seconds
        while not (found := self.run(script)):
            assert time.monotonic() < end, f"not within {seconds} s: {script}"
            time.sleep(0.05)
        return found

    def unfold(self, which: str) -> None:
        """Open the first part of the page that is ``which``, and bring it into sight."""
        self.run("const part = document.querySelector(arguments[0]); part.open = true; part.scrollIntoView()", which)

    def said(self) -> list[str]:
        """What went to the console: errors, warnings, and what the security policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in {"SEVERE", "WARNING"}]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    made = Browser(tmp_path_factory.mktemp("pages"))
    yield made
    made.driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    chromium.size(1200)
    chromium.prefer("light")
    chromium.said()
    return chromium


def whole(**fields: Any) -> Summary:
    """A session with all there is to see."""
    made = measured_blocks(budget=0.7)
    pairs = Pairs("main (0123abcd)", "energy_per_query", ((0.5, 0.6), (0.51, 0.62), (0.5, 0.61)))
    red = replace(made, test="t.py::test_red", verdicts=(*made.verdicts, *compared(1.2, "FAIL").verdicts), against=(pairs,))
    return session(red, *candidates(), loosened=("test_red: the limit was 0.5 J and is 0.7 J",), **fields)


DRAWN = "return [...document.querySelectorAll('.plot')].filter(each => each.querySelector('.main-svg')).length"


def test_plots_are_drawn_when_they_come_into_sight_and_nothing_goes_wrong(browser: Browser) -> None:
    browser.open(page([whole()], history()))
    plots = browser.run("return document.querySelectorAll('.plot').length")
    assert plots == 7, "a comparison, its three runs, a red run's blocks and pairs, and the history"
    browser.run("document.querySelectorAll('details.run').forEach(each => { each.open = true; })")
    for number in range(plots):
        browser.run("document.querySelectorAll('.plot')[arguments[0]].scrollIntoView()", number)
        browser.wait(f"return document.querySelectorAll('.plot')[{number}].querySelectorAll('.point, .js-line').length > 1")
    assert browser.run(DRAWN) == plots
    assert browser.said() == []
    assert browser.run("return performance.getEntriesByType('resource').map(each => each.name)") == []


def test_a_plot_is_not_drawn_before_its_run_is_opened(browser: Browser) -> None:
    browser.open(page([session(*many_runs(30))], History()))
    time.sleep(0.3)
    assert browser.run(DRAWN) == 0
    browser.unfold("details.run")
    browser.wait(DRAWN)
    assert browser.run(DRAWN) == 1


def test_points_and_rows_of_the_table_are_as_many_as_the_blocks(browser: Browser) -> None:
    browser.open(page([session(measured_blocks(blocks=45, budget=0.7))], History()))
    browser.unfold("details.run")
    browser.wait(DRAWN)
    rows = browser.run("return document.querySelectorAll('figure tbody tr').length")
    points = browser.run(
        "return document.querySelector('.plot').data.filter(each => /block/.test(each.name)).reduce((n, each) => n + each.x.length, 0)"
    )
    assert (rows, points) == (45, 45)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_names_are_text(browser: Browser, hostile: str) -> None:
    run = with_verdict(measured_blocks(budget=0.5), reason=hostile or "-", where=hostile, effect="fail")
    pairs = Pairs(hostile or "-", "energy_per_query", ((0.5, 0.6),))
    run = replace(run, test=f"t.py::{hostile}", name=hostile, notes=(hostile,), against=(pairs,))
    made = page([session(run, *candidates(hostile or "-"), machine=Machine(commit=hostile))], history(hostile))
    browser.open(made)
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    for number in range(browser.run("return document.querySelectorAll('.plot').length")):
        browser.run("document.querySelectorAll('.plot')[arguments[0]].scrollIntoView()", number)
        browser.wait(f"return document.querySelectorAll('.plot')[{number}].querySelector('.main-svg') !== null")
    assert browser.said() == []
    assert browser.run("return document.querySelectorAll('img, iframe, object, embed, form, a').length") == 0
    assert browser.run("return document.querySelectorAll('script').length") == 3
    assert (
        browser.run("return [...document.querySelectorAll('*')].some(each => [...each.attributes].some(at => at.name.startsWith('on')))")
        is False
    )
    # Plotly would make a bold or linked part of its own: the text of a plot is the name, tags and all.
    assert browser.run("return document.querySelectorAll('svg a, svg [style*=\"font-weight: bold\"]').length") == 0


def test_it_follows_the_colour_scheme_while_it_is_open(browser: Browser) -> None:
    browser.open(page([whole()], History()))
    browser.wait(DRAWN)
    ground = "return getComputedStyle(document.body).backgroundColor"
    ink = "return document.querySelector('.main-svg').closest('.plot').layout.font.color"
    browser.wait("return document.querySelector('.main-svg').closest('.plot').layout.font.color !== undefined")
    light = browser.run(ground), browser.run(ink)
    browser.prefer("dark")
    browser.wait(f"return ({ground.removeprefix('return ')}) !== '{light[0]}' && ({ink.removeprefix('return ')}) !== '{light[1]}'")


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_the_page_never_scrolls_sideways(browser: Browser, width: int) -> None:
    browser.size(width)
    long_name = replace(measured_blocks(budget=0.5), test=f"t.py::test_{'x' * 400}")
    browser.open(page([session(long_name, *candidates()), whole()], history()))
    browser.run("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    browser.run("document.querySelector('.plot').scrollIntoView()")
    browser.wait(DRAWN)
    assert browser.run("return document.documentElement.scrollWidth") <= width


def test_everything_can_be_reached_and_opened_by_keyboard(browser: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.open(page([session(*many_runs(3))], History()))
    reached = []
    for _ in range(12):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(browser.run("return document.activeElement.tagName"))
        if reached[-1] == "SUMMARY":
            break
    assert reached[-1] == "SUMMARY"
    outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle")
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.wait("return document.activeElement.parentElement.open")
    assert outline != "none"


def test_a_screen_reader_finds_headings_in_order_and_a_word_for_every_plot(browser: Browser) -> None:
    browser.open(page([whole()], history()))
    levels = [int(each[1]) for each in browser.run("return [...document.querySelectorAll('h1, h2, h3')].map(each => each.tagName)")]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    labels = browser.run(
        "return [...document.querySelectorAll('.plot')].map(each => [each.getAttribute('role'), each.getAttribute('aria-label')])"
    )
    assert all(role == "img" and len(label) > 20 for role, label in labels)
    assert browser.run("return [...document.querySelectorAll('.plot')].every(each => each.parentElement.querySelector('table') !== null)")
    assert browser.run("return document.querySelectorAll('main').length") == 1


def test_it_can_be_printed_with_all_that_is_folded_away(browser: Browser) -> None:
    browser.open(page([session(*many_runs(4))], History()))
    printed = browser.command("Page.printToPDF")
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    assert browser.run(DRAWN) == 4


def test_two_hundred_runs_open_fast_and_are_small(browser: Browser) -> None:
    text = page([session(*many_runs(200, blocks=50))], history())
    assert len(text.encode()) < MOST_BYTES
    browser.open(text)  # once, so that the file is in memory and the program warm
    seconds = min(browser.open(text) for _ in range(3))
    assert seconds < MOST_SECONDS
    assert browser.said() == []


def test_an_empty_session_and_several_are_pages(browser: Browser) -> None:
    empty = session(machine=Machine(), sources=(), total_j=None)
    for sessions in ([empty], [empty, whole()], [session(told(measured_run_without_energy()))]):
        browser.open(page(sessions, History(problems=("a file is broken",))))
        assert browser.run("return document.querySelector('h1').textContent").startswith("Energy budgets")
        assert "a file is broken" in browser.run("return document.body.textContent")
        assert browser.said() == []


def measured_run_without_energy() -> Any:
    from making import run

    return run([], metered=False, sources=(), scores=(1.0, 0.0))


def test_the_figures_are_whole_json(browser: Browser) -> None:
    browser.open(page([whole()], history()))
    figures = json.loads(browser.run("return document.getElementById('figures').textContent"))
    assert len(figures) == browser.run("return document.querySelectorAll('.plot').length")
