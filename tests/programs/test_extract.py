"""Programs in the answers of models: a table, and answers that are put together by chance."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from dartune.programs.extract import extract
from dartune.programs.verdict import Refused

TEMPLATE = "import numpy as np\n\n\ndef f(a, b):\n    return a\n"
ANSWERS = YAML(typ="safe").load(Path(__file__).with_name("answers.yaml").read_text())
PROGRAMS = [row for row in ANSWERS if not isinstance(row["right"], list)]
REFUSALS = [row for row in ANSWERS if isinstance(row["right"], list)]


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in rows]


@pytest.mark.parametrize("row", PROGRAMS, ids=names(PROGRAMS))
def test_a_program_is_found_in(row: dict[str, Any]) -> None:
    namespace: dict = {"__name__": "program"}
    extracted = extract(row["answer"], "f", 2, TEMPLATE)
    exec(extracted.program, namespace)
    assert namespace["f"](2, 3) == row["right"]
    assert extracted.how == row.get("how", extracted.how)


@pytest.mark.parametrize("row", REFUSALS, ids=names(REFUSALS))
def test_the_reason_is_kept_where_there_is(row: dict[str, Any]) -> None:
    status, reason = row["right"]
    with pytest.raises(Refused) as caught:
        extract(row["answer"], "f", 2, TEMPLATE)
    assert (caught.value.status, reason in caught.value.reason) == (status, True), caught.value.reason
