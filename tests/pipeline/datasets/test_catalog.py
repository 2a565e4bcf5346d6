"""The catalogue: names, options and their errors; draws made when rows are read."""

import numpy as np
import pytest

from arcore.events import Binary, Real
from pipeline.datasets import catalog, read_transforms
from tests.support.refusals import refused


@pytest.mark.parametrize("name", catalog.list_datasets())
def test_every_conf_builds_its_dataset_with_all_options_spelt_out(name: str) -> None:
    config = catalog.load_settings(name)
    dataset = catalog.get_dataset(config)
    assert dataset.name == name == config["name"]
    assert dataset == catalog.get_dataset({"name": name})
    assert set(config) == {"name", *vars(dataset.options)}
    reals = isinstance(dataset.event, Real) and dataset.event.bin_width is None
    in_nats = reals or isinstance(dataset.event, Binary)
    image = "nats" if in_nats else "bits_per_dim"
    frames = {"robotic_pushing": "nats_per_dim"}.get(name, "nats_per_frame")
    is_roll = dataset.sound is not None and dataset.sound.is_roll
    assert dataset.unit == (frames if dataset.context_frames or is_roll else image)
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
        ({"name": "dna", "split": "mine"}, "expected 'published' or 'as_distributed', got"),
        ({"name": "dna", "rows_per_shard": "7"}, "rows_per_shard .*: expected .* integer, got '7'"),
        ({"name": "dna", "rows_per_shard": True}, "expected .* integer, got True"),
        ({"name": "dna", "rows_per_shard": 0}, "rows_per_shard .*: expected an integer >= 1"),
    ],
)
def test_bad_configuration_is_one_clear_line(config: dict[str, object], message: str) -> None:
    with refused(message):
        catalog.get_dataset(config)


@pytest.mark.parametrize("override", ["split", "name=digits", "a.b=1", "split=[1"])
def test_bad_override_is_one_clear_line(override: str) -> None:
    with refused("override|split: expected YAML"):
        catalog.load_settings("dna", [override])


def test_overrides_are_typed() -> None:
    config = catalog.load_settings("dna", ["split=as_distributed", "rows_per_shard=5"])
    assert config == {"name": "dna", "split": "as_distributed", "rows_per_shard": 5}


@pytest.mark.parametrize("kind", ["bernoulli", "dequantize"])
def test_draws_are_a_pure_function_of_seed_epoch_and_index(kind: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (300, 1, 5, 5), dtype=np.uint8)
    event, indices = Real((1, 5, 5), bin_width=1 / 256), np.arange(300)
    whole = read_transforms.draw(kind, x, event, indices, 3, 5)
    assert whole.shape == x.shape
    order = np.random.default_rng(1).permutation(300)
    for part in (order[:1], order[:7], order):
        drawn = read_transforms.draw(kind, x[part], event, indices[part], 3, 5)
        np.testing.assert_array_equal(drawn, whole[part])
    for epoch, seed in ((4, 5), (3, 6), (5, 3)):
        changed = (read_transforms.draw(kind, x, event, indices, epoch, seed) != whole).mean()
        # Independent bits: E[2p(1-p)] = 1/3.
        assert 0.2 < changed < 0.45 if kind == "bernoulli" else changed > 0.99
    assert read_transforms.draw(kind, x[:0], event, indices[:0], 0, 0).shape == (0, 1, 5, 5)


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
    assert bits.dtype == np.uint8 and set(np.unique(bits)) == {0, 1}
    p = levels / 255
    # Five standard errors of a mean of n Bernoulli draws.
    assert (np.abs(bits.mean(0) - p) <= 5 * np.sqrt(p * (1 - p) / n)).all()
    correlation = np.corrcoef(bits[:, 2], bits[:, 3])[0, 1]
    assert abs(correlation) < 5 / np.sqrt(n)


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


def test_dequantize_draws_uniformly_within_the_bin() -> None:
    x = np.random.default_rng(0).integers(0, 17, (300, 1, 5, 5), dtype=np.uint8)
    whole = read_transforms.dequantize(x, np.arange(300), epoch=3, seed=5, num_levels=17)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(np.floor(whole.astype(np.float64) * 17), x)
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
