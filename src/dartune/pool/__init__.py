"""Completions of a task: sampled, searched, imported. May import referee and what it may; never training."""
