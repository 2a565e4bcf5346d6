"""Datasets: options, decoders and their errors, protocols, draws."""

from __future__ import annotations

import gzip
import json
import struct
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from arcore.events import Binary, Levels, Real
from pipeline.core.errors import UserError
from pipeline.datasets import base, catalog, digits, read_transforms, uci_binary
from pipeline.datasets.formats import text_and_idx
from pipeline.datasets.formats.text_and_idx import read_bits, read_idx
from pipeline.datasets.idx_images import IdxImages, Variant
from tests.places import MIRROR

needs_mirror = pytest.mark.skipif(
    not (MIRROR / "uci_binary").is_dir(), reason=f"no data mirror at {MIRROR}"
)


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.tobytes())


def idx_folder(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for part, rows in (("train", 60), ("t10k", 20)):
        images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
        labels = rng.integers(0, 10, rows, dtype=np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)
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
        num_train_file=60,
        num_valid=10,
        num_test=20,
    )


# Configuration


@pytest.mark.parametrize("name", catalog.list_datasets())
def test_every_conf_builds_its_dataset_with_all_options_spelt_out(name: str) -> None:
    config = catalog.load_config(name)
    dataset = catalog.get_dataset(config)
    assert dataset.name == name == config["name"]
    assert dataset == catalog.get_dataset({"name": name})
    assert set(config) == {"name", *vars(dataset.options)}
    reals = isinstance(dataset.event, Real) and dataset.event.bin_width is None
    in_nats = reals or isinstance(dataset.event, Binary)
    image = "nats" if in_nats else "bits_per_dim"
    clips = {"robotic_pushing": "nats_per_dim"}.get(name, "nats_per_frame")
    assert dataset.unit == (clips if dataset.context_frames else image)
    assert len({file.name for file in dataset.files}) == len(dataset.files)


def test_conf_folder_lists_the_datasets() -> None:
    confs = sorted(path.stem for path in catalog.CONF_FOLDER.glob("*.yaml"))
    assert confs == catalog.list_datasets()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "digit"}, "unknown dataset 'digit'; did you mean 'digits'"),
        ({}, "expected a mapping with the key name"),
        ({"name": "dna", "splt": "published"}, "unknown dna option 'splt'; did you mean 'split'"),
        ({"name": "dna", "split": "mine"}, "expected one of 'published', 'as_distributed', got"),
        ({"name": "dna", "rows_per_shard": "7"}, "rows_per_shard .*: expected .* int, got '7'"),
        ({"name": "dna", "rows_per_shard": True}, "expected .* int, got True"),
        ({"name": "dna", "rows_per_shard": 0}, "rows_per_shard: expected an integer >= 1, got 0"),
    ],
)
def test_bad_configuration_is_one_clear_line(config: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        catalog.get_dataset(config)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("override", ["split", "name=digits", "a.b=1", "split=[1"])
def test_bad_override_is_one_clear_line(override: str) -> None:
    with pytest.raises(UserError, match="override") as raised:
        catalog.load_config("dna", [override])
    assert "\n" not in str(raised.value)


def test_overrides_are_typed() -> None:
    config = catalog.load_config("dna", ["split=as_distributed", "rows_per_shard=5"])
    assert config == {"name": "dna", "split": "as_distributed", "rows_per_shard": 5}


# Decoders


def test_read_idx_round_trip(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "f", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "f", 3), array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-1], r"f: truncated IDX file: expected 40 bytes for shape \(2, 3, 4\)"),
        (lambda b: b + b"0", "f: overlong IDX file"),
        (lambda b: b[:5], "f: truncated IDX file: expected a header of 16 bytes, got 5"),
        (lambda b: b"", "f: truncated IDX file"),
        (gzip.compress, "f: not an IDX file"),
    ],
)
def test_read_idx_names_file_and_reason(tmp_path: Path, change, message: str) -> None:
    write_idx(tmp_path / "f", np.zeros((2, 3, 4), np.uint8))
    (tmp_path / "f").write_bytes(change((tmp_path / "f").read_bytes()))
    with pytest.raises(UserError, match=message):
        read_idx(tmp_path / "f", 3)


