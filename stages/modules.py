"""modules: the parameters checked, and the code that each stage runs as hashes. Usage: modules.py STAGES OUTPUT"""

import sys
from pathlib import Path

from dartune.errors import one_line
from dartune.files.modules import write_modules
from dartune.tasks.task import Task
from dartune.training.trainers import in_turn
from dartune.validation import check


@one_line
def main(stages: str, output: str) -> None:
    content = check()
    learnt, remembered = content["embedded"]["tasks"], content["train"]["probe"]["remember"]
    transferred = content["evaluate"]["transfer"]
    used = sorted({*content["tasks"], *learnt, *remembered, *transferred})
    trainers = {name: content["trainers"][name] for name in in_turn(content["train"]["method"])}
    write_modules(
        Path(stages),
        Path(output),
        tasks={name: Task(name).folder for name in used},
        learnt=learnt,
        remembered=remembered,
        transferred=transferred,
        trainers=trainers,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
