"""Prefect's UI over `make serve`, in headless Chromium: runs are started, read and cancelled by clicking."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Page, TimeoutError, expect

sys.path.insert(0, str(Path(__file__).parents[1]))

from chromium import opened
from served_toy import Box, served
from toy_repository import PARAMS, gone

PATIENCE_S = 120  # on a busy machine a run begins half a minute after the click
STAGES = ("base", "pool@a", "pool@b", "train", "report")


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    with served(tmp_path_factory.mktemp("toy") / "repo") as box:
        yield box


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with opened() as page:
        page.set_default_timeout(1000 * PATIENCE_S)
        expect.set_options(timeout=1000 * PATIENCE_S)
        yield page


@pytest.fixture(scope="module")
def finished(box: Box, page: Page) -> str:
    """The address of the page of a run that did all stages."""
    start(box, page, "first")
    expect_state(page, "Completed")
    return page.url


def start(box: Box, page: Page, name: str, strategy: str = "", **overrides: object) -> None:
    """Fills in the form of the deployment on-demand, sends it, and goes to the page of the run."""
    page.goto(f"{box.url}/deployments")
    page.get_by_role("link", name="on-demand").click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("link", name="Custom run").click()
    expect(page.get_by_role("heading", name="Parameters")).to_be_visible()
    page.wait_for_load_state("networkidle")  # the form has what it asked the server for
    page.get_by_role("textbox").first.fill(name)  # Run Name, a label that Prefect ties to no field
    if strategy:
        page.get_by_role("button", name="as in params.yaml").nth(1).press("ArrowDown")  # preset, strategy, method
        page.get_by_role("option", name=strategy, exact=True).click()
    if overrides:
        page.locator("textarea").fill(json.dumps({name.replace("_", "."): value for name, value in overrides.items()}))
    submit, run = page.get_by_role("button", name="Submit"), page.get_by_role("link", name=re.compile(name)).first
    submit.click()
    with suppress(TimeoutError):
        run.wait_for(timeout=30_000)  # the server answers in a quarter of a second, and the form gives way to the run
    if submit.is_visible() and submit.is_enabled():
        submit.click()  # on a busy machine a click came to nothing once
    run.click()


def expect_state(page: Page, name: str) -> None:
    """Of the run, at the top of its page."""
    expect(page.get_by_role("banner").get_by_text(name, exact=True)).to_be_visible()


def turn_to(page: Page, tab: str) -> None:
    page.get_by_role("tablist").get_by_text(tab, exact=True).click()


def shown_states(page: Page) -> dict[str, str]:
    """What the tab Task Runs says of each stage that has begun."""
    text = page.get_by_role("tabpanel").inner_text()
    return dict(re.findall(rf"^({'|'.join(STAGES)})\s+(\w+)$", text, re.MULTILINE))


def expect_states(box: Box, page: Page, states: dict[str, str]) -> None:
    """Of the stages, on the tab Task Runs, which follows the run by itself."""
    turn_to(page, "Task Runs")
    box.until(lambda: (page.wait_for_timeout(500), shown_states(page))[1] == states, PATIENCE_S)


def test_a_run_from_the_form_completes_and_its_page_shows_every_stage(box: Box, page: Page, finished: str) -> None:
    page.goto(finished)
    expect_states(box, page, dict.fromkeys(STAGES, "Completed"))
    turn_to(page, "Artifacts")
    page.get_by_role("link", name="stages").click()
    expect(page.get_by_role("row").filter(has_text="pool@b")).to_contain_text("Completed")


def test_the_report_opens_from_the_run_s_artifacts(box: Box, page: Page, finished: str) -> None:
    page.goto(finished)
    turn_to(page, "Artifacts")
    page.get_by_role("link", name="markdown report").click()
    with page.context.expect_page() as opening:
        page.get_by_role("link", name=f"http://127.0.0.1:{box.port + 1}/").click()
    expect(opening.value.get_by_role("heading", name="What the toy found")).to_be_visible()
    opening.value.close()


def test_a_run_cancelled_by_clicking_takes_its_stage_s_processes_with_it(box: Box, page: Page, finished: str) -> None:
    start(box, page, "hanging", train_hang=True)
    box.until((box.root / "pids.txt").exists, PATIENCE_S)
    pids = [int(pid) for pid in (box.root / "pids.txt").read_text().split()]
    expect_states(box, page, dict.fromkeys(STAGES[:3], "Cached") | {"train": "Running"})
    assert not gone(pids, within_s=0)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Confirm").click()
    assert gone(pids, within_s=60)  # about 5 s after the click
    expect_state(page, "Cancelled")
    assert (box.root / "params.yaml").read_text() == PARAMS  # the override is gone


def test_what_a_failed_stage_said_is_at_the_top_of_the_run_s_page(box: Box, page: Page) -> None:
    start(box, page, "failing", pool_n=0)
    expect_state(page, "Failed")
    said = "pool: 0 programs were asked for; at least 1 is expected. Raise pool.n."
    page.reload()  # the name is not among what the page follows
    expect(page.get_by_role("banner").get_by_text(f"all stages, pool.n=0 (failing): {said}")).to_be_visible()
    turn_to(page, "Details")
    expect(page.get_by_role("tabpanel").get_by_text(said, exact=True)).to_be_visible()


def test_a_choice_of_the_form_reaches_the_run_and_a_mistake_is_one_line(box: Box, page: Page) -> None:
    start(box, page, "chosen", strategy="dar")  # a parameter that the toy does not have
    expect_state(page, "Failed")
    page.reload()
    said = "--set or the form, with the names of params.yaml: there is no 'sample.strategy'; known are base, base.size"
    expect(page.get_by_role("banner").get_by_text(f"all stages, strategy=dar (chosen): {said}")).to_be_visible()
    turn_to(page, "Logs")
    expect(page.get_by_role("tabpanel").get_by_text("there is no 'sample.strategy'").first).to_be_visible()
    expect(page.get_by_text("Traceback")).to_have_count(0)
