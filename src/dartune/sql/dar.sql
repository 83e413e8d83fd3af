-- Diversity-aware rank-based pairs (arXiv 2507.10614, section 3.2), drawn without replacement.
-- grain: one row per pair
-- in:  id, program, status, score, costs
-- out: pair, chosen, rejected, chosen_subset, rejected_subset, chosen_score, rejected_score
-- $scored: path of the scored pool. $one_per: 'score_signature' or 'text'. $n_subsets: M. $gap: the rejected program's
-- subset is at least that many below the chosen one's (the paper: 2). $tau: spread of the chosen subset.
--
-- Subset 1 is the best. All programs of one score lie in the subset of their best rank, so a border never splits a
-- score and chosen is strictly better than rejected in every pair; a subset can be empty then, and is never drawn.
-- The order of draws matters, since a subset runs out: `draws` goes pair by pair over the numbers left. Which program
-- of a subset a draw takes is decided by one random order per subset; that is the same as uniform without replacement.
with recursive
signed as (
    select id, score, case $one_per when 'score_signature' then costs::varchar else program end as signature
    from read_parquet($scored)
    where status = 'ok'
),
candidates as (
    select id, score
    from signed
    qualify row_number() over (partition by signature order by id) = 1
),
ranked as (
    select
        id,
        score,
        ((rank() over (order by score desc) - 1) * $n_subsets // count(*) over () + 1)::int as subset
    from candidates
),
lots as (
    select id, score, subset, row_number() over (partition by subset order by hash(id || '/lot/' || $seed), id) as place
    from ranked
),
sizes as (
    select list(n order by subset) as left_over
    from (
        select numbers.subset, count(lots.id)::int as n
        from range(1, $n_subsets::bigint + 1) as numbers (subset)
        left join lots on lots.subset = numbers.subset
        group by numbers.subset
    )
),
draws as (
    select 0 as pair, 0 as chosen_subset, 0 as rejected_subset, left_over
    from sizes
    union all
    select
        pair + 1,
        chosen_subset,
        rejected_subset,
        list_transform(left_over, lambda n, i: n - (i = chosen_subset)::int - (i = rejected_subset)::int)
    from (
        select
            pair,
            left_over,
            chosen_subset,
            -- the rejected program is uniform over those left in the subsets below, so a subset weighs what is left in it
            list_position(
                list_transform(
                    left_over,
                    lambda n, i: i >= chosen_subset + $gap
                    and list_sum(left_over[chosen_subset + $gap : i])
                    > hash(pair || '/rejected/' || $seed) / 18446744073709551616.0
                    * list_sum(left_over[chosen_subset + $gap :])
                ),
                true
            )::int as rejected_subset
        from (
            select
                pair,
                left_over,
                list_position(
                    list_transform(
                        weights,
                        lambda w, i: list_sum(weights[1 : i])
                        > hash(pair || '/chosen/' || $seed) / 18446744073709551616.0 * list_sum(weights)
                    ),
                    true
                )::int as chosen_subset
            from (
                select
                    pair,
                    left_over,
                    -- Pr(i) ~ exp((M - gap - i) / tau); normalised here over the subsets that a pair can still be made of
                    list_transform(
                        left_over,
                        lambda n, i: case
                            when n > 0 and list_sum(left_over[i + $gap :]) > 0 then exp(($n_subsets - $gap - i) / $tau)
                            else 0.0
                        end
                    ) as weights
                from draws
                where pair < $n_pairs
            )
            where list_sum(weights) > 0
        )
    )
),
uses as (
    select pair, 'chosen' as role, chosen_subset as subset
    from draws
    where pair > 0
    union all
    select pair, 'rejected' as role, rejected_subset as subset
    from draws
    where pair > 0
),
placed as (
    select pair, role, subset, row_number() over (partition by subset order by pair, role) as place
    from uses
)
select
    chosen_use.pair,
    chosen.id as chosen,
    rejected.id as rejected,
    chosen.subset as chosen_subset,
    rejected.subset as rejected_subset,
    chosen.score as chosen_score,
    rejected.score as rejected_score
from placed as chosen_use
inner join placed as rejected_use
    on rejected_use.pair = chosen_use.pair and chosen_use.role = 'chosen' and rejected_use.role = 'rejected'
inner join lots as chosen on chosen.subset = chosen_use.subset and chosen.place = chosen_use.place
inner join lots as rejected on rejected.subset = rejected_use.subset and rejected.place = rejected_use.place
order by chosen_use.pair
