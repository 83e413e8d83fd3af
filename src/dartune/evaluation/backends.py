"""The back end of the base or the tuned model: run here, or by a server that has both under these names."""

from dataclasses import replace
from pathlib import Path

from dartune.models.backend import Backend
from dartune.tasks.task import Task


def open_backend(name: str, task: Task, base: Path, tuned: Path | None, server: str | None) -> Backend:
    """Return the back end of a model. name: "base", or "tuned" with the folder of its weights.

    server: a server's .yaml, whose `model` is taken to be `name`; None to run the model here. Raises UserError where
    the model or the file cannot be opened.
    """
    if server is not None:
        from dartune.models.openai_backend import open_server

        return replace(open_server(Path(server)), model=name)
    from dartune.models.transformers_backend import TransformersBackend

    return TransformersBackend(base, tuned, task.function)
