"""train: the model tuned on the pairs. Usage: train.py TASK PAIRS BASE LIMITS OUTPUT METRICS PLOTS RESOURCES"""

import json
import sys
from pathlib import Path

from dartune import params
from dartune.errors import one_line
from dartune.files.resources import measured
from dartune.training.train import Outputs, Sources, write_tuned
from dartune.training.trainers import options_of


@one_line
def main(task: str, pairs: str, base: str, limits: str, output: str, metrics: str, plots: str, resources: str) -> None:
    section = params.section("train", write_tuned)
    with measured(Path(resources)):
        sources, outputs = Sources(Path(pairs), Path(base), None), Outputs(Path(output), Path(metrics), Path(plots))
        write_tuned(
            task, sources, json.loads(Path(limits).read_text()), options_of(section["method"]), outputs, **section
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
