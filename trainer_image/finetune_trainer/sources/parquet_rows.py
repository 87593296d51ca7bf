"""Rows of Parquet files, a few at a time."""

from __future__ import annotations

from typing import Any, BinaryIO

from finetune_api.reasons import Reason
from finetune_trainer.sources.raw_rows import RawRows, check_columns
from finetune_trainer.stage.failure import StageError, first_line

_MOST_ROWS = 1000
# Of rows that are Python objects at one time, before compression.
_BYTES = 16 * 1024**2
_READ_AT_ONCE = 1024**2


def read_parquet(stream: BinaryIO, name: str) -> RawRows:
    """Rows as the file types them, in batches that take some megabytes, however large a row group is.

    Raises StageError (DatasetInvalid) for a file that is damaged or none.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        # Without buffers of its own the library would hold whole row groups.
        file = pyarrow.parquet.ParquetFile(stream, buffer_size=_READ_AT_ONCE, pre_buffer=False)
        check_columns(file.schema_arrow.names, name)
        number = 0
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(batch_size=_batch(file.metadata.row_group(group)), row_groups=[group]):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise StageError(Reason.DATASET_INVALID, f"can't read {name}: {first_line(error)}") from error


def _batch(group: Any) -> int:
    size = group.total_byte_size / max(group.num_rows, 1)
    return int(max(1, min(_MOST_ROWS, _BYTES / max(size, 1))))
