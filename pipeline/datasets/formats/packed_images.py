"""Many images in few files: Parquet as Hugging Face `datasets` writes it, and tars of WebDataset.

Both are read from their beginning to their end, a batch of images at a time. Of a tar nothing is
extracted, decoded or unpickled but members with a suffix of an image, which Pillow gets, and
`.cls`, which is the text of an integer; the names of members are looked at, never opened.
"""

from __future__ import annotations

import json
import posixpath
import tarfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.errors import UserError, one_line, require
from pipeline.datasets.formats.archives import list_members, open_tar
from pipeline.datasets.formats.image_files import SUFFIXES
from pipeline.datasets.formats.visible_files import visible_files

PARQUET, TAR = (".parquet",), (".tar", ".tar.gz", ".tgz")
MAX_BYTES, MAX_LABEL = 1 << 28, 20  # of an image as it is stored, and of the text of a label
MAX_CLASSES = 10**6  # as of arrays
MAX_HELD = 1 << 28  # bytes of the images of a batch
ROWS, READ_AHEAD = 64, 1 << 20  # of a Parquet file at a time
Sample = tuple[str, bytes, int | None]


@dataclass(frozen=True)
class Packed:
    """Images of a file as they are stored, in order.

    Attributes:
        where: each one's file and row, or member, for errors.
        images: PNG, JPEG or WebP.
        labels: (n,) int64, or None.
    """

    where: list[str]
    images: list[bytes]
    labels: np.ndarray | None

    def take(self, numbers: np.ndarray) -> Packed:
        """Return some of the images."""
        labels = None if self.labels is None else self.labels[numbers]
        return Packed([self.where[n] for n in numbers], [self.images[n] for n in numbers], labels)


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet by its name."""
    return path.name.lower().endswith(PARQUET)


def find_files(path: Path) -> list[Path]:
    """List the Parquet or tar files of a folder at any depth by name, or a file itself.

    Hidden files and folders are passed over, see `visible_files`.
    """
    found = [path] if path.is_file() else visible_files(path)
    return [one for one in found if one.name.lower().endswith(PARQUET + TAR)]


def count_images(path: Path, image: str, label: str) -> int:
    """Count the images of a file without decoding one.

    Arguments:
        path: of the file.
        image: the column of images; without effect for a tar.
        label: the column of labels, or of a tar "cls"; "" for none.

    Raises:
        UserError: for a damaged file, or one without such columns or members.
    """
    if is_parquet(path):
        with _opened_parquet(path, image, label) as file:
            return int(file.metadata.num_rows)
    return sum(1 for _ in _samples(path, label, read=False))


def read_batches(path: Path, image: str, label: str, size: int) -> Iterator[Packed]:
    """Read a file in batches of at most `size` images, and of 256 MiB and one image.

    Arguments: as for `count_images`.

    Raises:
        UserError: naming the row or member that is missing or malformed.
    """
    samples = (
        _parquet_samples(path, image, label)
        if is_parquet(path)
        else _samples(path, label, read=True)
    )
    waiting: list[Sample] = []
    held = 0
    for sample in samples:
        waiting.append(sample)
        held += len(sample[1])
        if len(waiting) == size or held >= MAX_HELD:
            yield _batch_of(waiting)
            waiting, held = [], 0
    if waiting:
        yield _batch_of(waiting)


def highest_label(path: Path, image: str, label: str) -> int:
    """Return the highest label of a file; arguments as for `count_images`."""
    if not is_parquet(path):
        numbers = (number for _, _, number in _samples(path, label, read=False))
        return max((number for number in numbers if number is not None), default=-1)
    highest = -1
    with _opened_parquet(path, image, label) as file, _explained(path):
        for batch in file.iter_batches(1 << 16, columns=[label], use_threads=False):
            highest = max(highest, pc.max(batch.column(label)).as_py() or 0)
    return _checked(highest, f"{path}: column {label}")


def _checked(label: int, where: str) -> int:
    require(label < MAX_CLASSES, where, f"classes below {MAX_CLASSES}", label)
    return label


def _batch_of(samples: list[Sample]) -> Packed:
    labels = [label for _, _, label in samples if label is not None]
    return Packed(
        [where for where, _, _ in samples],
        [content for _, content, _ in samples],
        np.array(labels, np.int64) if labels else None,
    )


# Parquet


def image_columns(path: Path) -> tuple[list[str], list[str], dict[str, int]]:
    """Return a Parquet file's columns of images, those of integers, and numbers of classes told.

    Raises:
        UserError: for a damaged file.
    """
    with _explained(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    images = [field.name for field in schema if _is_image(field.type)]
    integers = [field.name for field in schema if pa.types.is_integer(field.type)]
    features: dict[str, object] = {}
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told.get("info", {}).get("features", {})
    except (ValueError, AttributeError):
        pass  # the numbers of classes are counted then
    classes = {}
    for name, feature in features.items() if isinstance(features, dict) else ():
        names = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(names, list):
            classes[name] = len(names)
    return images, integers, classes


def other_columns(path: Path, used: Collection[str]) -> list[str]:
    """Return a Parquet file's columns but those that serve, each with its type.

    Raises:
        UserError: for a damaged file.
    """
    with _explained(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    return [
        f"{field.name} ({str(field.type).partition('<')[0]})"
        for field in schema
        if field.name not in used
    ]


def _is_image(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    at = kind.get_field_index("bytes")
    tests = (pa.types.is_binary, pa.types.is_large_binary)
    return at >= 0 and any(is_such(kind.field(at).type) for is_such in tests)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what pyarrow raises for a damaged file into one line."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path}: expected a Parquet file, whole and undamaged: {one_line(error)}"
        ) from None


def _opened_parquet(path: Path, image: str, label: str) -> pq.ParquetFile:
    with _explained(path):
        # Without read-ahead of whole columns: a row group may hold thousands of photographs.
        file = pq.ParquetFile(path, buffer_size=READ_AHEAD, pre_buffer=False)
        schema = file.schema_arrow
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    fits = image in schema.names and _is_image(schema.field(image).type)
    require(fits, str(path), f"a column {image!r} of images (struct with bytes)", columns)
    fits = not label or (label in schema.names and pa.types.is_integer(schema.field(label).type))
    require(fits, str(path), f"a column {label!r} of integers", columns)
    return file


def _parquet_samples(path: Path, image: str, label: str) -> Iterator[Sample]:
    """Yield each row's place, image and class."""
    columns = [f"{image}.bytes", *([label] if label else [])]
    row = 0
    with _opened_parquet(path, image, label) as file:
        batches = file.iter_batches(ROWS, columns=columns, use_threads=False)
        while True:
            with _explained(path):
                batch = next(batches, None)
            if batch is None:
                return
            where = [f"{path}: row {row + n}" for n in range(batch.num_rows)]
            images = batch.column(image).field("bytes").to_pylist()
            for place, content in zip(where, images, strict=True):
                if content is None:
                    raise UserError(f"{place}: expected the bytes of an image, got none")
            labels: list[int | None] = [None] * batch.num_rows
            if label:
                column = batch.column(label)
                if column.null_count:
                    place = where[pc.index(column.is_null(), True).as_py()]
                    raise UserError(f"{place}: column {label}: expected an integer, got null")
                named = zip(column.to_pylist(), where, strict=True)
                labels = [_checked(one, f"{place}: column {label}") for one, place in named]
            yield from zip(where, images, labels, strict=True)
            row += batch.num_rows


