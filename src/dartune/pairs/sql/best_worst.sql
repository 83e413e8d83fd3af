-- The best against the worst, the second best against the second worst, and so on: the widest possible gaps. With few
-- pairs out of a large pool, the top against the bottom, as in Self-Developing (arXiv 2410.15639).
-- grain: one row per pair
-- in:  scored, through candidates() of macros.sql
-- out: pair, chosen, rejected, chosen_subset, rejected_subset
-- check: $one_per in ('text', 'tree', 'shape', 'behaviour', 'score_signature')
-- $one_per: only one program per value of this fingerprint takes part. Chance decides only between equal scores.
with places as (
    select
        row,
        score,
        row_number() over (order by score desc, lot, row) as from_best,
        row_number() over (order by score, lot, row) as from_worst
    from candidates($one_per, $seed)
)
select
    best.from_best::int as pair,
    best.row as chosen,
    worst.row as rejected,
    null::int as chosen_subset,
    null::int as rejected_subset
from places as best
inner join places as worst on worst.from_worst = best.from_best
where best.score > worst.score and best.from_best <= $n_pairs
order by pair
