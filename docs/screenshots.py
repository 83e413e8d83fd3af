"""Makes docs/ui-run.png and docs/report.png: the page of a run of this repository, and the report.

    .venv/bin/python docs/screenshots.py [--set NAME=VALUE] [STAGE ...]

It needs requirements-system.in and Chromium, and runs what is out of date first. The stages' names can be read in the
picture where they are those of one task: docs/ui-run.png is of --set sample.strategy=top_k evaluate@tsp_construct.
"""

import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "flows"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from chromium import opened
from server import Server

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    os.chdir(ROOT)
    server = Server()
    server.wait()
    flow = [sys.executable, "flows/finetune.py", *sys.argv[1:]]
    subprocess.run(flow, env=os.environ | {"PREFECT_API_URL": f"{server.url}/api"}, check=True)
    with opened() as page:
        page.goto(f"{server.url}/runs")
        page.locator("a[href^='/runs/flow-run/']").first.click()
        page.get_by_role("tablist").get_by_text("Task Runs", exact=True).click()
        page.wait_for_timeout(10_000)  # the graph is drawn on a canvas, which does not tell when it is done
        page.screenshot(path="docs/ui-run.png")
        page.goto((ROOT / "report/index.html").as_uri())
        page.screenshot(path="docs/report.png")


if __name__ == "__main__":
    main()
