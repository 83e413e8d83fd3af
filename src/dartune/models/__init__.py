"""Models on disk, and back ends that write completions. May import errors, programs, params, files, tasks."""
