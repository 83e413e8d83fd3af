"""Preference pairs: strategies, data sheets, texts. May import errors, programs, params, files, tasks, models."""
