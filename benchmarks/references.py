"""Write tasks/*/references.json: optimal or near-optimal costs per instance, costed by the task itself.

`make references`, or of some tasks: python benchmarks/references.py max_independent_set. Routes by PyVRP;
independent sets and job shops by OR-tools' CP-SAT, which proves them optimal, or as published. Best known sizes of
admissible sets are literature values (Romera-Paredes et al. 2024). For bins the reference is a bound: what all items
together take. No optimum is known for nodes and steps: there it is the search with the multipliers of the linear
relaxation, by HiGHS, and the best of 240 proportional-integral controllers (Hairer and Wanner 1996) for each instance.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
from ortools.sat.python import cp_model
from pyvrp import Model
from pyvrp.stop import MaxRuntime
from scipy.optimize import linprog

from dartune.programs.verdict import Refused
from dartune.tasks.knapsack_bound import rollout as knapsacks
from dartune.tasks.step_size import cost as integrations
from dartune.tasks.step_size import rollout as steps
from dartune.tasks.task import Task

SCALE = 1e6  # PyVRP's distances are integers
SECONDS_PER_NODE = 0.08
MAX_SECONDS = 600.0
BOUNDED = "online_bin_packing"
ROUTES = ("tsp_construct", "cvrp_construct")
ADMISSIBLE_SETS = {(12, 7): 792, (15, 10): 3003, (21, 15): 43596}


def reference(task: str, split: str, number: int) -> float:
    """Cost of the best solution of one instance, as the referee counts it."""
    this = Task(task)
    instance = this.instances(split)[number]
    decision = np.array(SOLVERS[task](instance))
    return float(this.cost.compute_costs(this.cost.prepare([instance]), [decision])[0][0])


def shortest_walk(instance: dict[str, np.ndarray]) -> list[int]:
    """The nodes of PyVRP's best tour, or routes."""
    distances = instance["distances"]
    demands = instance.get("demands", np.zeros(len(distances), int))
    capacity = int(instance.get("capacity", 0))
    stop = MaxRuntime(SECONDS_PER_NODE * len(distances))
    routes = problem(distances, demands, capacity).solve(stop, seed=1, display=False).best.routes()
    return [node for route in routes for node in (0, *visited(route))]


def largest_set(instance: dict[str, np.ndarray]) -> list[int]:
    """The vertices of a largest independent set. Raises RuntimeError where it is not proved within MAX_SECONDS."""
    model, solver = cp_model.CpModel(), cp_model.CpSolver()
    is_taken = [model.new_bool_var(str(i)) for i in range(len(instance["adjacency"]))]
    for i, j in np.argwhere(np.triu(instance["adjacency"])).tolist():
        model.add_at_most_one(is_taken[i], is_taken[j])
    model.maximize(sum(is_taken))
    solver.parameters.max_time_in_seconds = MAX_SECONDS
    solver.parameters.num_workers = 1
    if solver.solve(model) != cp_model.OPTIMAL:
        raise RuntimeError(f"not solved to optimality in {MAX_SECONDS} s")
    return [i for i, taken in enumerate(is_taken) if solver.value(taken)]


def earliest_end(instance: dict[str, np.ndarray]) -> list[int]:
    """The jobs of CP-SAT's best schedule, in the order in which their operations start."""
    model, solver = cp_model.CpModel(), cp_model.CpSolver()
    times, machines = instance["times"].tolist(), instance["machines"].tolist()
    horizon = sum(map(sum, times))
    end = model.new_int_var(0, horizon, "end")
    starts = [[model.new_int_var(0, horizon, "") for _ in job] for job in times]
    on_machine: dict[int, list[cp_model.IntervalVar]] = {}
    for job, operations in enumerate(times):
        for i, seconds in enumerate(operations):
            interval = model.new_interval_var(starts[job][i], seconds, starts[job][i] + seconds, "")
            on_machine.setdefault(machines[job][i], []).append(interval)
            following = starts[job][i + 1] if i + 1 < len(operations) else end
            model.add(following >= starts[job][i] + seconds)
    for intervals in on_machine.values():
        model.add_no_overlap(intervals)
    model.minimize(end)
    solver.parameters.max_time_in_seconds = MAX_SECONDS
    solver.parameters.num_workers = 1
    if solver.solve(model) != cp_model.OPTIMAL:
        raise RuntimeError(f"not solved to optimality in {MAX_SECONDS} s")
    order = [(solver.value(start), i, job) for job, row in enumerate(starts) for i, start in enumerate(row)]
    return [job for _, _, job in sorted(order)]


