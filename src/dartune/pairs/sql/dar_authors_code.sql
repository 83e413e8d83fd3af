-- DAR as the authors' code draws it (RayZhhh/dpo-aad), in the direction of the task: equal slices of the ranking, which
-- may split ties; one chosen subset fewer than in the paper (M - 3); with replacement.
-- grain: one row per pair
-- in:  scored, through candidates() of macros.sql
-- out: pair, chosen, rejected, chosen_subset, rejected_subset
-- one_per: text
-- check: whole($n_subsets) and $n_subsets >= 4
-- check: number($tau) and $tau > 0
-- $n_subsets: M. $tau: spread of the chosen subset. Programs with the same text take part once.
--
-- Unlike the published code, a pair with equal scores is drawn again, and pairs are not duplicated.
with places as (
    select row, score, row_number() over (order by score desc, lot, row) as place, count(*) over () as n
    from candidates('text', $seed)
),
subsets as (
    select
        subset::int as subset,
        (subset - 1) * n // $n_subsets + 1 as first,
        subset * n // $n_subsets as last,
        (subset + 1) * n // $n_subsets + 1 as first_rejected,
        n,
        sum(exp(-subset / $tau)) over (order by subset) / sum(exp(-subset / $tau)) over () as share
    from range(1, $n_subsets::bigint - 2) as numbers (subset)
    cross join (select max(n) as n from places)
),
draws as (
    select
        draw,
        arg_min(subset, subset) as subset,
        min_by(first + floor(chance(draw || '/chosen/' || $seed) * (last - first + 1)), subset)::bigint as chosen_place,
        min_by(
            first_rejected + floor(chance(draw || '/rejected/' || $seed) * (n - first_rejected + 1)), subset
        )::bigint as rejected_place
    from range(1, 20 * $n_pairs::bigint + 1) as numbers (draw)
    inner join subsets on chance(draw || '/subset/' || $seed) < share
    group by draw
)
select
    (row_number() over (order by draw))::int as pair,
    chosen.row as chosen,
    rejected.row as rejected,
    draws.subset as chosen_subset,
    ((rejected.place * $n_subsets + rejected.n - 1) // rejected.n)::int as rejected_subset
from draws
inner join places as chosen on chosen.place = draws.chosen_place
inner join places as rejected on rejected.place = draws.rejected_place
where chosen.score > rejected.score
order by pair
limit $n_pairs
