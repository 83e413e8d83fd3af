-- DAR's pairs with failures in the place of a share of the rejected programs: a program that runs beats one that does
-- not.
-- grain: one row per pair
-- in:  dar, and scored
-- out: pair, chosen, rejected, chosen_subset, rejected_subset
-- check: number($share) and $share > 0 and $share <= 1
-- $share: of the pairs whose rejected program is a failure; fewer where the pool has too few. Failures with the same
-- text count once, and so do those without a program and with the same reason.
with failures as (
    select row, row_number() over (order by hash(id || '/failure/' || $seed), row) as place
    from (
        select min(file_row_number) as row, min(id) as id
        from scored
        where status <> 'ok' and file_row_number not in (select row from used)
        group by coalesce(text, hash(reason))
    )
),
turns as (
    select *, row_number() over (order by hash(pair || '/failure/' || $seed), pair) as place, count(*) over () as n
    from dar
    where pair <= $n_pairs
)
select
    turns.pair,
    turns.chosen,
    coalesce(failures.row, turns.rejected) as rejected,
    turns.chosen_subset,
    case when failures.row is null then turns.rejected_subset end as rejected_subset
from turns
left join failures on failures.place = turns.place and turns.place <= round($share * turns.n)
order by turns.pair
