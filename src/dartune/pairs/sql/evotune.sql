-- EvoTune's pairs (arXiv 2504.05108): of the answers to one prompt, the better half against the worse half.
-- grain: one row per pair
-- in:  scored, also its prompt, and through candidates() of macros.sql
-- out: pair, chosen, rejected, chosen_subset, rejected_subset
-- check: $one_per in ('text', 'tree', 'shape', 'behaviour', 'score_signature')
-- check: whole($n_outputs) and $n_outputs >= 2
-- check: number($percentile) and $percentile >= 0 and $percentile < 1
-- $one_per: only one program per value of this fingerprint takes part. $n_outputs: answers to one prompt that are
-- compared with each other (EvoTune asks for 8 a prompt; a prompt with more has its answers dealt at random into hands
-- of this size). $percentile: chosen programs are not below this quantile of all scores.
--
-- The distinct scores of a hand are split in the middle: the best program above is paired with the best one below, the
-- second with the second, until one side runs out. EvoTune's pairs of valid and failed programs are in valid_invalid.
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
ranked as (
    select *, dense_rank() over (partition by prompt, hand order by score desc) as score_place
    from answers
),
halves as (
    select *, score_place <= max(score_place) over (partition by prompt, hand) // 2 as is_better
    from ranked
),
places as (
    select *, row_number() over (partition by prompt, hand, is_better order by score desc, lot, row) as place
    from halves
)
select
    (row_number() over (order by better.lot, better.row))::int as pair,
    better.row as chosen,
    worse.row as rejected,
    null::int as chosen_subset,
    null::int as rejected_subset
from places as better
inner join places as worse
    on worse.prompt = better.prompt and worse.hand = better.hand and worse.place = better.place
where
    better.is_better
    and not worse.is_better
    and better.score >= (select quantile_cont(score, $percentile) from answers)
order by pair
limit $n_pairs