def test_read_bits(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("0,1,1\n1,0,0\n")
    np.testing.assert_array_equal(read_bits(tmp_path / "f", 3, ","), [[0, 1, 1], [1, 0, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,1,1\n1,0", "f: truncated: .* got 1 whole rows and 3 bytes"),
        ("", "f: truncated: .* got 0 whole rows"),
        ("0,1,1\n1,2,0\n", "f: row 2, column 2: expected 0 or 1 and then ',' .* got '2,'"),
        ("0,1,1\n1 0,0\n", "f: row 2, column 1: .* got '1 '"),
        ("0,1,1,0\n1,0\n", "f: row 1, column 3: .* got '1,'"),
    ],
)
def test_read_bits_names_file_row_and_column(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "f").write_text(text)
    with pytest.raises(UserError, match=message):
        read_bits(tmp_path / "f", 3, ",")


def test_missing_raw_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="binarized_mnist_train.amat: file not found"):
        catalog.get_dataset({"name": "binarized_mnist"}).decode(tmp_path)


def test_wrong_number_of_rows_names_the_file(tmp_path: Path) -> None:
    for split in catalog.SPLITS:
        (tmp_path / f"dna.{split}.data").write_text(",".join("0" * 180) + "\n")
    with pytest.raises(UserError, match="dna.train.data: expected 1600 rows, got 1"):
        catalog.get_dataset({"name": "dna"}).decode(tmp_path)


# Protocols


def test_digits_split_is_recorded_stratified_and_disjoint(tmp_path: Path) -> None:
    split = digits.read_split()
    assert [len(split[name]) for name in catalog.SPLITS] == [1257, 180, 360]
    assert sorted(np.concatenate(list(split.values()))) == list(range(1797))
    _, labels = digits.load()
    overall = np.bincount(labels) / len(labels)
    for rows in split.values():
        shares = np.bincount(labels[rows], minlength=10) / len(rows)
        assert np.abs(shares - overall).max() < 1 / len(rows)


def test_digits_split_is_what_the_documented_command_writes(tmp_path: Path) -> None:
    digits.write_split(tmp_path / "split.json")
    assert (tmp_path / "split.json").read_text() == digits.SPLIT_FILE.read_text()


def test_digits_binary_thresholds_the_same_rows(tmp_path: Path) -> None:
    gray = catalog.get_dataset({"name": "digits"}).decode(tmp_path)
    binary = catalog.get_dataset({"name": "digits_binary"}).decode(tmp_path)
    for split in catalog.SPLITS:
        assert gray[split].x.dtype == np.uint8 and gray[split].x.max() == 16
        np.testing.assert_array_equal(binary[split].x, gray[split].x >= 8)
        np.testing.assert_array_equal(binary[split].labels, gray[split].labels)


def test_mnist_variants_agree_on_rows_and_on_valid_and_test_draws(tmp_path: Path) -> None:
    raw = idx_folder(tmp_path)
    gray = small_mnist("gray").decode(raw)
    static = small_mnist("static").decode(raw)
    dynamic = small_mnist("dynamic").decode(raw)
    assert [len(gray[split].x) for split in catalog.SPLITS] == [50, 10, 20]
    for split in catalog.SPLITS:
        np.testing.assert_array_equal(static[split].labels, gray[split].labels)
        assert static[split].read_transform is None and static[split].x.max() == 1
        assert not static[split].x[gray[split].x == 0].any()
        assert static[split].x[gray[split].x == 255].all()
    for split in ("valid", "test"):
        np.testing.assert_array_equal(dynamic[split].x, static[split].x)
        assert dynamic[split].read_transform is None
    np.testing.assert_array_equal(dynamic["train"].x, gray["train"].x)
    assert dynamic["train"].read_transform == "bernoulli"


@needs_mirror
def test_dna_follows_the_papers_by_default() -> None:
    raw = MIRROR / "uci_binary"
    published = catalog.get_dataset({"name": "dna"})
    distributed = catalog.get_dataset({"name": "dna", "split": "as_distributed"})
    assert "1400/600/1186 as in the papers" in published.provenance
    assert "as distributed, 1600/400/1186" in distributed.provenance
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            text_and_idx,
            "read_bytes",
            lambda path: gzip.decompress((raw / f"{path.name}.gz").read_bytes()),
        )
        ours, theirs = published.decode(raw), distributed.decode(raw)
    assert [len(ours[split].x) for split in catalog.SPLITS] == [1400, 600, 1186]
    assert [len(theirs[split].x) for split in catalog.SPLITS] == [1600, 400, 1186]
    for parts in zip(*[(s["train"].x, s["valid"].x) for s in (ours, theirs)], strict=True):
        assert parts[0].shape[1] == parts[1].shape[1] == 180
    joined = np.concatenate([theirs["train"].x, theirs["valid"].x])
    papers = json.loads((raw / "dna_papers_split.json").read_text())
    for split in ("train", "valid"):
        np.testing.assert_array_equal(ours[split].x, joined[papers[split]])


