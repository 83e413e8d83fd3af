-- What every strategy's pairs have: ids, scores, ranks and the paired t. A rank is the share of the valid programs that
-- are better.
-- grain: one row per pair
-- in:  drawn (sample.py), scored; paired_t() of macros.sql
-- out: pair, strategy, chosen, rejected, chosen_subset, rejected_subset, chosen_score, rejected_score, chosen_rank,
--      rejected_rank, t, is_flipped
with programs as materialized (
    select file_row_number as row, id, score, costs
    from scored
    where file_row_number in (select chosen from drawn union select rejected from drawn)
),
steps as (  -- the valid programs from one of these scores up to the next better one
    select thresholds.score, count(*) as n, count(*) filter (scored.score > thresholds.score) as n_above
    from scored
    asof join (select distinct score from programs where score is not null) as thresholds
        on scored.score >= thresholds.score
    where scored.status = 'ok'
    group by thresholds.score
),
ranked as (
    select score, (sum(n) over (order by score desc) - n + n_above) / n_valid as rank
    from steps
    cross join (select count(*) as n_valid from scored where status = 'ok')
)
select
    drawn.pair,
    drawn.strategy,
    chosen.id as chosen,
    rejected.id as rejected,
    drawn.chosen_subset,
    drawn.rejected_subset,
    chosen.score as chosen_score,
    rejected.score as rejected_score,
    better.rank as chosen_rank,
    worse.rank as rejected_rank,
    paired_t(chosen.costs, rejected.costs) as t,
    drawn.is_flipped
from drawn
inner join programs as chosen on chosen.row = drawn.chosen
inner join programs as rejected on rejected.row = drawn.rejected
inner join ranked as better on better.score = chosen.score
left join ranked as worse on worse.score = rejected.score
order by drawn.pair
