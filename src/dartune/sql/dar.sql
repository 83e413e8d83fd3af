-- Diversity-aware rank-based pairs (arXiv 2507.10614, section 3.2), drawn without replacement: the paper's rule.
-- grain: one row per pair
-- in:  scored, through candidates() and dar_draws() of macros.sql
-- out: pair, chosen, rejected, chosen_subset, rejected_subset
-- check: $one_per in ('text', 'tree', 'shape', 'behaviour', 'score_signature')
-- check: whole($n_subsets) and $n_subsets >= 3
-- check: whole($gap) and $gap >= 1 and $gap < $n_subsets
-- check: number($tau) and $tau > 0
-- $one_per: of the programs that share it, one takes part. $n_subsets: M. $gap: the rejected program's subset is at least
-- that many below the chosen one's (the paper: 2). $tau: spread of the chosen subset.
--
-- Which program of a subset a draw takes is decided by one random order per subset; that is the same as uniform without
-- replacement.
with lots as (
    select row, subset, row_number() over (partition by subset order by lot, row) as place
    from (select row, lot, subset_of(score, $n_subsets) as subset from candidates($one_per, $seed))
),
uses as materialized (
    select pair, role, subset, place
    from dar_draws('lots', $n_pairs, $n_subsets, $gap, $tau, $seed)
)
select
    chosen_use.pair,
    chosen.row as chosen,
    rejected.row as rejected,
    chosen.subset as chosen_subset,
    rejected.subset as rejected_subset
from uses as chosen_use
inner join uses as rejected_use
    on rejected_use.pair = chosen_use.pair and chosen_use.role = 'chosen' and rejected_use.role = 'rejected'
inner join lots as chosen on chosen.subset = chosen_use.subset and chosen.place = chosen_use.place
inner join lots as rejected on rejected.subset = rejected_use.subset and rejected.place = rejected_use.place
order by chosen_use.pair
