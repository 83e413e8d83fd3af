-- Diversity-aware rank-based pairs (arXiv 2507.10614, section 3.2), drawn without replacement: the paper's rule.
-- grain: one row per pair
-- in:  scored, through candidates() and dar_draws() of macros.sql
-- out: pair, chosen, rejected, chosen_subset, rejected_subset
-- check: $one_per in ('text', 'tree', 'shape', 'behaviour', 'score_signature')
-- check: whole($n_subsets) and $n_subsets >= 3
-- check: whole($gap) and $gap >= 1 and $gap < $n_subsets
-- check: number($tau) and $tau > 0
-- $one_per: only one program per value of this fingerprint takes part. $n_subsets: M. $gap: the rejected program's
-- subset is at least that many below the chosen one's (the paper: 2). $tau: spread of the chosen subset.
--
-- Each subset has one random order, in which its programs are drawn: the same as uniform without replacement.
with lots as (
    select row, subset, row_number() over (partition by subset order by lot, row) as place
    from (select row, lot, subset_of(score, $n_subsets) as subset from candidates($one_per, $seed))
),
draws as materialized (
    select *
    from dar_draws('lots', $n_pairs, $n_subsets, $gap, $tau, $seed)
)
select
    draws.pair,
    chosen.row as chosen,
    rejected.row as rejected,
    draws.chosen_subset,
    draws.rejected_subset
from draws
inner join lots as chosen on chosen.subset = draws.chosen_subset and chosen.place = draws.chosen_place
inner join lots as rejected on rejected.subset = draws.rejected_subset and rejected.place = draws.rejected_place
order by draws.pair
