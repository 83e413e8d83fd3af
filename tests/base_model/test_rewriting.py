"""Children in the grammars: draws that can be replayed, mutants like their parents, and the prompts for them."""

import ast
import re
from collections.abc import Callable
from difflib import SequenceMatcher
from random import Random
from statistics import mean
from typing import Any

import pytest

from dartune.base_model.base import CHAT_TEMPLATE, train_tokenizer
from dartune.base_model.rewriting import SHARES, TEMPLATE_SHARE, Rewriting, form
from dartune.pool.prompts import INSTRUCTIONS, OPERATIONS, Parent, operator_prompt, version_prompt, without_docstrings
from dartune.programs.canonical import parse
from dartune.programs.features import family
from dartune.tasks.grammar import crossover, mutant, recorded
from dartune.tasks.task import Task, names

TASKS = ("admissible_set", "cvrp_construct", "tsp_construct")
SEEDS = range(200)


def drawn(task: str, seed: int) -> tuple[str, Any]:
    return recorded(Task(task).grammar.draw, Random(seed))


def alike(one: str, other: str) -> float:
    """1 for equal programs; the head that all share counts for nothing."""
    bodies = [text.split("\n", 4)[-1] for text in (one, other)]
    return SequenceMatcher(None, *bodies, autojunk=False).ratio()


# ---- draws


def test_the_grammars_are_those_of_all_tasks() -> None:
    assert tuple(names()) == TASKS


@pytest.mark.parametrize("task", TASKS)
def test_all_known_draws_give_the_same_program_again(task: str) -> None:
    draw = Task(task).grammar.draw
    for seed in SEEDS:
        text, draws = drawn(task, seed)
        again, same = recorded(draw, Random(-1), draws)
        assert (again, dict(same)) == (text, dict(draws))


@pytest.mark.parametrize("task", TASKS)
def test_a_recorded_program_is_one_that_the_grammar_draws_anyway(task: str) -> None:
    # the numbers differ from those of Random itself, which draws integers by bits; the distribution is the same
    draw, n = Task(task).grammar.draw, 600
    recorded_families = [family(parse(drawn(task, seed)[0]), Task(task).function) for seed in range(n)]
    rng = Random(0)
    families = [family(parse(draw(rng)), Task(task).function) for _ in range(n)]
    for each in set(families):
        p = families.count(each) / n
        if p > 0.05:  # 4 standard deviations of the difference of two shares
            assert recorded_families.count(each) / n == pytest.approx(p, abs=4 * (2 * p * (1 - p) / n) ** 0.5)


def test_known_draws_are_taken_from_the_table_and_others_are_made() -> None:
    def two(rng: Random) -> str:
        return f"{rng.random()} {rng.random()}"

    text, draws = recorded(two, Random(0))
    assert text == f"{0.8444218515250481} {0.7579544029403025}"  # what Random(0) begins with
    assert list(draws.values()) == [0.8444218515250481, 0.7579544029403025]
    first, second = draws
    for known, expected in ((first, [draws[first], Random(5).random()]), (second, [Random(5).random(), draws[second]])):
        text, _ = recorded(two, Random(5), {known: draws[known]})
        assert text == "{} {}".format(*expected)


@pytest.mark.parametrize("task", TASKS)
def test_a_mutant_keeps_all_known_draws_but_as_many_as_were_asked_for(task: str) -> None:
    draw = Task(task).grammar.draw
    for seed in SEEDS:
        _, draws = drawn(task, seed)
        _, changed = mutant(draw, Random(seed), draws, 2)
        common = set(draws) & set(changed)
        assert sum(draws[place] != changed[place] for place in common) <= 2