def test_the_papers_rows_of_dna_are_each_of_the_files_rows_once() -> None:
    rows = uci_binary.read_dna_split()
    assert {split: len(found) for split, found in rows.items()} == {"train": 1400, "valid": 600}
    assert sorted(np.concatenate(list(rows.values()))) == list(range(2000))
    assert np.sum(rows["valid"] < 1400) == 398  # which the first 1,400 rows would train on


# Draws


def test_dynamic_binarize_is_a_pure_function_of_seed_epoch_and_index() -> None:
    x = np.random.default_rng(0).integers(0, 256, (300, 1, 5, 5), dtype=np.uint8)
    indices = np.arange(300)
    whole = read_transforms.dynamic_binarize(x, indices, epoch=3, seed=5)
    assert whole.dtype == np.uint8 and whole.shape == x.shape and set(np.unique(whole)) == {0, 1}
    order = np.random.default_rng(1).permutation(300)
    for part in (order[:1], order[:7], order):
        drawn = read_transforms.dynamic_binarize(x[part], indices[part], epoch=3, seed=5)
        np.testing.assert_array_equal(drawn, whole[part])
    for epoch, seed in ((4, 5), (3, 6), (5, 3)):
        other = read_transforms.dynamic_binarize(x, indices, epoch=epoch, seed=seed)
        assert 0.2 < (other != whole).mean() < 0.45  # independent bits: E[2p(1-p)] = 1/3
    assert read_transforms.dynamic_binarize(x[:0], indices[:0], 0, 0).shape == (0, 1, 5, 5)


def test_dynamic_binarize_never_changes() -> None:
    # Golden bits: a change here changes the numbers of every dynamically binarised experiment.
    x = np.full((2, 8), 128, np.uint8)
    drawn = read_transforms.dynamic_binarize(x, np.array([0, 1]), epoch=0, seed=0)
    assert drawn.tolist() == [[0, 1, 1, 1, 0, 0, 1, 0], [1, 0, 0, 1, 1, 0, 0, 1]]
    assert read_transforms.choose_rows(60_000, 10_000, 0)[:5].tolist() == [0, 12, 13, 16, 19]


def test_dynamic_binarize_has_the_right_means_and_independent_dimensions() -> None:
    levels = np.array([0, 1, 64, 128, 254, 255], np.uint8)
    n = 40_000
    x = np.broadcast_to(levels, (n, 6))
    bits = read_transforms.dynamic_binarize(x, np.arange(n), epoch=0, seed=0)
    p = levels / 255
    # Five standard errors of a mean of n Bernoulli draws.
    assert (np.abs(bits.mean(0) - p) <= 5 * np.sqrt(p * (1 - p) / n)).all()
    correlation = np.corrcoef(bits[:, 2], bits[:, 3])[0, 1]
    assert abs(correlation) < 5 / np.sqrt(n)


def test_dynamic_binarize_is_fast() -> None:
    x = np.random.default_rng(0).integers(0, 256, (50_000, 784), dtype=np.uint8)
    start = time.process_time()
    read_transforms.dynamic_binarize(x, np.arange(50_000), epoch=0, seed=0)
    assert time.process_time() - start < 5  # about 0.3 s on an idle core


