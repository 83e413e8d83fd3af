"""Tables of earlier stages that are too large to be read whole."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dartune.mistake import Mistake


def whole(file: Path) -> str:
    """The path of a Parquet file for DuckDB, or a Mistake when the file is missing or cut: its end is written last."""
    try:
        pq.read_metadata(file)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise Mistake(f"{file}: not a whole Parquet file ({reason}); delete it and run the stage again") from error
    return str(file)
