"""Strategies: one file of sql/ per name. Its header says which strategies it starts from, and checks its options."""

import re
from pathlib import Path
from typing import Any

import duckdb

from dartune.errors import UserError, nearest

SQL = Path(__file__).parent / "sql"

# Macros for the lines "-- check: ...", beside those of SQL.
KINDS = """
create macro whole(x) as typeof(x) in ('INTEGER', 'BIGINT');
create macro number(x) as whole(x) or (typeof(x) = 'DOUBLE' and isfinite(x));
"""


def strategies() -> list[str]:
    """Return the names of all strategies."""
    return sorted(path.stem for path in SQL.glob("*.sql"))


def statement(name: str) -> str:
    """Return a strategy's SQL with its header."""
    return (SQL / f"{name}.sql").read_text()


def header(name: str, key: str) -> list[str]:
    """Return what the lines "-- key: ..." of a strategy's file say."""
    return re.findall(rf"^-- {key}: +(.*)$", statement(name), re.MULTILINE)


def starts(name: str) -> list[str]:
    """Return the strategies whose pairs this one starts from, which its line "-- in: ..." names."""
    words = {word for line in header(name, "in") for word in re.findall(r"[a-z_]+", line.split("through")[0])}
    return [other for other in strategies() if other in words]


def involved(shares: dict[str, float]) -> list[str]:
    """Return the strategies of a mixture, each after those that it starts from."""
    return [other for name in shares for other in (*starts(name), name)]


def check_strategy(strategy: str | dict[str, float], options: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return the shares by strategy. Raises UserError on the first name, share or option that is invalid."""
    shares = {strategy: 1.0} if isinstance(strategy, str) else strategy
    for name in [*shares, *options]:
        if name not in strategies():
            raise UserError(f"sample.strategy: there is no strategy {name!r}{nearest(name, strategies())}")
    if abs(sum(shares.values()) - 1) > 1e-9:
        raise UserError(f"sample.strategy: the shares add up to {sum(shares.values()):g}; expected 1")
    for name in involved(shares):
        check_options(name, options.get(name, {}))
    return shares


def check_options(name: str, given: dict[str, Any]) -> None:
    """Raise UserError on an option that the strategy's file does not use, lacks, or rules out by "-- check: ..."."""
    query = "\n".join(line for line in statement(name).splitlines() if not line.startswith("--"))
    known = set(re.findall(r"\$(\w+)", query)) - {"n_pairs", "seed"}
    for key in given:
        if key not in known:
            raise UserError(f"sample.options.{name}.{key} is not a parameter{nearest(key, sorted(known))}")
    for key in sorted(known - set(given)):
        raise UserError(f"sample.options.{name}.{key} is missing; src/dartune/pairs/sql/{name}.sql needs it")
    with duckdb.connect() as connection:
        connection.execute(KINDS)
        for rule in header(name, "check"):
            values = {key: given[key] for key in re.findall(r"\$(\w+)", rule)}
            try:
                holds = connection.execute(f"select {rule}", values).fetchall()[0][0]
            except duckdb.Error:  # the values' types do not allow to evaluate it
                holds = False
            if holds is not True:
                raise UserError(f"sample.options.{name}: expected {rule.replace('$', '')}; found {values}")
