"""What a run came to: page, terminal table, plots. May import evaluation and what it may; never torch."""
