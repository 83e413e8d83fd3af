-- What the strategies share. `scored` is the pool, whose column file_row_number is called row below; `used` has the
-- rows that an earlier part of a mixture took. All chance comes from hash(... || seed).

-- Uniform in [0, 1), determined by the words.
create macro chance(words) as hash(words) / 18446744073709551616.0;

-- The number of a program's subset, from 1, the best, to n_subsets. Programs with the same score share the subset of
-- the best of them, so programs of different subsets differ in score, and a subset can be empty.
create macro subset_of(score, n_subsets) as
    ((rank() over (order by score desc) - 1) * n_subsets // count(*) over () + 1)::int;

-- The programs with the template's score that may take part, for every seed the same: as many as the variable
-- max_template_copies says.
create macro template_copies() as table (
    select min(file_row_number) as row
    from scored
    where equals_template
    group by text
    order by hash(min(id) || '/copy'), row
    limit getvariable('max_template_copies')
);

-- The pool's valid programs, the first of each fingerprint. lot: their order in a random draw. band: the first 16 bits
-- of the signature, equal for most programs that act nearly alike.
create macro candidates(one_per, seed) as table (
    select
        min(file_row_number) as row,
        arg_min(score, file_row_number) as score,
        arg_min(hash(id || '/lot/' || seed), file_row_number) as lot,
        arg_min(signature[1] & 65535, file_row_number) as band
    from scored
    left join used on used.row = scored.file_row_number
    where status = 'ok' and (not equals_template or file_row_number in (from template_copies()))
    group by case one_per
        when 'text' then text
        when 'tree' then tree
        when 'shape' then shape
        when 'behaviour' then hash(behaviour)
        when 'score_signature' then score_signature
        else error('one_per: expected text, tree, shape, behaviour or score_signature')::ubigint
    end
    having count(used.row) = 0  -- a copy of a used program is no candidate either
);

-- DAR's draws without replacement (arXiv 2507.10614, section 3.2): the subsets of the chosen and the rejected program
-- of each pair, and each program's place in the order in which its subset is drawn from (1 ..).
-- pool: name of a table with the column subset. gap: the rejected program's subset is at least that many below.
-- Subsets run out, so the order of draws matters: the recursion goes pair by pair and carries how many programs each
-- subset has left.
create macro dar_draws(pool, n_pairs, n_subsets, gap, tau, seed) as table (
    with recursive
    sizes as (
        select list(n order by subset) as left_over
        from (
            select numbers.subset, count(programs.subset)::int as n
            from range(1, n_subsets::bigint + 1) as numbers (subset)
            left join query_table(pool) as programs on programs.subset = numbers.subset
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
                -- uniform over the programs left in the subsets below, so each is weighted by what it has left
                list_position(
                    list_transform(
                        left_over,
                        lambda n, i: i >= chosen_subset + gap
                        and list_sum(left_over[chosen_subset + gap : i])
                        > chance(pair || '/rejected/' || seed) * list_sum(left_over[chosen_subset + gap :])
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
                            lambda w, i: list_sum(weights[1 : i]) > chance(pair || '/chosen/' || seed) * list_sum(weights)
                        ),
                        true
                    )::int as chosen_subset
                from (
                    select
                        pair,
                        left_over,
                        -- Pr(i) ~ exp(-i / tau), normalised over the subsets that can still give a pair. i counts from
                        -- the first of these, so that a small tau does not underflow to 0 everywhere
                        list_transform(
                            is_open,
                            lambda can, i: case when can then exp((list_position(is_open, true) - i) / tau) else 0.0 end
                        ) as weights
                    from (
                        select
                            pair,
                            left_over,
                            list_transform(
                                left_over, lambda n, i: n > 0 and coalesce(list_sum(left_over[i + gap :]), 0) > 0
                            ) as is_open
                        from draws
                        where pair < n_pairs
                    )
                )
                where list_sum(weights) > 0
            )
        )
    )
    select
        pair,
        chosen_subset,
        sizes.left_over[chosen_subset] - draws.left_over[chosen_subset] as chosen_place,
        rejected_subset,
        sizes.left_over[rejected_subset] - draws.left_over[rejected_subset] as rejected_place
    from draws
    cross join sizes
    where pair > 0
);

-- Paired t statistic of two lists of costs on the same instances: null for one instance, infinite where all differences
-- are equal.
create macro paired_t(costs, other_costs) as (
    select case when count(*) > 1 then abs(avg(d)) / (stddev_samp(d) / sqrt(count(*))) end
    from (select unnest(list_transform(costs, lambda cost, i: cost - other_costs[i])) as d)
);
