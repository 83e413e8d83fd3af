"""Programs near a given one: its syntax tree with a few random changes. They show what a task's scores do."""

import ast
import random
from collections.abc import Iterator

ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div)
COMPARISONS = (ast.Lt, ast.Gt, ast.LtE, ast.GtE)
OPPOSITES = {"argmin": "argmax", "argmax": "argmin", "min": "max", "max": "min", "sum": "mean", "mean": "sum"}
FACTORS = (-1.0, 0.0, 0.5, 2.0)
N_CHANGES = 3  # at most, to one program
MAX_TRIES = 1000  # without a new program
# New results: an element of the array {0}, by the arrays {1} and {2} or the number {6}; or a number.
ELEMENTS = (
    "{0}[{3} % len({0})]",
    "{0}[-1 - {3} % len({0})]",
    "{0}[int(np.{4}({1}[{0}]))]",
    "{0}[int(np.{4}({1}[{0}] {5} {2}[{0}]))]",
    "{0}[int(np.{4}({1}[{6}][{0}]))]",
    "{0}[int(np.{4}(np.resize({1}, len({0}))))]",
)
NUMBERS = (
    "float(np.sum({0}))",
    "float(np.sum({0}) {5} np.sum({1}))",
    "float(np.dot(np.ravel({0}), np.arange(np.size({0})) % {3} + 1))",
    "float(np.ravel({0})[{3} % np.size({0})])",
    "float(np.sum({0}) {5} {6})",
)
ALONE = 0.9  # of new results; the others are added to the old one


def mutations(program: str, seed: int) -> Iterator[str]:
    """Yield different programs, each the given one with one to N_CHANGES changes, until no new ones turn up.

    Many of them fail.
    """
    generator, seen, n_tries = random.Random(seed), {program}, 0
    while n_tries < MAX_TRIES:
        n_tries += 1
        tree = ast.parse(f"import numpy as np\n{program}")
        for _ in range(generator.randint(1, N_CHANGES)):
            change(tree, generator)
        text = ast.unparse(ast.fix_missing_locations(tree)) + "\n"
        if text not in seen:
            seen.add(text)
            n_tries = 0
            yield text


def change(tree: ast.Module, generator: random.Random) -> None:
    """Change one place of a syntax tree: a number, an operator, a name of a function or an argument, or a result."""
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef))
    arguments = [argument.arg for argument in function.args.args]
    places = [node for node in ast.walk(function) if is_place(node, arguments)]
    node = generator.choice(places)
    if isinstance(node, ast.Return):
        node.value = new_result(node, function, generator)
    elif isinstance(node, ast.BinOp):
        node.op = generator.choice(ARITHMETIC)()
    elif isinstance(node, ast.Compare):
        node.ops = [generator.choice(COMPARISONS)() for _ in node.ops]
    elif isinstance(node, ast.Attribute):
        node.attr = OPPOSITES[node.attr]
    elif isinstance(node, ast.Name):
        node.id = OPPOSITES.get(node.id) or generator.choice(arguments)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        node.value = new_number(node.value, generator)


def is_place(node: ast.AST, arguments: list[str]) -> bool:
    """Return whether `change` can change this node."""
    if isinstance(node, ast.Name):
        return isinstance(node.ctx, ast.Load) and (node.id in OPPOSITES or node.id in arguments)
    if isinstance(node, ast.Attribute):
        return node.attr in OPPOSITES
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float)
    return isinstance(node, ast.BinOp | ast.Compare) or (isinstance(node, ast.Return) and node.value is not None)


def new_number(value: float, generator: random.Random) -> float:
    """Return another number: a neighbour, a multiple, or one between -1 and 1."""
    if isinstance(value, int):
        return value + generator.choice((-1, 1))
    return value * generator.choice(FACTORS) or round(generator.uniform(-1, 1), 3)


def new_result(node: ast.Return, function: ast.FunctionDef, generator: random.Random) -> ast.expr:
    """Return another result that fits the function's annotations, alone or together with the old result."""
    names = [argument.arg for argument in function.args.args]
    types = {argument.arg: ast.unparse(argument.annotation or ast.Name("")) for argument in function.args.args}
    arrays = [name for name in names if any(word in types[name] for word in ("array", "list", "tuple"))] or names
    numbers = [name for name in names if name not in arrays] or ["1"]
    returned = ast.unparse(function.returns or ast.Name(""))
    forms = {"int": ELEMENTS, "float": NUMBERS}.get(returned, ELEMENTS + NUMBERS)
    used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}  # choices come from these
    first = generator.choice([name for name in arrays if name in used] or arrays)
    texts = [first, *(generator.choice(arrays) for _ in range(2)), str(generator.randint(1, 9))]
    texts += [generator.choice(("argmin", "argmax")), generator.choice("+-*/"), generator.choice(numbers)]
    new = ast.parse(generator.choice(forms).format(*texts), mode="eval").body
    if node.value is None or generator.random() < ALONE:
        return new
    return ast.BinOp(node.value, generator.choice(ARITHMETIC)(), new)
