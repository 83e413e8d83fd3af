"""Write the drawings and tables of docs/architecture.md from the code and dvc.yaml.

.venv/bin/python docs/architecture.py            # rewrite what is between the page's markers
.venv/bin/python docs/architecture.py --check    # exit 1, with one line, if the page is out of date
"""

import ast
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grimp
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/architecture.md"
PACKAGE = ROOT / "src/dartune"
Graph = dict[str, set[str]]  # {name: names that its arrows point to}


def main(*arguments: str) -> None:
    """Rewrite the page; with --check, exit with one line if it would change."""
    text = PAGE.read_text()
    new = text
    for name, content in (("packages", packages()), ("stages", stages())):
        new = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m: f"{m[1]}{content}{m[2]}", new, flags=re.DOTALL)
    if "--check" not in arguments:
        PAGE.write_text(new)
    elif new != text:
        sys.exit("docs/architecture.md is out of date: run .venv/bin/python docs/architecture.py")


def packages() -> str:
    """Return a drawing of the packages with their imports, and a table of what each owns and imports."""
    imports = package_imports()
    rows: list[tuple[str, ...]] = [(f"`{name}`", ownership(name), named(imports[name])) for name in in_order(imports)]
    return mermaid("TB", reduced(imports)) + table(("package or module", "what it owns", "imports"), rows)


def package_imports() -> Graph:
    """Return the packages and top modules of dartune, each with those that it imports, inside functions too."""
    sys.path.insert(0, str(PACKAGE.parent))
    graph = grimp.build_graph("dartune", cache_dir=None)
    names = {child.removeprefix("dartune.") for child in graph.find_children("dartune")}
    imports: Graph = {name: set() for name in names}
    for module in graph.modules - {"dartune"}:
        importer = module.split(".")[1]
        imported = {name.split(".")[1] for name in graph.find_modules_directly_imported_by(module) if "." in name}
        imports[importer] |= imported - {importer}
    return imports


def ownership(name: str) -> str:
    """Return the first line of the docstring of a package or module, without what it may import."""
    file = next(file for file in (PACKAGE / name / "__init__.py", PACKAGE / f"{name}.py") if file.exists())
    return (ast.get_docstring(ast.parse(file.read_text())) or "").split("\n")[0].split(" May import")[0]


def stages() -> str:
    """Return a drawing of the stages with the files that pass between them, and a table of what each reads and writes.

    Left out: data/modules, which every stage reads, metrics/resources, and the code of tasks.
    """
    content = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    del content["modules"]
    writes = {name: paths(stage, "outs", "metrics", "plots") for name, stage in content.items()}
    reads = {
        name: [path for path in paths(stage, "deps") if not path.startswith(("data/modules", "src/"))]
        for name, stage in content.items()
    }
    arrows: Graph = {name: set() for name in content}
    files: dict[tuple[str, str], str] = {}
    for writer, outputs in writes.items():
        for reader, inputs in reads.items():
            shared = [path for path in inputs if any(overlap(path, output) for output in outputs)]
            if shared and reader != writer:
                arrows[writer].add(reader)
                files[writer, reader] = ", ".join(dict.fromkeys(re.sub(r"/TASK.*", "", path) for path in shared))
    rows: list[tuple[str, ...]] = [(f"`{name}`", named(reads[name]), named(writes[name])) for name in content]
    return mermaid("TB", reduced(arrows), files) + table(("stage", "reads", "writes"), rows)


def paths(stage: dict[str, Any], *kinds: str) -> list[str]:
    """Return the paths of a stage's stanza, with TASK, METHOD and the default pool.source in place of parameters."""
    entries = [entry for kind in kinds for entry in stage.get(kind, [])]
    names = [next(iter(entry)) if isinstance(entry, dict) else str(entry) for entry in entries]
    shown = {"${item.task}": "TASK", "${pool.method}": "METHOD", "${pool.source}": "models/base"}
    for parameter, value in shown.items():
        names = [name.replace(parameter, value) for name in names]
    return names


def overlap(path: str, other: str) -> bool:
    """Whether two paths are equal, or one lies in the other."""
    shorter, longer = sorted((path, other), key=len)
    return longer == shorter or longer.startswith(shorter + "/")


def reduced(graph: Graph) -> Graph:
    """Return the graph without the arrows that a longer path of arrows replaces (its transitive reduction)."""

    def reached(start: str) -> set[str]:
        return graph[start] | {name for other in graph[start] for name in reached(other)}

    return {name: ends - {far for near in ends for far in reached(near)} for name, ends in graph.items()}


def in_order(graph: Graph) -> list[str]:
    """Return the names so that whatever a name's arrows point to comes before it; ties in alphabetical order."""
    order: list[str] = []
    while waiting := [name for name in sorted(graph) if name not in order]:
        ready = [name for name in waiting if graph[name] <= set(order)]
        if not ready:
            raise ValueError(f"these import each other in a circle: {', '.join(waiting)}")
        order += ready
    return order


def mermaid(direction: str, graph: Graph, labels: dict[tuple[str, str], str] | None = None) -> str:
    """Return the graph as a Mermaid flowchart. labels: text on an arrow, by (start, end)."""
    arrows = [
        f"    {name} -->|{labels[name, end]}| {end}" if labels else f"    {name} --> {end}"
        for name in graph
        for end in sorted(graph[name])
    ]
    return "\n".join(["```mermaid", f"flowchart {direction}", *(arrows if labels else sorted(arrows)), "```", "", ""])


def named(names: Iterable[str]) -> str:
    """Return the names as code, sorted."""
    return ", ".join(f"`{name}`" for name in sorted(names))


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ("---",) * len(head), *rows])


if __name__ == "__main__":
    main(*sys.argv[1:])
