-- DAR's pairs with half of the labels flipped: a control that shows what training teaches apart from the preference.
-- grain: one row per pair
-- in:  dar
-- out: pair, chosen, rejected, chosen_subset, rejected_subset, is_flipped
--
-- chosen is the better program here too; is_flipped tells stage pairs to swap the two.
select
    pair,
    chosen,
    rejected,
    chosen_subset,
    rejected_subset,
    hash(pair || '/flip/' || $seed) % 2 = 0 as is_flipped
from dar
where pair <= $n_pairs
order by pair
