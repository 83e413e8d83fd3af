"""Tasks: prompt, template, instances, rollout, cost, references, grammar. May import errors, programs, files."""