@pytest.mark.parametrize("task", TASKS)
def test_a_mutant_of_one_draw_differs_in_few_draws(task: str) -> None:
    draw, shares = Task(task).grammar.draw, []
    for seed in SEEDS:
        _, draws = drawn(task, seed)
        _, changed = mutant(draw, Random(seed), draws, 1)
        kept = sum(changed.get(place) == value for place, value in draws.items())
        shares.append(kept / len(draws))
    assert mean(shares) > 0.8  # one draw of about ten, and sometimes those that hang on it
    assert sorted(shares)[len(shares) // 2] > 0.85


@pytest.mark.parametrize("task", TASKS)
def test_a_mutant_of_no_draw_is_its_parent(task: str) -> None:
    text, draws = drawn(task, 1)
    assert mutant(Task(task).grammar.draw, Random(0), draws, 0)[0] == text


@pytest.mark.parametrize("task", TASKS)
def test_a_mutant_of_more_draws_than_there_are_is_a_program(task: str) -> None:
    _, draws = drawn(task, 1)
    ast.parse(mutant(Task(task).grammar.draw, Random(0), draws, len(draws) + 10)[0])


@pytest.mark.parametrize("task", TASKS)
def test_a_crossover_takes_every_draw_from_one_parent_or_makes_it_anew(task: str) -> None:
    draw, from_both = Task(task).grammar.draw, 0
    for seed in SEEDS:
        (_, first), (_, second) = drawn(task, seed), drawn(task, seed + 1000)
        text, draws = crossover(draw, Random(seed), first, second)
        ast.parse(text)
        known = [place for place in draws if place in first or place in second]
        assert all(draws[place] in (first.get(place), second.get(place)) for place in known)
        differing = [place for place in known if first.get(place) != second.get(place)]
        from_both += {draws[place] == first.get(place) for place in differing} == {True, False}
    assert from_both > 150


@pytest.mark.parametrize("task", TASKS)
def test_a_program_crossed_with_itself_is_itself(task: str) -> None:
    text, draws = drawn(task, 3)
    assert crossover(Task(task).grammar.draw, Random(0), draws, draws)[0] == text


# ---- children


class Operated(Rewriting):
    """Examples of one operation."""

    def of(self, operation: str) -> tuple[str, str, str]:
        return self._version() if operation == "version" else self._operated(operation)


def parents(prompt: str) -> list[str]:
    """The programs in a prompt, under the task's own name; the last block, which is the template, is none."""
    blocks = re.findall(r"```python\n(.*?)```", prompt, re.DOTALL)[:-1]
    return [re.sub(rf"_v{i}\b", "", block) for i, block in enumerate(blocks)]


def examples(task: str, operation: str, n: int) -> list[tuple[str, str, list[str]]]:
    """(answer, program, parents) of n examples none of whose parents is the template, which is nobody's parent."""
    made, found = Operated(task, 0), []
    while len(found) < n:
        prompt, answer, program = made.of(operation)
        shown = parents(prompt)
        if all("->" not in each for each in shown):  # the template alone says what its function returns
            found.append((answer, program, shown))
    return found


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(("operation", "margin"), [("m1", 0.2), ("m2", 0.4), ("e2", 0.2), ("version", 0.25)])
def test_children_resemble_a_parent_more_than_a_program_drawn_at_random_does(
    task: str, operation: str, margin: float
) -> None:
    rng, draw = Random(7), Task(task).grammar.draw
    close, far = [], []
    for _, program, shown in examples(task, operation, 200):
        other = draw(rng)
        close.append(max(alike(parent, program) for parent in shown))
        far.append(max(alike(parent, other) for parent in shown))
    assert mean(close) > mean(far) + margin


@pytest.mark.parametrize("task", TASKS)
def test_m2_changes_numbers_and_nearly_always_nothing_else(task: str) -> None:
    found = examples(task, "m2", 200)
    assert sum(form(program) == form(parent) for _, program, (parent,) in found) > 180
    assert sum(program == parent for _, program, (parent,) in found) < 20


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("operation", ["m1", "e2"])
def test_m1_and_e2_nearly_always_change_the_form(task: str, operation: str) -> None:
    found = examples(task, operation, 200)
    assert sum(form(program) in {form(parent) for parent in shown} for _, program, shown in found) < 10


@pytest.mark.parametrize("task", TASKS)
def test_e1_nearly_always_answers_with_another_family(task: str) -> None:
    def of(program: str) -> str:
        return family(parse(program), Task(task).function)

    found = examples(task, "e1", 200)
    assert sum(of(program) in {of(parent) for parent in shown} for _, program, shown in found) < 10


def test_the_form_of_a_program_is_its_text_without_numbers() -> None:
    assert form("s = 0.5 * a + b[:15] ** 2\n") == form("s = 12 * a + b[:3] ** 1.25\n") == "s = # * a + b[:#] ** #\n"
    assert form("s = a\n") != form("s = b\n")


# ---- examples


@pytest.mark.parametrize("task", TASKS)
def test_the_same_seed_gives_the_same_examples_and_another_one_others(task: str) -> None:
    one, same, other = (Rewriting(task, seed) for seed in (0, 0, 1))
    first = [one.example() for _ in range(30)]
    assert first == [same.example() for _ in range(30)]
    assert first != [other.example() for _ in range(30)]


@pytest.fixture(scope="module", params=TASKS)
def lessons(request: pytest.FixtureRequest) -> tuple[Task, list[tuple[str, str, str]]]:
    """The task and 400 examples."""
    made = Rewriting(request.param, 0)
    return Task(request.param), [made.example() for _ in range(400)]


def operation(prompt: str) -> str:
    (found,) = re.findall(r"^Operation: (.*)$", prompt, re.MULTILINE)
    return str(found)


def test_all_operations_come_up_about_as_often_as_their_shares(lessons: Any) -> None:
    found = [operation(prompt) for prompt, _, _ in lessons[1]]
    assert set(found) == set(OPERATIONS) == set(SHARES)
    for name, share in SHARES.items():  # 4 standard deviations
        p = share / sum(SHARES.values())
        assert found.count(name) / 400 == pytest.approx(p, abs=4 * (p * (1 - p) / 400) ** 0.5)


def test_the_template_is_sometimes_the_parent_since_searches_start_from_it(lessons: Any) -> None:
    task, made = lessons
    first = [parents(prompt)[:1] for prompt, _, _ in made if operation(prompt) in ("m1", "m2", "version")]
    start = without_docstrings(task.template)
    n_starts = sum(bool(each) and each[0].strip() == start.strip() for each in first)
    expected = TEMPLATE_SHARE * len(first)
    assert n_starts == pytest.approx(expected, abs=4 * (expected * (1 - TEMPLATE_SHARE)) ** 0.5)


def test_each_prompt_is_the_one_that_a_search_makes_of_the_same_parents(lessons: Any) -> None:
    task, made = lessons
    for prompt, _, _ in made:
        shown, name = parents(prompt), operation(prompt)
        if name == "version":
            assert prompt == version_prompt(task, shown)
        else:
            thoughts = re.findall(r"^Program \d+\. ?(.*)$", prompt, re.MULTILINE)
            pairs = [Parent(program, thought) for program, thought in zip(shown, thoughts, strict=True)]
            assert prompt == operator_prompt(task, name, pairs)


def test_an_answer_is_a_thought_and_a_program_or_the_next_version(lessons: Any) -> None:
    task, made = lessons
    for prompt, answer, program in made:
        ast.parse(program)
        if operation(prompt) == "version":
            assert answer == program.replace(task.function, f"{task.function}_v{len(parents(prompt))}")
        else:
            thought, text = answer.split("\n", 1)
            assert text == program and re.fullmatch(r"\{[a-z+]+ of [\d,]+\}", thought)


# ---- what the embedded model reads of a prompt


@pytest.fixture(scope="module")
def render() -> Callable[[str], str]:
    tokenizer = train_tokenizer([drawn("tsp_construct", seed)[0] for seed in range(50)], 400)
    assert tokenizer.chat_template == CHAT_TEMPLATE

    def rendered(prompt: str) -> str:
        messages = [{"role": "user", "content": prompt}]
        return str(tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))

    return rendered


