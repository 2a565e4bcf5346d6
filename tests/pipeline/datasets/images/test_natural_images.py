"""CIFAR-10, its subset and small ImageNet: records, archives of images, streams, refusals."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from arcore.events import Real
from pipeline.core.errors import UserError
from pipeline.data import fetching, preprocessing, shard_reader
from pipeline.data.manifest import read_manifest
from pipeline.datasets import catalog
from pipeline.datasets.formats import archives
from pipeline.datasets.images import cifar, imagenet
from pipeline.datasets.images.cifar import Cifar, CifarSubset
from pipeline.datasets.images.imagenet import SmallImagenet
from tests.places import MIRROR
from tests.support.own_files import write_image_tar
from tests.support.served_folder import served

pytestmark = pytest.mark.usefixtures("workdir")
FIRST_4000 = MIRROR / "cifar10" / "data_batch_1_first4000.bin"
needs_mirror = pytest.mark.skipif(not FIRST_4000.is_file(), reason=f"no {FIRST_4000}")


def images(rows: int, size: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, 3, size, size), dtype=np.uint8)


def records(x: np.ndarray, labels: np.ndarray) -> bytes:
    return b"".join(bytes([k]) + image.tobytes() for image, k in zip(x, labels, strict=True))


# CIFAR-10

ROWS = 20


def cifar_files() -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """The archive's content for batches of ROWS images, and all images and labels, test last."""
    x, labels = images(6 * ROWS), np.random.default_rng(1).integers(0, 10, 6 * ROWS)
    files = {f"{cifar.FOLDER}/batches.meta.txt": b"airplane\n"}
    # In another order than that of the batches' numbers, as in the published archive.
    for number in (3, 0, 5, 1, 4, 2):
        name = (*cifar.TRAIN_BATCHES, *cifar.TEST_BATCHES)[number]
        part = slice(number * ROWS, (number + 1) * ROWS)
        files[f"{cifar.FOLDER}/{name}"] = records(x[part], labels[part])
    return files, x, labels


def small_cifar() -> Cifar:
    dataset = catalog.get_dataset({"name": "cifar10"})
    assert isinstance(dataset, Cifar)
    return replace(dataset, num_valid=7)


def test_cifar10_is_decoded_to_the_pixel(tmp_path: Path) -> None:
    files, x, labels = cifar_files()
    write_image_tar(tmp_path / "cifar-10-binary.tar.gz", [*files.items()], "w:gz")
    decoded = small_cifar().decode(tmp_path)
    for split, rows in (("train", (0, 93)), ("valid", (93, 100)), ("test", (100, 120))):
        np.testing.assert_array_equal(decoded[split].x, x[slice(*rows)])
        np.testing.assert_array_equal(decoded[split].labels, labels[slice(*rows)])


@needs_mirror
def test_the_subset_of_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fetching.MIRROR_VARIABLE, str(MIRROR))
    dataset = catalog.get_dataset({"name": "cifar10_4k"})
    fetching.fetch(dataset)
    folder = preprocessing.preprocess(dataset)
    data, start = FIRST_4000.read_bytes(), 0
    for split, rows in (("train", 3000), ("valid", 500), ("test", 500)):
        read = shard_reader.read_split(folder, split)
        assert len(read) == rows and read.labels is not None
        for row in (0, 1, rows - 1):
            record = data[(start + row) * cifar.RECORD :][: cifar.RECORD]
            assert read.labels[row] == record[0]
            for channel, line, column in ((0, 0, 0), (1, 2, 3), (2, 31, 31)):
                at = 1 + channel * 1024 + line * 32 + column
                assert read.x[row, channel, line, column] == record[at]
        start += rows


# Fetching a part of an archive


def small_subset(url: str | None = None) -> tuple[CifarSubset, bytes]:
    """A subset of the first 12 records of an archive's first batch, and these."""
    files, _, _ = cifar_files()
    content = files[f"{cifar.FOLDER}/data_batch_1.bin"][: 12 * cifar.RECORD]
    dataset = catalog.get_dataset({"name": "cifar10_4k"})
    assert isinstance(dataset, CifarSubset)
    file = replace(
        dataset.files[0],
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        url=url or "http://127.0.0.1:9/cifar-10-binary.tar.gz",
    )
    return replace(dataset, files=(file,), rows=(8, 2, 2)), content


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "served/cifar10/cifar-10-binary.tar.gz"
    write_image_tar(path, [*cifar_files()[0].items()], "w:gz")
    return path


