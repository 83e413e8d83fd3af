"""report: tables and one page of HTML. Usage: report.py METRICS EVALUATION SEARCH PLOTS OUTPUT SUMMARY RESOURCES"""

import sys
from pathlib import Path

from dartune import params
from dartune.errors import one_line
from dartune.report.report import write_report


@one_line
def main(metrics: str, evaluation: str, search: str, plots: str, output: str, summary: str, resources: str) -> None:
    paths = map(Path, (metrics, evaluation, search, plots, output, summary, resources))
    content = params.everything()
    about = {**content["base"], "preset": content["preset"]}
    write_report(content["tasks"], about, *paths, **params.section("report", write_report))


if __name__ == "__main__":
    main(*sys.argv[1:])