# Tars


def has_classes(path: Path) -> bool:
    """Whether the first sample of a tar has a class."""
    with open_tar(path, "r|*") as tar:
        first = None
        for member in list_members(tar):
            key, suffix = _key(member)
            if first is not None and key != first:
                return False
            if member.isfile():
                first = key
                if suffix == "cls":
                    return True
    return False


def _samples(path: Path, label: str, read: bool) -> Iterator[Sample]:
    """Yield each sample's place, image (empty unless read) and class."""
    with open_tar(path, "r|*") as tar:
        key, found = None, dict[str, bytes]()
        for member in list_members(tar):
            if not member.isfile():
                continue
            name, suffix = _key(member)
            if name != key:
                if key is not None:
                    yield _sample(path, key, found, label)
                key, found = name, {}
            is_image = f".{suffix.rpartition('.')[2]}" in SUFFIXES
            if is_image or (label and suffix == label):
                kind, most = ("image", MAX_BYTES) if is_image else ("class", MAX_LABEL)
                where = f"{path}: {name!r}"
                require(kind not in found, where, f"one {kind}", "several")
                require(
                    member.size <= most, where, f"a {kind} of at most {most} bytes", member.size
                )
                stream = tar.extractfile(member) if read or not is_image else None
                found[kind] = b"" if stream is None else stream.read()
                if stream is not None and len(found[kind]) != member.size:
                    raise UserError(f"{where}: expected {member.size} bytes, got fewer")
        if key is not None:
            yield _sample(path, key, found, label)


def _sample(path: Path, key: str, found: dict[str, bytes], label: str) -> Sample:
    where = f"{path}: {key!r}"
    require("image" in found, where, f"a member with one of {', '.join(SUFFIXES)}", "none")
    if not label:
        return where, found["image"], None
    text = found.get("class", b"").decode("ascii", "replace").strip()
    require(text.isdecimal(), where, f"a member .{label} with an integer >= 0", text)
    return where, found["image"], _checked(int(text), f"{where}: member .{label}")


def _key(member: tarfile.TarInfo) -> tuple[str, str]:
    """A member's sample and suffix: what comes before and after the first dot of its last part."""
    folder, name = posixpath.split(member.name)
    stem, _, suffix = name.partition(".")
    return posixpath.join(folder, stem), suffix.lower()
