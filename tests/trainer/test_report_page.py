"""The report page in a real browser without a network: of a run that was trained and evaluated, and of hostile rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from browser import browser, opened
from finetune_trainer.page.reading import read_inputs
from finetune_trainer.page.render import render
from page_folder import EXECUTES, HOSTILE, write_folder

PHONE = 390  # CSS pixels
FIGURES = ("scores", "letters0", "letters1", "loss", "rate", "throughput", "funnel")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def page(run: Any) -> Path:
    """The page that the evaluation left."""
    return Path(run.evaluation_folder / "report.html")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_folder(tmp_path_factory.mktemp("hostile"), HOSTILE * 4 + "W" * 5000)
    file = folder / "report.html"
    file.write_text(render(read_inputs(folder)), encoding="utf-8")
    return file


def test_the_evaluation_leaves_the_page_that_its_result_names_and_the_files_give_again(run: Any, page: Path) -> None:
    evaluation = run.evaluation.evaluation
    assert evaluation.page_uri == evaluation.report_uri.replace("report.json", "report.html")
    assert page.read_text(encoding="utf-8") == render(read_inputs(page.parent))


def test_every_figure_of_a_real_run_is_seen_and_nothing_is_refused_or_fetched(chromium: Browser, page: Path) -> None:
    with opened(chromium, page) as shown:
        assert (shown.complaints, shown.requests) == ([], [])
        for name in FIGURES:
            figure = shown.page.locator(f"#figure-{name} svg[role=img]")
            box = figure.bounding_box()
            assert box is not None, name
            assert box["width"] > 300, name
            assert box["height"] > 60, name
            assert figure.locator("title").text_content()
            assert len(figure.locator("desc").text_content() or "") > 10
        assert shown.page.locator("figure").count() >= len(FIGURES)


def test_the_figures_keep_their_colours_under_the_policy_in_light_and_dark(chromium: Browser, page: Path) -> None:
    seen = set()
    for dark in (False, True):
        with opened(chromium, page, dark=dark) as shown:
            line = shown.page.locator("#figure-rate path[stroke='#0b5cad']").first
            seen.add(line.evaluate("element => getComputedStyle(element).stroke"))
            assert shown.complaints == []
    assert seen == {"rgb(11, 92, 173)", "rgb(108, 178, 245)"}


@pytest.mark.parametrize("width", [320, PHONE, 768, 1200])
def test_no_width_makes_the_page_scroll_sideways(chromium: Browser, page: Path, hostile: Path, width: int) -> None:
    for file in (page, hostile):
        with opened(chromium, file, width) as shown:
            assert shown.overflow() <= 0, file


def test_hostile_text_is_text(chromium: Browser, hostile: Path) -> None:
    with opened(chromium, hostile) as shown:
        assert (shown.complaints, shown.requests) == ([], [])
        assert shown.page.title() != "executed"
        assert shown.page.locator("script, img, iframe, link").count() == 0
        assert EXECUTES in (shown.page.locator("#samples .prompt .said").first.text_content() or "")
        shown.page.locator("#samples mark").first.wait_for()


def test_it_prints_on_a4(chromium: Browser, page: Path) -> None:
    with opened(chromium, page) as shown:
        printed = shown.page.pdf(prefer_css_page_size=True)
        shown.page.emulate_media(media="print")
        shown.page.set_viewport_size({"width": 680, "height": 1000})  # A4 at 96 dpi, without its margins
        assert shown.overflow() <= 0
        tables = shown.page.locator(".wide").evaluate_all("all => all.map(one => one.scrollWidth - one.clientWidth)")
        assert max(tables) <= 0  # what is wider lies below its neighbour on paper
    assert printed.startswith(b"%PDF-")
    assert b"/MediaBox [0 0 594" in printed or b"/MediaBox [0 0 595" in printed
    assert 2 <= printed.count(b"/Type /Page\n") + printed.count(b"/Type /Page ") <= 8


def test_text_has_contrast_in_light_and_dark(chromium: Browser, page: Path) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1, of every piece of text against the nearest background behind it."""
    for dark in (False, True):
        with opened(chromium, page, dark=dark) as shown:
            assert shown.page.evaluate(CONTRAST) == []


CONTRAST = """
() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = text => parse(text).slice(0, 3)
    .map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor, parts = parse(colour);
      if (parts.length < 4 || parts[3] > 0) return colour;
    }
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || ["TITLE", "DESC"].includes(element.tagName.toUpperCase())) continue;
    const style = getComputedStyle(element), text = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const [a, b] = [light(text), light(behind(element))].sort((x, y) => y - x);
    const said = walker.currentNode.textContent.trim().slice(0, 40);
    if ((a + 0.05) / (b + 0.05) < 4.5) bad.push([said, text, behind(element)]);
  }
  return bad;
}
"""
