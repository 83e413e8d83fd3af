"""report: tables and one page of HTML.

Usage: report.py METRICS EVALUATION SEARCH PLOTS OUTPUT SUMMARY RESOURCES TABLES
"""

import sys
from pathlib import Path

from dartune import params
from dartune.errors import one_line
from dartune.report.report import write_report


@one_line
def main(*paths: str) -> None:
    content = params.everything()
    about = {**content["base"], "preset": content["preset"]}
    write_report(content["tasks"], about, *map(Path, paths), **params.section("report", write_report))


if __name__ == "__main__":
    main(*sys.argv[1:])
