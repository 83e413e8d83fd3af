-- EvoTune's pairs (arXiv 2504.05108): of the answers to one prompt, the better half against the worse half.
-- grain: one row per pair
-- in:  scored, also its prompt, and through candidates() of macros.sql
-- out: pair, chosen, rejected, chosen_subset, rejected_subset
-- check: $one_per in ('text', 'tree', 'shape', 'behaviour', 'score_signature')
-- check: $n_outputs >= 2
-- check: $percentile >= 0 and $percentile < 1
-- $one_per: of the programs that share it, one takes part. $n_outputs: answers that are compared with each other, of the
-- same prompt (EvoTune asks for 8 a prompt; where one prompt has more, they are dealt into hands of so many by chance).
-- $percentile: chosen programs are not below this quantile of all scores.
--
-- The different scores of a hand are split in the middle: the best of the better half against the best of the worse half,
-- and so on. EvoTune's pairs of valid against failed programs are those of valid_invalid.
with answers as (
    select
        scored.prompt,
        candidates.row,
        candidates.score,
        candidates.lot,
        (row_number() over (partition by scored.prompt order by candidates.lot, candidates.row) - 1) // $n_outputs as hand
    from candidates($one_per, $seed) as candidates
    inner join scored on scored.file_row_number = candidates.row
),
different as (
    select prompt, hand, score, arg_min(row, lot) as row, min(lot) as lot
    from answers
    group by prompt, hand, score
),
ranked as (
    select
        *,
        row_number() over (partition by prompt, hand order by score desc) as place,
        count(*) over (partition by prompt, hand) // 2 as middle
    from different
)
select
    (row_number() over (order by better.lot, better.row))::int as pair,
    better.row as chosen,
    worse.row as rejected,
    null::int as chosen_subset,
    null::int as rejected_subset
from ranked as better
inner join ranked as worse
    on worse.prompt = better.prompt and worse.hand = better.hand and worse.place = better.place + better.middle
where better.place <= better.middle and better.score >= (select quantile_cont(score, $percentile) from answers)
order by pair
limit $n_pairs