@pytest.fixture
def server(archive: Path) -> Iterator[str]:
    with served(archive.parents[1]) as address:
        yield address


def test_the_subset_comes_out_of_the_public_archive(server: str) -> None:
    _, x, labels = cifar_files()
    dataset, content = small_subset(f"{server}/cifar10/cifar-10-binary.tar.gz")
    assert dataset.published_name is None and "4,000-image subset" in dataset.provenance
    folder = fetching.fetch(dataset)
    assert (folder / "data_batch_1_first4000.bin").read_bytes() == content
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["data_batch_1_first4000.bin", "source.json"]
    decoded = dataset.decode(fetching.verify_raw(dataset))
    np.testing.assert_array_equal(decoded["train"].x, x[:8])
    np.testing.assert_array_equal(decoded["valid"].labels, labels[8:10])
    np.testing.assert_array_equal(decoded["test"].x, x[10:12])
    noisy = replace(dataset, event=Real(cifar.SHAPE, bin_width=1 / 256)).decode(folder)
    assert noisy["train"].read_transform == "dequantize"
    np.testing.assert_array_equal(noisy["train"].x, x[:8])
    np.testing.assert_array_equal(np.floor(256 * noisy["test"].x), x[10:12])


def test_the_subset_comes_out_of_a_mirrors_or_a_siblings_archive(
    tmp_path: Path, archive: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = archive.read_bytes()
    dataset, content = small_subset()
    mirror, raw = archive.parent, tmp_path / "data/raw"
    for place, variable in (
        (mirror, str(mirror.parent)),
        (mirror, server),
        (raw / "cifar10", ""),
        (raw / "cifar10_4k", ""),  # put there by hand
    ):
        place.mkdir(parents=True, exist_ok=True)
        path = place / archive.name
        path.write_bytes(packed)
        monkeypatch.setenv(fetching.MIRROR_VARIABLE, variable)
        folder = fetching.fetch(dataset)
        assert (folder / dataset.files[0].name).read_bytes() == content
        (folder / dataset.files[0].name).unlink()
        path.unlink()


# Archives


def test_archives_are_read_in_order_and_without_what_is_not_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(Path(__file__).parent, "b", recursive=False)
        archive.add(__file__, "b/2")
        archive.add(__file__, "b/1")
        link = tarfile.TarInfo("b/3")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with archives.open_archive(path) as files:
        assert [member.name for member, _ in files] == ["b/2", "b/1"]


def test_missing_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a.tar: file not found; run python -m stages.fetch"):
        archives.read_first(tmp_path / "a.tar", "b", 1)


# ImageNet


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def imagenet_folder(folder: Path, size: int, train: int, test: int) -> np.ndarray:
    x = images(train + test, size)
    for part, rows in (("train", range(train)), ("valid", range(train, train + test))):
        name = f"{part}_{size}x{size}"
        # The order is the archive's, not that of the names.
        files = [(f"{name}/{9_999_999 - row:07d}.png", png(x[row])) for row in rows]
        write_image_tar(folder / f"{name}.tar", files)
    return x


@pytest.mark.parametrize("size", [32, 64])
def test_imagenet_is_decoded_to_the_pixel_as_a_stream(tmp_path, monkeypatch, size: int) -> None:
    monkeypatch.setattr(imagenet, "PART", 7)
    x = imagenet_folder(tmp_path, size, 30, 5)
    dataset = catalog.get_dataset({"name": f"imagenet{size}", "rows_per_shard": 10})
    assert isinstance(dataset, SmallImagenet)
    dataset = replace(dataset, num_train_file=30, num_valid=4, num_test=5)
    parts = [len(part.x) for part in dataset.decode(tmp_path)["train"].parts]
    assert parts == [7, 7, 7, 5]
    folder = preprocessing.write(dataset, dataset.decode(tmp_path), tmp_path / "shards")
    manifest = read_manifest(folder)
    assert [shard.rows for shard in manifest.splits["train"].shards] == [10, 10, 6]
    assert manifest.num_classes is None and manifest.published_name == f"imagenet{size}"
    for split, rows in (("train", (0, 26)), ("valid", (26, 30)), ("test", (30, 35))):
        np.testing.assert_array_equal(shard_reader.read_split(folder, split).x, x[slice(*rows)])
