-- Two random programs, the better one chosen: the baseline.
-- grain: one row per pair
-- in:  scored, through candidates() of macros.sql
-- out: pair, chosen, rejected, chosen_subset, rejected_subset
-- check: $one_per in ('text', 'tree', 'shape', 'behaviour', 'score_signature')
-- $one_per: only one program per value of this fingerprint takes part.
--
-- The programs in a random order, two by two; two with the same score make no pair.
with places as (
    select row, score, row_number() over (order by lot, row) as place
    from candidates($one_per, $seed)
),
twos as (
    select (place + 1) // 2 as two, arg_max(row, score) as chosen, arg_min(row, score) as rejected
    from places
    group by two
    having max(score) > min(score)
)
select
    (row_number() over (order by two))::int as pair,
    chosen,
    rejected,
    null::int as chosen_subset,
    null::int as rejected_subset
from twos
order by pair
limit $n_pairs
