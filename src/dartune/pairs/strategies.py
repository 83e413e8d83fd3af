"""Strategies by name: a file of sql/ each, whose header says what it starts from and what its options may be."""

import re
from pathlib import Path
from typing import Any

import duckdb

from dartune.errors import UserError, nearest

SQL = Path(__file__).parent / "sql"

# What the lines "-- check: ..." may ask of an option.
KINDS = """
create macro whole(x) as typeof(x) in ('INTEGER', 'BIGINT');
create macro number(x) as whole(x) or (typeof(x) = 'DOUBLE' and isfinite(x));
"""


def taking_part(shares: dict[str, float]) -> list[str]:
    """The strategies of a mixture with those that they start from."""
    return [each for name in shares for each in (*starts(name), name)]


def strategies() -> list[str]:
    return sorted(path.stem for path in SQL.glob("*.sql"))


def statement(name: str) -> str:
    return (SQL / f"{name}.sql").read_text()


def header(name: str, key: str) -> list[str]:
    """What the lines "-- key: ..." of a strategy's file say."""
    return re.findall(rf"^-- {key}: +(.*)$", statement(name), re.MULTILINE)


def starts(name: str) -> list[str]:
    """The strategies whose pairs this one starts from: its header's in: names them."""
    words = {word for line in header(name, "in") for word in re.findall(r"[a-z_]+", line.split("through")[0])}
    return [other for other in strategies() if other in words]


def check_strategy(strategy: str | dict[str, float], options: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The shares by strategy, or a UserError about the first thing in the mixture or the options that cannot be."""
    shares = {strategy: 1.0} if isinstance(strategy, str) else strategy
    for name in [*shares, *options]:
        if name not in strategies():
            raise UserError(f"sample.strategy: there is no strategy {name!r}{nearest(name, strategies())}")
    if abs(sum(shares.values()) - 1) > 1e-9:
        raise UserError(f"sample.strategy: the shares add up to {sum(shares.values()):g}; expected 1")
    for name in taking_part(shares):
        check_options(name, options.get(name, {}))
    return shares


def check_options(name: str, given: dict[str, Any]) -> None:
    """Refuse options that the strategy's file does not name, lacks, or rules out in its lines "-- check: ..."."""
    text = "\n".join(line for line in statement(name).splitlines() if not line.startswith("--"))
    known = set(re.findall(r"\$(\w+)", text)) - {"n_pairs", "seed"}
    for key in given:
        if key not in known:
            raise UserError(f"sample.options.{name}.{key} is not a parameter{nearest(key, sorted(known))}")
    for key in sorted(known - set(given)):
        raise UserError(f"sample.options.{name}.{key} is missing; src/dartune/sql/{name}.sql needs it")
    with duckdb.connect() as connection:
        connection.execute(KINDS)
        for rule in header(name, "check"):
            values = {key: given[key] for key in re.findall(r"\$(\w+)", rule)}
            if not holds(connection, rule, values):
                raise UserError(f"sample.options.{name}: expected {rule.replace('$', '')}; found {values}")


def holds(connection: duckdb.DuckDBPyConnection, rule: str, values: dict[str, Any]) -> bool:
    try:
        return connection.execute(f"select {rule}", values).fetchall()[0][0] is True
    except duckdb.Error:
        return False