def shortest_proof(instance: dict[str, np.ndarray]) -> list[float]:
    """The weights of constraints at each node that are the multipliers of the linear relaxation there."""
    return knapsacks.run(dual_multipliers, instance)


def dual_multipliers(values: np.ndarray, weights: np.ndarray, capacities: np.ndarray) -> np.ndarray:
    """What a unit of each capacity is worth in the linear relaxation; the same of all where none is scarce."""
    relaxed = linprog(-values, A_ub=weights.T, b_ub=capacities, bounds=(0, 1), method="highs")
    multipliers = np.maximum(-relaxed.ineqlin.marginals, 0.0)
    return multipliers if multipliers.any() else np.ones(len(capacities))


def least_work(instance: dict[str, Any]) -> list[float]:
    """The steps of the controller that takes the least work. Those that come to too small steps are left out."""
    prepared = integrations.prepare([instance])
    works: list[tuple[float, list[float]]] = []
    for settings in product(*CONTROLLERS):
        with suppress(Refused):
            sizes = steps.run(controller(*settings), instance)
            works.append((integrations.compute_costs(prepared, [np.array(sizes)])[0][0], sizes))
    return min(works)[1]


CONTROLLERS = ((0.4, 0.5, 0.6, 0.7, 0.8, 0.9), (0.1, 0.13, 0.16, 0.2), (0.0, 0.04, 0.08, 0.12, 0.16), (3.0, 10.0))


def controller(safety: float, integral: float, proportional: float, largest: float) -> Callable[..., float]:
    """A rule for the next step: exponents of the error and of the one before, and the largest growth."""

    def next_step(step: float, error: float, _: float, previous_error: float, n_rejected: int) -> float:
        if error >= 1:
            return step * max(0.2, safety * float(error ** (-1 / 5)))
        growth = safety * float(max(error, 1e-10) ** -integral * max(previous_error, 1e-10) ** proportional)
        return step * min(1.0 if n_rejected else largest, max(0.2, growth if previous_error else largest))

    return next_step


SOLVERS: dict[str, Callable[[dict[str, np.ndarray]], list[int] | list[float]]] = {
    "tsp_construct": shortest_walk,
    "cvrp_construct": shortest_walk,
    "max_independent_set": largest_set,
    "job_shop": earliest_end,
    "knapsack_bound": shortest_proof,
    "step_size": least_work,
}


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
    asked = sys.argv[1:] or [*SOLVERS, BOUNDED, "admissible_set"]
    for name in (name for name in (*SOLVERS, BOUNDED) if name in asked):
        task, costs = Task(name), {}
        for split in task.part("instances").SPLITS:
            costs[split] = known(task, split) or solved(name, split, len(task.instances(split)))
            print(f"{name} {split}: mean {np.mean(costs[split]):.4f}", file=sys.stderr, flush=True)
        write(name, costs)
    if "admissible_set" not in asked:
        return
    sizes = Task("admissible_set").part("instances").SPLITS
    write("admissible_set", {split: [ADMISSIBLE_SETS[size]] for split, size in sizes.items()})


def known(task: Task, split: str) -> list[float]:
    """The published optima of a split, or bounds; [] where it has none."""
    instances = task.part("instances")
    if task.name == BOUNDED:
        return [float(np.ceil(one["items"].sum() / one["capacity"])) for one in task.instances(split)]
    if split == "benchmark" and task.name in ROUTES:
        return [1.0] * len(task.instances(split))  # distances are fractions of the published optimum
    if (task.name, split) == ("job_shop", "benchmark"):
        return [float(job_shop["optimum"]) for job_shop in instances.published().values()]
    if (task.name, split) == ("max_independent_set", "dimacs"):
        return [float(instances.CLIQUE_NUMBERS[name]) for name in instances.DIMACS]
    return []


def solved(name: str, split: str, n: int) -> list[float]:
    with ProcessPoolExecutor() as pool:
        return list(pool.map(reference, [name] * n, [split] * n, range(n)))


def write(task: str, costs: dict[str, list[float]]) -> None:
    lines = ",\n".join(f'  "{split}": {json.dumps(values)}' for split, values in costs.items())
    (Task(task).folder / "references.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
