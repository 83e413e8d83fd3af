-- DAR's chosen and rejected programs, paired anew at random: does the pairing matter, or only which programs take part?
-- grain: one row per pair
-- in:  dar, and scored
-- out: pair, chosen, rejected, chosen_subset, rejected_subset
--
-- Every pairing in which each chosen program is better than its rejected one is equally likely: from the best rejected
-- program to the worst, each takes one of the better chosen programs that are still free. What is open to a rejected
-- program is open to all worse ones, so there is always a choice, and how many there are does not depend on earlier
-- ones.
with recursive
chosen as (
    select
        list(dar.chosen order by scored.score desc, dar.pair) as rows_free,
        list(scored.score order by scored.score desc, dar.pair) as scores
    from dar
    inner join scored on scored.file_row_number = dar.chosen
),
rejected as (
    select
        dar.rejected as row,
        row_number() over (order by scored.score desc, dar.pair) as turn,
        list_count(list_filter(chosen.scores, lambda score: score > scored.score)) as n_better
    from dar
    inner join scored on scored.file_row_number = dar.rejected
    cross join chosen
),
matches as (
    select 0::bigint as turn, null::bigint as chosen, null::bigint as rejected, rows_free
    from chosen
    union all
    select turn, rows_free[place], row, rows_free[: place - 1] || rows_free[place + 1 :]
    from (
        select
            rejected.turn,
            rejected.row,
            matches.rows_free,
            1 + floor(chance(rejected.turn || '/match/' || $seed) * (n_better - rejected.turn + 1))::bigint as place
        from matches
        inner join rejected on rejected.turn = matches.turn + 1
    )
)
select
    (row_number() over (order by hash(matches.turn || '/order/' || $seed), matches.turn))::int as pair,
    matches.chosen,
    matches.rejected,
    better.chosen_subset,
    worse.rejected_subset
from matches
inner join dar as better on better.chosen = matches.chosen
inner join dar as worse on worse.rejected = matches.rejected
where matches.turn <= $n_pairs
order by pair
