-- Chosen from the top, rejected from all the rest: an ablation in DAR's paper (top 1 program, 1 %, 5 %, 10 %).
-- grain: one row per pair
-- in:  scored, through candidates() of macros.sql
-- out: pair, chosen, rejected, chosen_subset, rejected_subset
-- check: $one_per in ('text', 'tree', 'shape', 'behaviour', 'score_signature')
-- check: number($top) and $top > 0 and ($top < 1 or $top % 1 = 0)
-- $one_per: only one program per value of this fingerprint takes part. $top: how many programs are the top; below 1,
-- which share of them.
--
-- The few programs of the top are chosen again and again, in turn; each rejected program is used once.
with places as (
    select row, score, lot, row_number() over (order by score desc, lot, row) as place, count(*) over () as n
    from candidates($one_per, $seed)
),
top as (
    select row, score, row_number() over (order by lot, row) as turn, count(*) over () as n
    from places
    where place <= case when $top >= 1 then $top else greatest(1, round($top * n)) end
),
rest as (
    select row, row_number() over (order by lot, row) as turn
    from places
    where score < (select min(score) from top)
)
select
    rest.turn::int as pair,
    top.row as chosen,
    rest.row as rejected,
    null::int as chosen_subset,
    null::int as rejected_subset
from rest
inner join top on top.turn = (rest.turn - 1) % top.n + 1
where rest.turn <= $n_pairs
order by pair
