-- What the data sheet says of the drawn pairs and of the pool that they come from.
-- in:  pairs (finished.sql), scored
-- out: traits, a row per pair and role; counts of the valid pool, one row; ties, one number

create or replace temp view traits as
select pair, role, rank, status, text, tree, shape, behaviour, family, n_characters, signature
from (
    select pair, 'chosen' as role, chosen as id, chosen_rank as rank from pairs
    union all
    select pair, 'rejected' as role, rejected as id, rejected_rank as rank from pairs
)
inner join scored using (id);

create or replace temp view counts as
select
    count(*) as n_programs,
    count(distinct text) as distinct_texts,
    count(distinct tree) as distinct_trees,
    count(distinct shape) as distinct_shapes,
    count(distinct behaviour) as distinct_behaviours,
    count(distinct score_signature) as distinct_score_signatures,
    count(distinct score) as distinct_scores,
    count(*) filter (equals_template) as template_copies
from scored
where status = 'ok';

-- How often two random valid programs have the same score.
create or replace temp view ties as
select sum(n * (n - 1)) / greatest(sum(n) * (sum(n) - 1), 1) as share
from (select count(*)::double as n from scored where status = 'ok' group by score);
