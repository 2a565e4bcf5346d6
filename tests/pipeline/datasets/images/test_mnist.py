"""MNIST and its like: variants agree on rows and draws."""

import struct
from pathlib import Path

import numpy as np

from arcore.events import Binary, Levels
from pipeline.datasets import base
from pipeline.datasets.images.mnist import IdxImages, Variant


def idx_folder(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, rows in (("train", 60), ("t10k", 20)):
        images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, rows, dtype=np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(header + array.tobytes())
    return folder


def small_mnist(variant: Variant) -> IdxImages:
    return IdxImages(
        name="small",
        family="small",
        event=Levels(256, (1, 28, 28)) if variant == "gray" else Binary((1, 28, 28)),
        unit="nats",
        files=(),
        provenance="test",
        options=base.Options(),
        num_classes=10,
        variant=variant,
        num_valid=10,
    )


def test_mnist_variants_agree_on_rows_and_on_valid_and_test_draws(tmp_path: Path) -> None:
    raw = idx_folder(tmp_path)
    gray = small_mnist("gray").decode(raw)
    static = small_mnist("static").decode(raw)
    dynamic = small_mnist("dynamic").decode(raw)
    assert [len(gray[split].x) for split in base.SPLITS] == [50, 10, 20]
    for split in base.SPLITS:
        np.testing.assert_array_equal(static[split].labels, gray[split].labels)
        assert static[split].read_transform is None and static[split].x.max() == 1
        assert not static[split].x[gray[split].x == 0].any()
        assert static[split].x[gray[split].x == 255].all()
    for split in ("valid", "test"):
        np.testing.assert_array_equal(dynamic[split].x, static[split].x)
        assert dynamic[split].read_transform is None
    np.testing.assert_array_equal(dynamic["train"].x, gray["train"].x)
    assert dynamic["train"].read_transform == "bernoulli"
