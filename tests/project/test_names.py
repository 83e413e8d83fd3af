"""A test's name is a sentence that is read in a list of failures."""

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
LONGEST = 70  # characters


def test_no_test_has_a_name_of_more_than_70_characters() -> None:
    too_long = [
        f"{file.relative_to(TESTS)}: {node.name}"
        for file in sorted(TESTS.rglob("test_*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and len(node.name) > LONGEST
    ]
    assert too_long == []
