"""Digits: the recorded split, thresholds, noise and components."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split

from pipeline.core.errors import UserError
from pipeline.datasets import base, catalog
from pipeline.datasets.embedded import digits


def test_digits_split_is_stratified_by_seed_0() -> None:
    labels = digits.load()[1]
    rest, test = train_test_split(
        np.arange(len(labels)), test_size=360, stratify=labels, random_state=0
    )
    train, valid = train_test_split(rest, test_size=180, stratify=labels[rest], random_state=0)
    for found, rows in zip(digits.read_split().values(), (train, valid, test), strict=True):
        np.testing.assert_array_equal(found, np.sort(rows))


def test_digits_binary_thresholds_the_same_rows(tmp_path: Path) -> None:
    gray = catalog.get_dataset({"name": "digits"}).decode(tmp_path)
    binary = catalog.get_dataset({"name": "digits_binary"}).decode(tmp_path)
    for split in base.SPLITS:
        assert gray[split].x.dtype == np.uint8 and gray[split].x.max() == 16
        np.testing.assert_array_equal(binary[split].x, gray[split].x >= 8)
        np.testing.assert_array_equal(binary[split].labels, gray[split].labels)


def test_digits_pca_has_components_of_the_training_split(tmp_path: Path) -> None:
    plain = catalog.get_dataset({"name": "digits"}).decode(tmp_path)
    described = catalog.get_dataset({"name": "digits_pca", "components": 5})
    splits = described.decode(tmp_path)
    assert described.condition_size == 5 and described.num_classes is None
    pca = PCA(5, svd_solver="full").fit(plain["train"].x.reshape(-1, 64).astype(float))
    for split, data in splits.items():
        assert np.array_equal(data.x, plain[split].x) and data.labels.dtype == np.float32
        wanted = pca.transform(data.x.reshape(-1, 64).astype(float))
        wanted = wanted / np.sqrt(pca.explained_variance_)
        assert np.abs(np.abs(wanted) - np.abs(data.labels)).max() < 1e-4
        assert np.array_equal(data.labels, data.labels.round(4))
    assert splits["train"].labels.std(0, ddof=1) == pytest.approx(np.ones(5), abs=1e-4)
    many = catalog.get_dataset({"name": "digits_pca", "components": 64})
    with pytest.raises(UserError, match="components: expected at most 6[01], the directions"):
        many.decode(tmp_path)
    with pytest.raises(UserError, match="components .*: expected 1 to 64, got 65"):
        catalog.get_dataset({"name": "digits_pca", "components": 65})


def test_digits_dequantized_adds_noise_to_the_same_rows(tmp_path: Path) -> None:
    gray = catalog.get_dataset({"name": "digits"}).decode(tmp_path)
    noisy = catalog.get_dataset({"name": "digits_dequantized"}).decode(tmp_path)
    assert noisy["train"].read_transform == "dequantize"
    np.testing.assert_array_equal(noisy["train"].x, gray["train"].x)
    for split in ("valid", "test"):
        assert noisy[split].read_transform is None and noisy[split].x.dtype == np.float32
        np.testing.assert_array_equal(np.floor(noisy[split].x * 17.0), gray[split].x)
    first = noisy["valid"].x[:100] * 17 - gray["valid"].x[:100]
    second = noisy["test"].x[:100] * 17 - gray["test"].x[:100]
    assert abs(first - second).mean() > 0.2  # another draw
    for split in base.SPLITS:
        np.testing.assert_array_equal(noisy[split].labels, gray[split].labels)