def test_the_chat_template_reads_operation_parents_and_signature(lessons: Any, render: Callable[[str], str]) -> None:
    task, made = lessons
    for prompt, _, _ in made:
        name, blocks = operation(prompt), re.findall(r"```python\n(.*?)```", prompt, re.DOTALL)[:-1]
        asked = f"{task.function}_v{len(blocks)}" if name == "version" else task.function
        signature = task.signature.replace(f"def {task.function}(", f"def {asked}(")
        shown = "".join(f"<parent>{block}" for block in blocks)
        assert render(prompt) == f"<s><{name}>{shown}{signature}<program>"


@pytest.mark.parametrize("task", TASKS)
def test_the_chat_template_reads_the_signature_alone_of_the_tasks_own_prompt(
    task: str, render: Callable[[str], str]
) -> None:
    assert render(Task(task).prompt) == f"<s>{Task(task).signature}<program>"


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_the_operation_is_one_token_of_the_embedded_model(name: str) -> None:
    tokenizer = train_tokenizer(["x = 1\n"], 400)
    assert len(tokenizer.tokenize(f"<{name}>")) == len(tokenizer.tokenize("<parent>")) == 1


def test_a_line_in_a_program_that_looks_like_an_operation_is_none(render: Callable[[str], str]) -> None:
    task, program = Task("tsp_construct"), 'def f():\n    return """\nOperation: m2\n"""\n'
    prompt = operator_prompt(task, "m1", [Parent(program)])
    assert render(prompt) == f"<s><m1><parent>{program}{task.signature}<program>"


