"""Rows of one Parquet shard: its sum, its columns and its row groups, checked as they are read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from pipeline.core import storage
from pipeline.core.errors import SiteError
from pipeline.core.redaction import redacted
from pipeline.data.manifest import Shard
from pipeline.data.shard_layout import LabelLayout

# Shards whose sum this process has checked: place, path, sum, size, time of change.
_verified: set[tuple[str, str, str, int | None, int | None]] = set()


@dataclass(frozen=True)
class ShardFile:
    """A shard that can be read.

    Arguments:
        shard: as the manifest describes it.
        filesystem: that has it.
        folder: of the shards, in the file system.
        location: of the shards, for messages: a folder or a URI.
        width: bytes of a row.
        labels: shape and type of a row's label, None without labels.
    """

    shard: Shard
    filesystem: FileSystem
    folder: str
    location: str
    width: int
    labels: LabelLayout | None

    @property
    def where(self) -> str:
        """The shard's name in messages."""
        return redacted(storage.join(self.location, self.shard.file))

    def read(self, spans: list[tuple[int, int]]) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield the rows (n, width) of spans of the shard and their labels, by row group.

        Raises:
            SiteError: for a shard that is missing, corrupt or of another layout.
        """
        path = f"{self.folder}/{self.shard.file}"
        try:
            with self.filesystem.open_input_file(path) as file:
                self._verify_sum(path, file)
                with pq.ParquetFile(file) as parquet:
                    self._check_layout(parquet)
                    for low, high in spans:
                        yield from self._read_rows(parquet, low, high)
        except FileNotFoundError:
            raise SiteError(
                f"{self.where}: shard not found; run python -m stages.preprocess again"
            ) from None
        except (pa.ArrowException, OSError, KeyError) as error:
            raise SiteError(f"{self.where}: corrupt shard: {str(error).splitlines()[0]}") from None

    def _verify_sum(self, path: str, file: pa.NativeFile) -> None:
        """Check the SHA-256 of an open file in chunks, unless this process did."""
        found = self.filesystem.get_file_info(path)
        key = (self.where, path, self.shard.sha256, found.size, found.mtime_ns)
        if key in _verified:
            return
        digest = hashlib.sha256()
        while len(chunk := file.read_buffer(storage.CHUNK)):
            digest.update(chunk)
        if digest.hexdigest() != self.shard.sha256:
            raise SiteError(
                f"{self.where}: corrupt shard: expected sha256 {self.shard.sha256}, got "
                f"{digest.hexdigest()}; run python -m stages.preprocess again, or, if it is the "
                "copy in a shared storage, remove it"
            )
        file.seek(0)
        _verified.add(key)

    def _check_layout(self, parquet: pq.ParquetFile) -> None:
        got = parquet.metadata.num_rows
        if got != self.shard.rows:
            raise SiteError(f"{self.where}: expected {self.shard.rows} rows, got {got}")
        schema = parquet.schema_arrow
        row = schema.field("x").type
        if row != pa.binary(self.width):
            raise SiteError(f"{self.where}: expected rows of {self.width} bytes, got {row}")
        if self.labels is None:
            return
        wanted = label_type(self.labels)
        label = schema.field("label").type if "label" in schema.names else "none"
        if label != wanted:
            raise SiteError(f"{self.where}: expected labels of type {wanted}, got {label}")

    def _read_rows(
        self, parquet: pq.ParquetFile, low: int, high: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yield views of rows [low, high) of the shard and of their labels, by row group."""
        position = 0
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            first, last = max(low - position, 0), min(high - position, rows)
            if first < last:
                table = parquet.read_row_group(group, use_threads=False).combine_chunks()
                column = self._column(table, "x")
                raw = np.frombuffer(
                    column.buffers()[1], np.uint8, rows * self.width, column.offset * self.width
                )
                labels = None if self.labels is None else self._labels(table, rows)[first:last]
                yield raw.reshape(rows, self.width)[first:last], labels
            position += rows

    def _labels(self, table: pa.Table, rows: int) -> np.ndarray:
        assert self.labels is not None
        column, (shape, _) = self._column(table, "label"), self.labels
        if shape:
            column = self._without_nulls(column.flatten(), "label")
        labels: np.ndarray = column.to_numpy()
        return labels.reshape(rows, *shape)

    def _column(self, table: pa.Table, name: str) -> pa.Array:
        return self._without_nulls(table.column(name).chunk(0), name)

    def _without_nulls(self, column: pa.Array, name: str) -> pa.Array:
        if column.null_count:
            raise SiteError(f"{self.where}: expected no nulls in column {name}, got some")
        return column


def label_type(layout: LabelLayout) -> pa.DataType:
    """Return the type of a shard's column of labels."""
    shape, dtype = layout
    number = pa.from_numpy_dtype(dtype)
    return pa.list_(number, math.prod(shape)) if shape else number
