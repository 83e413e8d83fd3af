"""DVC experiments that a benchmark compares: queued where they do not exist, and run two at a time."""

import os
import subprocess
from pathlib import Path

from dartune.presets import word

RESOURCES = Path(".work/resources").absolute()  # what stages of experiments took, by experiment
METRICS = ("validity", "mean", "median", "top_10", "better_than_template", "distinct_behaviours")  # what tables show
SEEDED = ("pool", "sample", "pairs", "train", "evaluate")  # stages whose seed another seed of the pipeline changes


def existing() -> set[str]:
    """Return the names of all finished experiments. Asks git, since DVC would wait for the lock that a run holds."""
    refs = subprocess.run(["git", "for-each-ref", "--format=%(refname)", "refs/exps"], capture_output=True, text=True)
    return {ref.rpartition("/")[2] for ref in refs.stdout.split()}


def run(settings: dict[str, dict[str, object]], targets: list[str], extra: list[str]) -> None:
    """Run the experiments that do not exist yet, in order, in copies of the working tree.

    settings: by name of the experiment, values by dotted parameter. targets: stages to run, [] for all. extra:
    NAME=VALUE, for every experiment.
    """
    done = existing()
    for name in [name for name in settings if name not in done]:
        options = [*words(settings[name]), *(part for setting in extra for part in ("-S", setting))]
        subprocess.run(["dvc", "exp", "run", "-q", "--queue", "-n", name, *options, *targets], check=True)
    environment = os.environ | {"DARTUNE_RESOURCES": str(RESOURCES)}
    subprocess.run(["dvc", "exp", "run", "--run-all", "-j", "2"], check=True, env=environment)


def words(settings: dict[str, object]) -> list[str]:
    """Return the options of `dvc exp run` that set these values."""
    return [part for key, value in settings.items() for part in ("-S", f"{key}={word(value)}")]
