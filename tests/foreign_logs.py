"""Logs as other tools write them, for tests of what is read of them and of the pools that they become."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dartune.pool.import_pool import import_pool

TASK = "tsp_construct"
NEAREST = "def select_next_node(c, d, u, m):\n    return u[0]\n"
FARTHEST = "def select_next_node(c, d, u, m):\n    return u[-1]\n"
STAYS = "def select_next_node(c, d, u, m):\n    return c\n"

# One record of each tool, as it writes them. LLM4AD: str(Function) ends with an empty line.
LLM4AD = {
    "sample_order": 1,
    "algorithm": "{The node that is nearest.}",
    "function": f"{NEAREST}\n",
    "score": -7.03,
    "program": f"import numpy as np\n\n{NEAREST}\n",
}
EOH = {"algorithm": None, "code": f"import numpy as np\n\n{NEAREST}", "objective": 0.03984, "other_inf": None}
EVOTUNE = {
    "function_str": FARTHEST,
    "imports_str": "import numpy as np",
    "score": -412.0,
    "true_score": float("nan"),
    "fail_flag": 0,
    "fail_exception": "",
    "correct_flag": 1,
    "chat": [{"role": "user", "content": "Write heuristics()."}, {"role": "assistant", "content": "Sure!"}],
    "prompt": {"island_id": 3, "min_prompt_score": -430.0, "temperature": 0.9},
    "eval": {"idx_process": -1, "weight_key": []},
    "function_num": 12,
    "prompt_num": 4,
}
FUNSEARCH = {
    "name": "select_next_node",
    "args": "here, home, left, m",
    "body": "  best = left[0]\n\n  return best",
    "return_type": "int",
    "docstring": None,
}


def file_of(content: Any, name: str = "pool.json") -> Path:
    """A file with this text, these bytes, or this value as JSON."""
    content = content if isinstance(content, str | bytes) else json.dumps(content, indent=4)
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(name)


def lines(*records: dict[str, Any]) -> str:
    return "".join(f"{json.dumps(record)}\n" for record in records)


def imported(*files: Path, task: str = TASK) -> list[dict[str, Any]]:
    import_pool(task, list(files), Path("imported"))
    return list(pq.read_table(f"imported/{task}.parquet").to_pylist())


def completions(*files: Path, task: str = TASK) -> list[str]:
    return [row["completion"] for row in imported(*files, task=task)]