def test_a_finished_conversation_renders_the_answer_and_its_end() -> None:
    tokenizer = train_tokenizer(["x = 1\n"], 400)
    messages = [{"role": "user", "content": Task("tsp_construct").prompt}, {"role": "assistant", "content": "x = 1\n"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == f"<s>{Task('tsp_construct').signature}<program>x = 1\n</s>"


# ---- docstrings


DOCSTRINGS = {
    "one line": ('def f(n):\n    """Doc."""\n    return n\n', "def f(n):\n    return n\n"),
    "several lines": ('def f(n):\n    """Doc.\n    More.\n    """\n    return n\n', "def f(n):\n    return n\n"),
    "simple quotes": ("def f(n):\n    'Doc.'\n    return n\n", "def f(n):\n    return n\n"),
    "comments stay": (
        'def f(n):\n    # one\n    """Doc."""\n    # two\n    return n  # three\n',
        "def f(n):\n    # one\n    # two\n    return n  # three\n",
    ),
    "blank lines stay": (
        'import a\n\n\ndef f(n):\n    """D."""\n\n    return n\n',
        "import a\n\n\ndef f(n):\n\n    return n\n",
    ),
    "of nested functions": (
        'def f(n):\n    """Doc."""\n\n    def g():\n        """Doc."""\n        return n\n\n    return g()\n',
        "def f(n):\n\n    def g():\n        return n\n\n    return g()\n",
    ),
    "of methods": (
        'class A:\n    def f(self):\n        """Doc."""\n        return 1\n',
        "class A:\n    def f(self):\n        return 1\n",
    ),
    "a body of nothing else stays": ('def f(n):\n    """Doc."""\n', 'def f(n):\n    """Doc."""\n'),
    "other texts stay": (
        'def f(n):\n    x = """Text."""\n    """Late."""\n    return x\n',
        'def f(n):\n    x = """Text."""\n    """Late."""\n    return x\n',
    ),
    "what does not parse stays": ('def f(n:\n    """Doc."""\n', 'def f(n:\n    """Doc."""\n'),
    "nothing": ("", ""),
}


@pytest.mark.parametrize(("program", "expected"), DOCSTRINGS.values(), ids=DOCSTRINGS)
def test_docstrings_are_left_out_of_what_a_prompt_shows(program: str, expected: str) -> None:
    assert without_docstrings(program) == expected


ODD_LINES = {
    "a form feed": "x = 1\n\x0c\ndef f(n):\n    'Doc.'\n    return n\n",
    "a line separator in a text": "x = '\u2028'\n\n\ndef f(n):\n    'Doc.'\n    return n\n",
    "carriage returns": "x = 1\r\ndef f(n):\r\n    'Doc.'\r\n    return n\r\n",
    "code on the docstring's line": "def f(n): 'Doc.'; return n\n",
    "code on the docstring's last line": "def f(n):\n    '''Doc.\n    More.'''; return n\n",
    "blank lines in a docstring": "def f(n):\n    '''Doc.\n\n    More.'''\n    return n\n",
}


@pytest.mark.parametrize("program", ODD_LINES.values(), ids=ODD_LINES)
def test_a_program_without_its_docstrings_is_the_same_program(program: str) -> None:
    shown = without_docstrings(program)
    assert ast.dump(parse(shown)) == ast.dump(parse(program))


@pytest.mark.parametrize("task", TASKS)
def test_what_a_prompt_shows_of_a_grammars_program_is_all_of_it(task: str) -> None:
    for seed in SEEDS:
        text, _ = drawn(task, seed)
        assert without_docstrings(text) == text
