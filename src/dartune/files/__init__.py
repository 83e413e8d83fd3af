"""Files on disk: atomic writes, Parquet, finished batches, code hashes. May import errors, programs, params."""
