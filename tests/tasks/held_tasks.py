"""Our tasks and that of `dartune task new`, held against the protocols by mypy: nothing runs this file."""

from dartune.authoring.new_task import cost as new_cost
from dartune.authoring.new_task import instances as new_instances
from dartune.authoring.new_task import rollout as new_rollout
from dartune.tasks.admissible_set import cost as sets_cost
from dartune.tasks.admissible_set import instances as sets_instances
from dartune.tasks.admissible_set import rollout as sets_rollout
from dartune.tasks.contract import Cost, Instances, Rollout
from dartune.tasks.cvrp_construct import cost as cvrp_cost
from dartune.tasks.cvrp_construct import instances as cvrp_instances
from dartune.tasks.cvrp_construct import rollout as cvrp_rollout
from dartune.tasks.job_shop import cost as shops_cost
from dartune.tasks.job_shop import instances as shops_instances
from dartune.tasks.job_shop import rollout as shops_rollout
from dartune.tasks.knapsack_bound import cost as knapsacks_cost
from dartune.tasks.knapsack_bound import instances as knapsacks_instances
from dartune.tasks.knapsack_bound import rollout as knapsacks_rollout
from dartune.tasks.max_independent_set import cost as graphs_cost
from dartune.tasks.max_independent_set import instances as graphs_instances
from dartune.tasks.max_independent_set import rollout as graphs_rollout
from dartune.tasks.online_bin_packing import cost as bins_cost
from dartune.tasks.online_bin_packing import instances as bins_instances
from dartune.tasks.online_bin_packing import rollout as bins_rollout
from dartune.tasks.step_size import cost as steps_cost
from dartune.tasks.step_size import instances as steps_instances
from dartune.tasks.step_size import rollout as steps_rollout
from dartune.tasks.tsp_construct import cost as tsp_cost
from dartune.tasks.tsp_construct import instances as tsp_instances
from dartune.tasks.tsp_construct import rollout as tsp_rollout

HELD: list[tuple[Instances, Rollout, Cost]] = [
    (new_instances, new_rollout, new_cost),
    (sets_instances, sets_rollout, sets_cost),
    (cvrp_instances, cvrp_rollout, cvrp_cost),
    (shops_instances, shops_rollout, shops_cost),
    (knapsacks_instances, knapsacks_rollout, knapsacks_cost),
    (graphs_instances, graphs_rollout, graphs_cost),
    (bins_instances, bins_rollout, bins_cost),
    (steps_instances, steps_rollout, steps_cost),
    (tsp_instances, tsp_rollout, tsp_cost),
]
