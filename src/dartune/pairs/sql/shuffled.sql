-- DAR's pairs with half of the labels the wrong way round: the control that shows what is learnt beside the preference.
-- grain: one row per pair
-- in:  dar
-- out: pair, chosen, rejected, chosen_subset, rejected_subset, is_flipped
--
-- chosen is the better program here too: is_flipped tells stage pairs to train on the opposite.
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
