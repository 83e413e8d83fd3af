"""Verdicts on programs: sandbox, workers, cache. May import errors, programs, params, files, tasks, models."""
