"""The report in a real browser: opened from disk, on a screen, a phone and paper, in light and dark."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.records import Gate, State
from pipeline.report.html import write_report
from tests.report.report_support import study_run, write_bundle

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OPEN_ALL = "document.querySelectorAll('details').forEach(part => { part.open = true; })"
CONTRAST = Path(__file__).with_name("contrast.js").read_text("utf-8")


@dataclass
class Visit:
    """An open page, and what it complained of or asked for."""

    page: "playwright.Page"
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


RARE = [pytest.param("red", marks=pytest.mark.slow), pytest.param("failed", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    ends = {"yellow": (State.COMPLETED, Gate.YELLOW), "red": (State.COMPLETED, Gate.RED), "failed": (State.FAILED, None)}
    return {name: write_report(write_bundle(study_run(folder / name, state, gate))) for name, (state, gate) in ends.items()}


def visit(browser: "playwright.Browser", report: Path) -> Visit:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light", reduced_motion="reduce")
    seen = Visit(page)
    page.on("console", lambda message: seen.complaints.append(message.text))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    page.goto(report.as_uri())
    return seen


@pytest.mark.parametrize("name", ["yellow", *RARE])
def test_it_opens_from_disk_without_a_complaint_or_a_request(browser: "playwright.Browser", reports: dict[str, Path], name: str) -> None:
    seen = visit(browser, reports[name])
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith("data:")] == [reports[name].as_uri()]


def test_the_policy_stops_what_is_not_ours(browser: "playwright.Browser", reports: dict[str, Path]) -> None:
    seen = visit(browser, reports["yellow"])
    seen.page.evaluate("() => { const s = document.createElement('script'); s.textContent = 'window.hacked = 1'; document.body.append(s); }")
    assert seen.page.evaluate("window.hacked") is None
    assert "Content Security Policy" in seen.complaints[0]


@pytest.mark.parametrize("name", ["yellow", RARE[1]])
def test_the_page_never_scrolls_sideways(browser: "playwright.Browser", reports: dict[str, Path], name: str) -> None:
    page = visit(browser, reports[name]).page
    page.evaluate(OPEN_ALL)
    for width in (1280, 768, 360):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("name", ["yellow", *RARE])
def test_all_text_stands_out_from_its_ground(browser: "playwright.Browser", reports: dict[str, Path], name: str) -> None:
    page = visit(browser, reports[name]).page
    page.evaluate(OPEN_ALL)
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours)
        found = page.evaluate(CONTRAST)
        assert found["looked"] > 500
        assert found["poor"] == []


def test_the_toggle_turns_the_colours_and_says_so(browser: "playwright.Browser", reports: dict[str, Path]) -> None:
    page = visit(browser, reports["yellow"]).page
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.get_by_role("button", name="Dark colours").click()
    assert page.evaluate(ground) != before
    assert page.get_by_role("button", name="Dark colours").get_attribute("aria-pressed") == "true"


def test_the_log_is_filtered_by_text_level_and_step(browser: "playwright.Browser", reports: dict[str, Path]) -> None:
    page = visit(browser, reports["yellow"]).page
    rows = page.locator(".log tbody tr:visible")
    assert rows.count() == 14
    page.get_by_role("combobox", name="Level").select_option("warning")
    assert rows.count() == 3
    page.get_by_role("combobox", name="Step").select_option("food")
    assert rows.count() == 1
    page.get_by_role("searchbox", name="Text").fill("no such words")
    assert rows.count() == 0
    assert page.locator("[data-log-count]").inner_text() == "0 shown"


def test_checks_are_filtered_by_outcome(browser: "playwright.Browser", reports: dict[str, Path]) -> None:
    page = visit(browser, reports["yellow"]).page
    page.get_by_role("button", name="Hold 48").click()
    assert page.locator("[data-outcome-group]:visible").count() == 1
    assert page.locator("[data-outcome-group=passed] tbody tr:visible").count() == 48


def test_pointing_at_a_dataset_lights_what_it_comes_from_and_what_depends_on_it(browser: "playwright.Browser", reports: dict[str, Path]) -> None:
    page = visit(browser, reports["yellow"]).page
    page.locator("[data-node='silver/weekly_features']").focus()
    lit = page.eval_on_selector_all(".node.lit", "nodes => nodes.map(node => node.dataset.node || 'step ' + node.dataset.step)")
    assert {"input/fiber", "bronze/nutrition", "step features", "gold/figures"} <= set(lit)
    assert not {"input/weight", "step traject", "silver/subject_trajectories"} & set(lit)


def test_a_step_opens_by_keyboard_and_by_a_link_to_it(browser: "playwright.Browser", reports: dict[str, Path]) -> None:
    page = visit(browser, reports["yellow"]).page
    page.locator("#step-weight > summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#step-weight").get_attribute("open") is not None
    page.locator(".graph [data-step='models']").click()
    page.wait_for_selector("#step-models[open]")


def test_an_id_is_copied(browser: "playwright.Browser", reports: dict[str, Path]) -> None:
    page = visit(browser, reports["yellow"]).page
    button = page.locator(".summary .copy")
    # The page says so for a moment only, which a look now and then may miss. A selector, as the page lets nobody evaluate text.
    watch = "node => new MutationObserver(() => { if (node.matches('.copied')) node.dataset.wasCopied = '' }).observe(node, {attributeFilter: ['class']})"
    button.evaluate(watch)
    button.click()
    page.wait_for_selector(".summary .copy[data-was-copied]")


def test_everything_is_there_without_the_script(browser: "playwright.Browser", reports: dict[str, Path]) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto(reports["yellow"].as_uri())
    assert page.locator(".log tbody tr:visible").count() == 14
    assert page.locator(".filters:visible").count() == 0


def test_it_prints_on_a_few_pages(browser: "playwright.Browser", reports: dict[str, Path]) -> None:
    pdf = visit(browser, reports["yellow"]).page.pdf(format="A4", print_background=True)
    pages = pdf.count(b"/Type /Page\n") + pdf.count(b"/Type /Page ") + pdf.count(b"/Type/Page/")
    assert 3 <= pages <= 8
