"""Write tasks/*/references.json: near-optimal costs per instance, by PyVRP, checked and costed by the task's referee.

`make references`. Best known sizes of admissible sets are literature values (Romera-Paredes et al. 2024).
"""

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import Any

import numpy as np
from pyvrp import Model
from pyvrp.stop import MaxRuntime

from dartune.tasks.task import Task

SCALE = 1e6  # PyVRP's distances are integers
SECONDS_PER_NODE = 0.08
ADMISSIBLE_SETS = {(12, 7): 792, (15, 10): 3003, (21, 15): 43596}


def reference(task: str, split: str, number: int) -> float:
    """Cost of PyVRP's best solution of one instance, as the referee counts it."""
    instance = Task(task).instances(split)[number]
    distances = instance["distances"]
    demands = instance.get("demands", np.zeros(len(distances), int))
    capacity = int(instance.get("capacity", 0))
    stop = MaxRuntime(SECONDS_PER_NODE * len(distances))
    routes = problem(distances, demands, capacity).solve(stop, seed=1, display=False).best.routes()
    walk = [node for route in routes for node in (0, *visited(route))]
    return float(Task(task).cost.compute_costs(instance, walk)[0])


def visited(route: Any) -> list[int]:
    """Node numbers of a route's clients; the depot is node 0, client k is node k + 1."""
    return [visit.idx + 1 for visit in route if visit.is_client()]


def problem(distances: np.ndarray, demands: np.ndarray, capacity: int) -> Model:
    model = Model()
    n_vehicles = len(distances) - 1 if capacity else 1
    locations = [model.add_location(0, 0) for _ in distances]
    depot = model.add_depot(locations[0])
    model.add_vehicle_type(n_vehicles, capacity=[capacity], start_depot=depot, end_depot=depot)
    for location, demand in zip(locations[1:], demands[1:], strict=True):
        model.add_client(location, delivery=[int(demand)])
    for (i, a), (j, b) in product(enumerate(locations), repeat=2):
        model.add_edge(a, b, distance=round(SCALE * distances[i, j]))
    return model


def main() -> None:
    for name in ("tsp_construct", "cvrp_construct"):
        task, costs = Task(name), {}
        for split in task.part("instances").SPLITS:
            numbers = range(len(task.instances(split)))
            with ProcessPoolExecutor() as pool:
                costs[split] = list(pool.map(reference, *zip(*((name, split, i) for i in numbers), strict=True)))
            print(f"{name} {split}: mean {np.mean(costs[split]):.4f}", file=sys.stderr, flush=True)
        write(name, costs)
    sizes = Task("admissible_set").part("instances").SPLITS
    write("admissible_set", {split: [ADMISSIBLE_SETS[size]] for split, size in sizes.items()})


def write(task: str, costs: dict[str, list[float]]) -> None:
    lines = ",\n".join(f'  "{split}": {json.dumps(values)}' for split, values in costs.items())
    (Task(task).folder / "references.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
