-- The drawn pairs with both programs' prompt, texts and scores. The pairs with the lowest hashes are held out, so that
-- row order does not matter. Programs of a search answer different prompts; a pair of them gets the task's own prompt.
-- grain: one row per pair
-- in:  the Parquet files $sample and $scored; $prompt, $held_out (share), $seed
-- out: pair, strategy, prompt, chosen, rejected, chosen_id, rejected_id, chosen_score, rejected_score, chosen_subset,
--      rejected_subset, margin, is_held_out
--
-- A flipped pair, of the control `shuffled`, has its programs swapped and a margin below 0.
with labelled as (
    select
        pair,
        strategy,
        case when is_flipped then rejected else chosen end as chosen_id,
        case when is_flipped then chosen else rejected end as rejected_id,
        case when is_flipped then rejected_subset else chosen_subset end as chosen_subset,
        case when is_flipped then chosen_subset else rejected_subset end as rejected_subset
    from read_parquet($sample)
)
select
    better.task || '-' || lpad(labelled.pair::varchar, 5, '0') as pair,
    labelled.strategy,
    case when better.prompt = worse.prompt then better.prompt else $prompt end as prompt,
    better.completion as chosen,
    worse.completion as rejected,
    labelled.chosen_id,
    labelled.rejected_id,
    better.score as chosen_score,
    worse.score as rejected_score,
    labelled.chosen_subset,
    labelled.rejected_subset,
    better.score - worse.score as margin,
    row_number() over (order by hash(labelled.pair || '/' || $seed), labelled.pair) <= $held_out * count(*) over ()
        as is_held_out
from labelled
inner join read_parquet($scored) as better on better.id = labelled.chosen_id
inner join read_parquet($scored) as worse on worse.id = labelled.rejected_id
order by labelled.pair
