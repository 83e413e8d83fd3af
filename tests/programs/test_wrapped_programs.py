"""Known programs inside answers that are put together by chance: each must score what the program scores by itself."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from dartune.referee.completions import judge
from dartune.referee.referee import Referee
from dartune.tasks.task import Task

N_ANSWERS = 300
SIGNATURE = "(current_node, destination_node, unvisited_nodes, distance_matrix)"
# Imports, helpers and constants, and the function of each program; without their helpers they fail.
PROGRAMS = {
    "nearest": ("", "", f"def select_next_node{SIGNATURE}:\n    return unvisited_nodes[0]\n"),
    "lookahead": (
        "import numpy as np\n",
        "WEIGHT = 0.4\n\n\ndef mean_distance(node, nodes, distances):\n    return np.mean(distances[node][nodes])\n",
        f"def select_next_node{SIGNATURE}:\n"
        '    """Weigh how near a node is, and how far it is from the others."""\n'
        "    scores = [\n"
        "        distance_matrix[current_node][node] - WEIGHT * mean_distance(node, unvisited_nodes, distance_matrix)\n"
        "        for node in unvisited_nodes\n"
        "    ]\n"
        "    return unvisited_nodes[int(np.argmin(scores))]\n",
    ),
    "return trip": (
        "from math import sqrt\n",
        "def weight(n):\n    return 1 / sqrt(n)\n",
        f"def select_next_node{SIGNATURE}:\n"
        "    here, back = distance_matrix[current_node], distance_matrix[destination_node]\n"
        "    return min(unvisited_nodes, key=lambda node: here[node] - weight(len(unvisited_nodes)) * back[node])\n",
    ),
}
DRAFT = f"def select_next_node{SIGNATURE}:\n    return unvisited_nodes[-1]\n"
THOUGHTS = [
    "",
    f"<think>\nPerhaps\n```python\n{DRAFT}```\nNo.\n</think>\n",
    f"Only the last?\n{DRAFT}\nNo, wait.\n</think>\n\n",
    "<think>It's a greedy choice; distance = cost.</think>",
]
BEFORE = [
    "",
    "Sure! Here's an improved version:\n\n",
    "score = distance - penalty is what this minimises:\n\n",
    "## Idea\n\n1. Look at each node (see below.\n2. Take the best\n\n",
    "The function takes `current_node` and returns a node.\n\n",
]
AFTER = [
    "",
    "\nComplexity: O(n)\n",
    "\n**Explanation:**\n- It's greedy;\n- it doesn't look back.\n",
    "\nThis function `select_next_node` is better than the given one because it weighs distances.\n",
]
EXAMPLES = [
    "",
    "\nnext_node = select_next_node(0, 0, [1, 2], None)\nprint(next_node)\n",
    "\ndistance_matrix = np.load('distances.npy')\nnode = 0\nwhile True:\n    node = select_next_node(node)\n",
    "\nassert select_next_node(0, 0, [1], [[0, 1], [1, 0]]) == 1\n",
    "\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n",
    '\nif __name__ == "__main__":\n    main()\n',
]
FENCES: list[Callable[[str], str]] = [
    lambda code: f"```python\n{code}```\n",
    lambda code: f"```\n{code}```\n",
    lambda code: f"**Code:**```python\n{code}```\n",
    lambda code: f"````py\n{code}````\n",
    lambda code: f"~~~python\n{code}~~~\n",
    lambda code: f"<code>\n{code}</code>\n",
    lambda code: "- ```python\n" + "".join(f"  {line}\n" if line else "\n" for line in code.split("\n")) + "  ```\n",
]


def wrapped(parts: tuple[str, str, str], rng: Random) -> str:
    """Return an answer that holds the program."""
    imports, helpers, function = parts
    if imports and rng.random() < 0.3:  # into the function, where the helpers do not see them
        head, body = function.split("\n", 1)
        function = f"{head}\n    {imports}{body}"
    example, fence = rng.choice(EXAMPLES), rng.choice(FENCES)
    thought, before, after = rng.choice(THOUGHTS), rng.choice(BEFORE), rng.choice(AFTER)
    shape = rng.random()
    if shape < 0.25:  # no fence at all
        return f"{thought}{before}{imports}\n{helpers}\n\n{function}{example}{after}"
    if shape < 0.4 and helpers:  # the helpers in a fence of their own
        first, second = rng.sample([fence(f"{imports}{helpers}"), fence(f"{function}{example}")], 2)
        return f"{thought}{before}{first}\nand\n\n{second}{after}"
    code = f"{imports}\n{function}\n{helpers}" if rng.random() < 0.5 else f"{imports}\n{helpers}\n{function}"
    return f"{thought}{before}{fence(code + example)}{after}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_wrapped_program_scores_what_it_scores_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no verdict is cached
    rng = Random(f"wrapped {name}")
    answers = [wrapped(PROGRAMS[name], rng) for _ in range(N_ANSWERS // len(PROGRAMS))]
    with Referee(Task("tsp_construct"), "train", max_slowdown=1000, memory_mib=512) as referee:
        (alone,) = referee.judge(["\n\n".join(PROGRAMS[name])])
        verdicts = [one.verdict for one in judge(referee, answers)]
    assert alone.status == "ok"
    wrong = [
        (verdict, answer) for verdict, answer in zip(verdicts, answers, strict=True) if verdict.score != alone.score
    ]
    assert not wrong, (
        f"{len(wrong)} of {len(answers)}; the first: {wrong[0][0].status}, {wrong[0][0].reason}\n{wrong[0][1]}"
    )