@pytest.mark.parametrize(
    ("x", "indices", "epoch", "message"),
    [
        (np.zeros((2, 3)), np.arange(2), 0, "x: expected .* uint8, got float64"),
        (np.zeros((2, 3), np.uint8), np.arange(3), 0, "indices: expected 2 integers"),
        (np.zeros((2, 3), np.uint8), np.zeros(2), 0, "indices: expected 2 integers"),
        (np.zeros((2, 3), np.uint8), np.array([0, -1]), 0, "expected integers >= 0"),
        (np.zeros((2, 3), np.uint8), np.arange(2), -1, "expected integers >= 0"),
    ],
)
def test_dynamic_binarize_refuses(x, indices, epoch: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_transforms.dynamic_binarize(x, indices, epoch, 0)


def test_dequantize_stays_in_the_bin_and_is_a_pure_function_of_seed_epoch_and_index() -> None:
    x = np.random.default_rng(0).integers(0, 17, (300, 1, 5, 5), dtype=np.uint8)
    indices = np.arange(300)
    whole = read_transforms.dequantize(x, indices, epoch=3, seed=5, num_levels=17)
    assert whole.dtype == np.float32 and whole.shape == x.shape
    np.testing.assert_array_equal(np.floor(whole.astype(np.float64) * 17), x)
    order = np.random.default_rng(1).permutation(300)
    part = read_transforms.dequantize(
        x[order[:7]], indices[order[:7]], epoch=3, seed=5, num_levels=17
    )
    np.testing.assert_array_equal(part, whole[order[:7]])
    for epoch, seed in ((4, 5), (3, 6)):
        assert (read_transforms.dequantize(x, indices, epoch, seed, 17) != whole).mean() > 0.99
    noise = whole * 17 - x
    # Five standard errors of the mean and variance of 7,500 uniform draws.
    assert abs(noise.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / noise.size)
    assert abs(noise.var() - 1 / 12) < 5 * np.sqrt(1 / 180 / noise.size)


def test_dequantize_never_changes() -> None:
    x = np.full((1, 4), 3, np.uint8)
    drawn = read_transforms.dequantize(x, np.array([1]), epoch=0, seed=0, num_levels=4)
    assert (drawn * 4 * 2**16).tolist() == [[196674.0, 235369.0, 252784.0, 215778.0]]


def test_dequantize_at_256_levels_stays_below_one(monkeypatch: pytest.MonkeyPatch) -> None:
    most = np.full((1, 1), 2**31 - 1, np.uint32)
    monkeypatch.setattr(read_transforms, "_random31", lambda *_: [(slice(0, 1), most)])
    x = np.array([[255]], np.uint8)
    drawn = read_transforms.dequantize(x, np.array([0]), epoch=0, seed=0, num_levels=256)
    assert drawn.item() < 1 and np.floor(drawn * 256).item() == 255


def test_draw_does_what_the_manifest_says() -> None:
    x = np.random.default_rng(0).integers(0, 4, (6, 3), dtype=np.uint8)
    event, rows = Real((3,), bin_width=0.25), np.arange(6)
    assert read_transforms.draw(None, x, event, rows, 0, 0) is x
    expected = read_transforms.dequantize(x, rows, 2, 1, num_levels=4)
    np.testing.assert_array_equal(
        read_transforms.draw("dequantize", x, event, rows, 2, 1), expected
    )
    expected = read_transforms.dynamic_binarize(x, rows, 2, 1)
    np.testing.assert_array_equal(
        read_transforms.draw("bernoulli", x, Binary((3,)), rows, 2, 1), expected
    )
    for wrong in (Real((3,)), Real((3,), bin_width=0.3), Binary((3,))):
        with pytest.raises(ValueError, match="event: expected Real with a bin_width of 1 / levels"):
            read_transforms.num_bins(wrong)


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
    with pytest.raises(UserError, match="components: expected an integer in .1, 64., got 65"):
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
    for split in catalog.SPLITS:
        np.testing.assert_array_equal(noisy[split].labels, gray[split].labels)
