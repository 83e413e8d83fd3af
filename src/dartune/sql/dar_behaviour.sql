-- DAR with the diversity that its name promises: programs that act differently, spread within each subset, and pairs whose
-- difference is more than noise. In all else as dar.
-- grain: one row per pair
-- in:  scored, also its signature and costs, and through candidates() and dar_draws() of macros.sql
-- out: pair, chosen, rejected, chosen_subset, rejected_subset
-- check: $n_subsets >= 3 and $gap >= 1 and $gap < $n_subsets
-- check: $tau > 0
-- check: $cap >= 1 and $spread >= 1
-- check: $min_gap >= 0 and $min_t >= 0
-- $n_subsets, $gap, $tau: as in dar. Programs that act alike on every instance take part once.
-- $cap: so many programs that act nearly alike take part, those whose signatures agree in their first 12 bits (two that
-- share 95 % of their moves do so with probability .74, 50 %: .03).
-- $spread: in each subset, the programs used are the most different ones out of so many times their number: each is the
-- one farthest from those before it (Gonzalez 1985), by the bits in which their signatures differ. 1: as chance has it.
-- $min_gap: least difference of the scores, in interquartile ranges of the pool's scores.
-- $min_t: least paired t statistic of the costs over the instances (1.9: 5 % one-sided for 8); one instance has none.
with recursive
ranked as (
    select row, score, lot, subset_of(score, $n_subsets) as subset
    from candidates('behaviour', $seed)
),
shortlist as (  -- no more than all draws could need: a pool of millions need not be looked at whole
    select *
    from ranked
    qualify row_number() over (partition by subset order by lot, row) <= 4 * $spread * $n_pairs
),
capped as (
    select shortlist.*, scored.signature[1] as high, scored.signature[2] as low, scored.costs
    from shortlist
    inner join scored on scored.file_row_number = shortlist.row
    qualify row_number() over (partition by scored.signature[1] & 4095 order by shortlist.lot, shortlist.row) <= $cap
),
lots as (
    select *, row_number() over (partition by subset order by lot, row) as lot_place
    from capped
),
uses as materialized (  -- twice as many as wanted: some pairs will not pass
    select pair, role, subset, place
    from dar_draws('lots', 2 * $n_pairs, $n_subsets, $gap, $tau, $seed)
),
near as (
    select lots.row, lots.subset, lots.lot, lots.lot_place, lots.high, lots.low, n_uses
    from lots
    inner join (select subset, count(*) as n_uses from uses group by subset) as wanted on wanted.subset = lots.subset
    where lots.lot_place <= $spread * n_uses
),
-- place: as the how-manieth a program was taken, 0 while it was not; far: bits to the nearest one taken
spread_out (row, subset, lot, high, low, n_uses, far, place, step) using key (row) as (
    select row, subset, lot, high, low, n_uses, 1000, (lot_place = 1)::bigint, 1::bigint
    from near
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
programs as (
    select spread_out.subset, spread_out.place, lots.row, lots.score, lots.costs
    from spread_out
    inner join lots on lots.row = spread_out.row
    where spread_out.place > 0
),
unit as (
    select quantile_cont(score, 0.75) - quantile_cont(score, 0.25) as iqr
    from ranked
)
select
    (row_number() over (order by chosen_use.pair))::int as pair,
    chosen.row as chosen,
    rejected.row as rejected,
    chosen.subset as chosen_subset,
    rejected.subset as rejected_subset
from uses as chosen_use
inner join uses as rejected_use
    on rejected_use.pair = chosen_use.pair and chosen_use.role = 'chosen' and rejected_use.role = 'rejected'
inner join programs as chosen on chosen.subset = chosen_use.subset and chosen.place = chosen_use.place
inner join programs as rejected on rejected.subset = rejected_use.subset and rejected.place = rejected_use.place
cross join unit
where
    chosen.score - rejected.score >= $min_gap * unit.iqr
    and coalesce(paired_t(chosen.costs, rejected.costs), 'inf'::double) >= $min_t
order by pair
limit $n_pairs
