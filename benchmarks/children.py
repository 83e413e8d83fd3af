"""Does the embedded model rewrite? Validity of its answers to the prompts of searches, and likeness to their parents.

`make children`. Prompts are drawn with a seed that training did not see. Likeness is the ratio of difflib to
the parent that is most alike: of the model's child, of the child that the grammar made, and of a program that the model
wrote to the plain prompt.
"""

import re
import statistics
from difflib import SequenceMatcher
from pathlib import Path
from random import Random

from dartune import params
from dartune.base_model.rewriting import Rewriting
from dartune.models.backend import Decoding
from dartune.models.transformers_backend import TransformersBackend
from dartune.pool.prompts import OPERATIONS
from dartune.referee.completions import judge
from dartune.referee.referee import MAX_SLOWDOWN, MEMORY_MIB, Referee
from dartune.tasks.task import Task

SEED, N_PROMPTS, N_PLAIN = 1000, 600, 300
DECODING = Decoding(temperature=1.0, top_p=0.95, max_new_tokens=256)
PARENT = re.compile(r"```python\n(.*?)```", re.DOTALL)


def main() -> None:
    """Print the table."""
    print("| task | operation | n | valid | child | grammar's child | random program | copies |")
    print("|---|---|---|---|---|---|---|---|")
    local = TransformersBackend(Path("models/embedded"))
    for name in params.read()["tasks"]:
        for row in rows(local, Task(name)):
            print(f"| {name} | " + " | ".join(row) + " |", flush=True)


def rows(local: TransformersBackend, task: Task) -> list[list[str]]:
    """Return the task's cells of the table: the plain prompt, then one row for each operation."""
    rewriting = Rewriting(task.name, SEED)
    examples = [rewriting.example() for _ in range(N_PROMPTS)]
    prompts = [prompt for prompt, _, _ in examples] + [task.prompt] * N_PLAIN
    texts = [completion.text for completion in local.complete(prompts, seed=SEED, decoding=DECODING)]
    with Referee(task, "train", max_slowdown=MAX_SLOWDOWN, memory_mib=MEMORY_MIB) as referee:
        judged = judge(referee, texts)
    random = [one.program for one in judged[N_PROMPTS:] if one.program]
    plain = [one.verdict.status == "ok" for one in judged[N_PROMPTS:]]
    table = [["plain", str(N_PLAIN), f"{statistics.mean(plain):.3f}", "", "", "", ""]]
    for operation in OPERATIONS:
        numbers = [i for i, (prompt, _, _) in enumerate(examples) if f"Operation: {operation}\n" in prompt]
        valid = statistics.mean(judged[i].verdict.status == "ok" for i in numbers)
        likeness = [alike(examples[i], judged[i].program, random, i) for i in numbers]
        means = [f"{statistics.mean(values):.3f}" for values in zip(*filter(None, likeness), strict=True)]
        table.append([operation, str(len(numbers)), f"{valid:.3f}", *(means or [""] * 4)])
    return table


def alike(example: tuple[str, str, str], child: str | None, random: list[str], number: int) -> list[float] | None:
    """Likeness to the nearest parent of three programs, and whether the child is a copy; None without either."""
    parents = [re.sub(r"_v\d+\b", "", text) for text in PARENT.findall(example[0])[:-1]]
    if child is None or not parents:
        return None
    others = (child, example[2], Random(number).choice(random))
    is_copy = child.strip() in [parent.strip() for parent in parents]
    return [*(max(ratio(parent, other) for parent in parents) for other in others), float(is_copy)]


def ratio(first: str, second: str) -> float:
    """Return how alike two texts are, from 0 to 1."""
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


if __name__ == "__main__":
    main()
