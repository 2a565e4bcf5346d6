"""Many images in few files: Parquet as Hugging Face `datasets` writes it, and tars of WebDataset.

Of a tar nothing is extracted, decoded or unpickled but members with a suffix of an image, which
Pillow gets, and `.cls`, which is the text of an integer.
"""

import itertools
import posixpath
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import UserError, explained, require
from pipeline.datasets.formats.archives import list_members, open_tar
from pipeline.datasets.formats.image_files import SUFFIXES
from pipeline.datasets.formats.visible_files import visible_files

PARQUET, TAR = (".parquet",), (".tar", ".tar.gz", ".tgz")
MAX_BYTES = 1 << 28  # of an image as it is stored
ROWS, READ_AHEAD = 64, 1 << 20  # of a Parquet file at a time
Sample = tuple[str, bytes, int | None]  # where it is, an image as it is stored, its class


def is_parquet(path: Path) -> bool:
    """Whether a file is Parquet by its name."""
    return path.name.lower().endswith(PARQUET)


def find_files(path: Path) -> list[Path]:
    """List the Parquet or tar files of a folder, see `visible_files`, or a file itself."""
    if path.is_file():
        return [path] if path.name.lower().endswith(PARQUET + TAR) else []
    return visible_files(path, PARQUET + TAR)


def count_images(path: Path, image: str, label: str) -> int:
    """Count the images of a file without decoding one.

    `image` and `label` are columns, or "" for no labels; of a tar, `label` is "cls".
    """
    if is_parquet(path):
        with _opened_parquet(path, image, label) as file:
            return int(file.metadata.num_rows)
    return sum(1 for _ in _tar_samples(path, label, is_read=False))


def read_samples(path: Path, image: str, label: str) -> Iterator[Sample]:
    """Yield the images of a file in order; arguments as for `count_images`."""
    if is_parquet(path):
        return _parquet_samples(path, image, label)
    return _tar_samples(path, label, is_read=True)


def highest_label(path: Path, image: str, label: str) -> int:
    """Return the highest label of a file; arguments as for `count_images`."""
    if is_parquet(path):
        with _opened_parquet(path, image, label) as file, _explained(path):
            labels = file.read([label]).column(label).to_pylist()
    else:
        labels = [number for _, _, number in _tar_samples(path, label, is_read=False)]
    return max((number or 0 for number in labels), default=-1)


def image_columns(path: Path) -> tuple[list[str], list[str]]:
    """Return a Parquet file's columns of images, and its columns of integers."""
    with _explained(path), pq.ParquetFile(path) as file:
        schema = file.schema_arrow
    images = [field.name for field in schema if _is_image(field.type)]
    return images, [field.name for field in schema if pa.types.is_integer(field.type)]


def _is_image(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return False
    at = kind.get_field_index("bytes")
    return at >= 0 and kind.field(at).type in (pa.binary(), pa.large_binary())


def _explained(path: Path) -> AbstractContextManager[None]:
    what = f"{path}: expected a Parquet file, whole and undamaged:"
    return explained(what, pa.ArrowException, OSError)


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
    columns, row = [f"{image}.bytes", *([label] if label else [])], 0
    with _opened_parquet(path, image, label) as file:
        batches = file.iter_batches(ROWS, columns=columns, use_threads=False)
        while True:
            with _explained(path):
                batch = next(batches, None)
            if batch is None:
                return
            images = batch.column(image).field("bytes").to_pylist()
            labels = batch.column(label).to_pylist() if label else itertools.repeat(None)
            for content, number in zip(images, labels, strict=False):
                where, row = f"{path}: row {row}", row + 1
                require(content is not None, where, "the bytes of an image", None)
                require(number is not None or not label, where, f"a class in {label}", number)
                yield where, content, number


def has_classes(path: Path) -> bool:
    """Whether the first sample of a tar has a class."""
    with open_tar(path, "r|*") as tar:
        for _, members in _groups(tar):
            return any(_key(member)[1] == "cls" for member in members)
    return False


def _tar_samples(path: Path, label: str, is_read: bool) -> Iterator[Sample]:
    """Yield each sample's place, image (empty unless read) and class."""
    with open_tar(path, "r|*") as tar:
        for key, members in _groups(tar):
            where, images, classes = f"{path}: {key!r}", list[bytes](), list[str]()
            for member in members:
                suffix = _key(member)[1]
                is_image = f".{suffix.rpartition('.')[2]}" in SUFFIXES
                if not is_image and suffix != label:
                    continue
                fits = member.size <= MAX_BYTES
                require(fits, where, f"a member of at most {MAX_BYTES} bytes", member.size)
                content = _read(tar, member, where) if is_read or not is_image else b""
                if is_image:
                    images.append(content)
                else:
                    classes.append(content.decode("ascii", "replace").strip())
            wanted = f"a member with one of {', '.join(SUFFIXES)}"
            require(len(images) == 1, where, wanted, len(images))
            fits = not label or [one.isdecimal() for one in classes] == [True]
            require(fits, where, f"a member .{label} with an integer >= 0", classes)
            yield where, images[0], int(classes[0]) if label else None


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo, where: str) -> bytes:
    stream = tar.extractfile(member)
    content = b"" if stream is None else stream.read()
    if len(content) != member.size:
        raise UserError(f"{where}: expected {member.size} bytes, got fewer")
    return content


def _groups(tar: tarfile.TarFile) -> Iterator[tuple[str, Iterator[tarfile.TarInfo]]]:
    """Yield the samples of a tar: members whose names are alike up to their suffixes."""
    files = (member for member in list_members(tar) if member.isfile())
    return itertools.groupby(files, key=lambda member: _key(member)[0])


def _key(member: tarfile.TarInfo) -> tuple[str, str]:
    """A member's sample and suffix: what comes before and after the first dot of its last part."""
    folder, name = posixpath.split(member.name)
    stem, _, suffix = name.partition(".")
    return posixpath.join(folder, stem), suffix.lower()
