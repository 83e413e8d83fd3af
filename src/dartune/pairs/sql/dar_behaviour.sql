-- DAR with diversity of behaviour: programs that act differently, spread within each subset, and pairs whose difference
-- is more than noise.
-- grain: one row per pair
-- in:  scored, also its signature and costs, and through candidates() and dar_draws() of macros.sql
-- out: pair, chosen, rejected, chosen_subset, rejected_subset
-- one_per: behaviour
-- check: whole($n_subsets) and $n_subsets >= 3
-- check: whole($gap) and $gap >= 1 and $gap < $n_subsets
-- check: number($tau) and $tau > 0
-- check: whole($cap) and $cap >= 1
-- check: whole($spread) and $spread >= 1
-- check: number($min_gap) and $min_gap >= 0
-- check: number($min_t) and $min_t >= 0
-- $n_subsets, $gap, $tau: as in dar. Of programs that act alike on every instance, one takes part.
-- $cap: at most this many programs that act nearly alike take part, that is, whose signatures agree in the first 16
-- bits (two that share 95 % of their moves do so with probability .67, with 50 %: .01).
-- $spread: each subset offers this many times the programs that it needs, and the most different ones are used: each is
-- the farthest from those before it (Gonzalez 1985), by the bits in which signatures differ. 1: no such choice.
-- $min_gap: least difference of the scores, in interquartile ranges of the scores that take part.
-- $min_t: least paired t statistic of the costs over the instances (1.9: 5 % one-sided for 8 instances); not applied
-- where there is one instance.
--
-- A pair that does not pass is drawn again, so where many do not, wider gaps are drawn more often than by dar.
with recursive
capped as (
    select row, score, lot
    from candidates('behaviour', $seed)
    qualify row_number() over (partition by band order by lot, row) <= $cap
),
lots as (
    select *, row_number() over (partition by subset order by lot, row) as lot_place
    from (select row, score, lot, subset_of(score, $n_subsets) as subset from capped)
),
draws as materialized (  -- twice as many as needed, to replace pairs that do not pass
    select *
    from dar_draws('lots', 2 * $n_pairs, $n_subsets, $gap, $tau, $seed)
),
wanted as (
    select subset, count(*) filter (pair <= $n_pairs) as n_uses, count(*) as n_draws
    from (select pair, unnest([chosen_subset, rejected_subset]) as subset from draws)
    group by subset
),
near as materialized (  -- all programs that can be used, with what the conditions need
    select
        lots.row,
        lots.score,
        lots.lot,
        lots.subset,
        lots.lot_place,
        n_uses,
        signature[1] as high,
        signature[2] as low,
        costs
    from lots
    inner join wanted on wanted.subset = lots.subset
    inner join scored on scored.file_row_number = lots.row
    where lots.lot_place <= greatest($spread * n_uses, n_draws)
),
-- place: 1 for the program taken first, 2 for the next, 0 while not taken; far: bits to the nearest program taken
spread_out (row, subset, lot, high, low, n_uses, far, place, step) using key (row) as (
    select row, subset, lot, high, low, n_uses, 1000, (lot_place = 1)::bigint, 1::bigint
    from near
    where lot_place <= $spread * n_uses
    union
    select row, subset, lot, high, low, n_uses, far, case when is_farthest then step else 0 end, step
    from (
        select
            *,
            row_number() over (partition by subset order by far desc, lot, row) = 1 as is_farthest
        from (
            select
                rest.row,
                rest.subset,
                rest.lot,
                rest.high,
                rest.low,
                rest.n_uses,
                least(
                    rest.far,
                    bit_count(xor(rest.high, taken.high))::int + bit_count(xor(rest.low, taken.low))::int
                ) as far,
                taken.step + 1 as step
            from recurring.spread_out as rest
            inner join spread_out as taken on taken.subset = rest.subset and taken.place = taken.step
            where rest.place = 0 and taken.step < rest.n_uses
        )
    )
),
programs as (  -- those taken first, then the others in the order of their lots
    select
        near.row,
        near.score,
        near.costs,
        near.subset,
        row_number() over (
            partition by near.subset order by coalesce(nullif(spread_out.place, 0), 1000000000), near.lot, near.row
        ) as place
    from near
    left join spread_out on spread_out.row = near.row
),
unit as (
    select quantile_cont(score, 0.75) - quantile_cont(score, 0.25) as iqr
    from capped
)
select
    (row_number() over (order by draws.pair))::int as pair,
    chosen.row as chosen,
    rejected.row as rejected,
    draws.chosen_subset,
    draws.rejected_subset
from draws
inner join programs as chosen on chosen.subset = draws.chosen_subset and chosen.place = draws.chosen_place
inner join programs as rejected on rejected.subset = draws.rejected_subset and rejected.place = draws.rejected_place
cross join unit
where
    chosen.score - rejected.score >= $min_gap * unit.iqr
    and coalesce(paired_t(chosen.costs, rejected.costs), 'inf'::double) >= $min_t
order by pair
limit $n_pairs
