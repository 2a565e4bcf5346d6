"""Moving digits: the published generator, its bound, loading, evaluation and pictures of clips."""

import dataclasses
import gzip
import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import arcore
from arcore.events import Gray, after_frames
from arcore.units import nats_to
from pipeline.core.errors import UserError
from pipeline.data import preprocessing, shard_reader
from pipeline.data.loading import Loader
from pipeline.data.manifest import read_manifest
from pipeline.data.shuffling import BatchPlan
from pipeline.datasets import base, catalog, read_transforms
from pipeline.datasets.base import SplitData
from pipeline.datasets.moving_generator import render, trajectories
from pipeline.evaluation import image_figures, scoring
from pipeline.evaluation.scoring import ChosenRows
from tests.places import MIRROR
from tests.support.workers import Worker

MNIST = MIRROR / "mnist" / "t10k-images-idx3-ubyte.gz"
needs_mirror = pytest.mark.skipif(not MNIST.is_file(), reason=f"no {MNIST}")
PUBLISHED_BOUND = 86.3
TEST_SHA256 = {  # of all test clips' bytes in order
    "moving_digits": "c9b7c5d4d9dced638b7660882c4bf06ac264c5b83f06a2caffa94451be934ee9",
    "moving_mnist": "c77691519ce8619367729b24a2f7d379a448a8b18009677aae6b928533a83fba",
}


# -- the generator


def test_trajectories_are_the_published_rule_step_by_step() -> None:
    generator = np.random.default_rng(0)
    starts, angles = generator.random((50, 2)), 2 * np.pi * generator.random(50)
    found = trajectories(starts, angles, 20)
    for (y, x), angle, path in zip(starts, angles, found, strict=True):
        v_y, v_x = math.sin(angle), math.cos(angle)
        for place in path:
            y, x = y + 0.1 * v_y, x + 0.1 * v_x
            if y <= 0 or y >= 1:
                y, v_y = min(max(y, 0.0), 1.0), -v_y
            if x <= 0 or x >= 1:
                x, v_x = min(max(x, 0.0), 1.0), -v_x
            assert place == pytest.approx([y, x])


def test_digits_keep_within_the_canvas_and_the_brighter_shows() -> None:
    digits = np.stack([np.full((3, 3), 100, np.uint8), np.full((3, 3), 200, np.uint8)])
    uniforms = np.random.default_rng(0).random((40, 8))
    uniforms[:, 0], uniforms[:, 4] = 0.1, 0.9
    x = render(digits, uniforms, (20, 1, 8, 8))
    bright, dim = (x == 200).sum((2, 3, 4)), (x == 100).sum((2, 3, 4))
    assert (bright == 9).all() and (dim <= 9).all() and dim.min() == 0
    with pytest.raises(ValueError, match="digits: expected squares within"):
        render(digits, uniforms, (20, 1, 2, 2))


def entropy_and_sum(name: str, raw: Path) -> tuple[float, float, str]:
    """The entropy bound of the test clips in nats/frame, its standard error, their SHA-256."""
    dataset = catalog.get_dataset({"name": name})
    test = dataset.decode(raw)["test"]
    assert isinstance(test, SplitData)
    digest, bounds = hashlib.sha256(), []
    scored = after_frames(dataset.event, dataset.context_frames)
    assert isinstance(scored, Gray)
    z = np.arange(256) / 255
    with np.errstate(divide="ignore", invalid="ignore"):
        table = -np.nan_to_num(z * np.log(z)) - np.nan_to_num((1 - z) * np.log(1 - z))
    for rows in np.array_split(np.arange(len(test.x)), max(1, len(test.x) // 50)):
        x = read_transforms.draw("moving", test.x[rows], dataset.event, rows, 0, 0, test.x)
        digest.update(x.tobytes())
        bounds.append(table[x[:, dataset.context_frames :]].sum((1, 2, 3, 4)))
        if len(bounds) == 1:  # the library's own, on some
            own = scored.entropy(torch.from_numpy(x[:, dataset.context_frames :]))
            assert np.allclose(own.numpy(), bounds[0])
    nats = torch.from_numpy(np.concatenate(bounds))
    mean, error = scoring.mean_and_error(nats)
    return (
        nats_to("nats_per_frame", mean, scored),
        nats_to("nats_per_frame", error, scored),
        digest.hexdigest(),
    )


@needs_mirror
def test_a_known_bound_is_reproduced(tmp_path: Path) -> None:
    for file in MNIST.parent.glob("*.gz"):
        (tmp_path / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    bound, error, digest = entropy_and_sum("moving_mnist", tmp_path)
    assert abs(bound - PUBLISHED_BOUND) < 1 and error < 0.2
    assert digest == TEST_SHA256["moving_mnist"]


def test_embedded_clips_are_always_the_same(tmp_path: Path) -> None:
    assert entropy_and_sum("moving_digits", tmp_path)[2] == TEST_SHA256["moving_digits"]


# -- shards and loading


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of 12 / 4 / 6 rows of two 4 x 4 digits each, for clips of 6 frames of 8 x 8."""
    folder = tmp_path_factory.mktemp("clips")
    return write(folder, [12, 4, 6])


def write(folder: Path, rows: list[int], alike: bool = False) -> Path:
    dataset = dataclasses.replace(
        catalog.get_dataset({"name": "moving_digits"}),
        event=Gray((6, 1, 8, 8)),
        context_frames=3,
    )
    generator = np.random.default_rng(0)
    splits = {
        split: SplitData(
            generator.integers(255 * alike, 256, (n, 2, 4, 4), dtype=np.uint8), None, "moving"
        )
        for split, n in zip(base.SPLITS, rows, strict=True)
    }
    return preprocessing.write(dataset, splits, folder / "shards")


def test_clips_are_new_in_each_epoch_and_the_same_in_every_batch(few: Path) -> None:
    def rows_of(epoch: int, **given: int) -> dict[bytes, None]:
        loader = Loader(few, "train", BatchPlan(seed=3, **{"batch_size": 5, **given}))
        batches = [batch.x for batch in loader.epoch(epoch)]
        assert all(x.shape[1:] == (6, 1, 8, 8) and x.dtype == torch.uint8 for x in batches)
        return {x.numpy().tobytes(): None for batch in batches for x in batch}

    assert len(rows_of(0)) == 12 and set(rows_of(0)) == set(rows_of(0, batch_size=12))
    assert not set(rows_of(0)) & set(rows_of(1))
    shares = [set(rows_of(0, batch_size=4, rank=rank, world_size=2)) for rank in (0, 1)]
    assert shares[0] | shares[1] == set(rows_of(0))


def test_motions_of_validation_are_no_epochs_of_training(tmp_path: Path) -> None:
    folder = write(tmp_path, [12, 4, 6], alike=True)  # so that a clip is its motion
    held_out = torch.cat([batch.x for batch in Loader(folder, "valid").sequential(3)])
    for epoch in range(3):
        loader = Loader(folder, "train", BatchPlan(seed=0, batch_size=5))
        seen = {x.numpy().tobytes() for batch in loader.epoch(epoch) for x in batch.x}
        assert not seen & {x.numpy().tobytes() for x in held_out}, epoch


def test_validation_clips_do_not_depend_on_workers_or_epochs(few: Path) -> None:
    whole = torch.cat([batch.x for batch in Loader(few, "valid").sequential(3)])
    parts = [
        torch.cat(
            [b.x for b in Loader(few, "valid", BatchPlan(rank=r, world_size=2)).sequential(9)]
        )
        for r in (0, 1)
    ]
    assert torch.equal(torch.cat(parts), whole)
    split = shard_reader.read_split(few, "valid")
    event = read_manifest(few).event
    assert np.array_equal(ChosenRows.of(split, 4).events(event), whole.numpy())
    with pytest.raises(UserError, match="shuffle_rows: expected >= 12, the rows of the split"):
        Loader(few, "train", BatchPlan(batch_size=4, shuffle_rows=11))


def test_rows_of_an_epoch_are_a_fraction_of_the_digits(tmp_path: Path) -> None:
    given = {"name": "moving_digits", "train_rows": 419, "valid_rows": 20}
    splits = catalog.get_dataset(given).decode(tmp_path)
    assert splits["train"].x.shape == (419, 3, 8, 8)  # type: ignore[union-attr]
    assert splits["valid"].x.shape == (20, 9, 8, 8)  # type: ignore[union-attr]
    assert splits["test"].x.shape == (360, 1, 8, 8)  # type: ignore[union-attr]
    assert int(splits["train"].x.max()) == 255  # type: ignore[union-attr]
    with pytest.raises(UserError, match="option train_rows: expected 1257 or a whole fraction"):
        catalog.get_dataset(given | {"train_rows": 100}).decode(tmp_path)


# -- training and evaluation


SMALL = {"width": 4, "encoder_blocks": 1, "recurrent_width": 4, "decoder_blocks": 1}


@pytest.mark.parametrize("name", ["video_pixel_network", "video_pixel_baseline"])
def test_training_lowers_the_cross_entropy_of_the_frames_to_predict(
    name: str, few: Path, tmp_path: Path
) -> None:
    worker = Worker(tmp_path, few)
    optimizer = {"name": "adamw", "learning_rate": 0.01}
    model = {"name": name, "context_frames": 3, **SMALL}
    worker.train(model, max_epochs=4, batch_size=4, optimizer=optimizer)
    rows = worker.progress.history
    assert rows[-1].train_nats < rows[0].train_nats
    bits = rows[-1].valid_nats / (3 * 64 * math.log(2))
    assert rows[-1].valid_bits_per_dim == pytest.approx(bits)


def write_pushed(folder: Path, **changed: np.ndarray) -> Path:
    """Shards of clips whose frames are all black or all white, as the vector of each frame says."""
    dataset = dataclasses.replace(
        catalog.get_dataset({"name": "moving_digits"}),
        event=arcore.events.Levels(2, (5, 1, 4, 4)),
        context_frames=1,
        condition_sequence=(5, 2),
    )
    generator = np.random.default_rng(0)
    splits = {}
    for split, rows in zip(base.SPLITS, (64, 16, 9), strict=True):
        vectors = generator.choice([-1.0, 1.0], (rows, 5, 2)).astype(np.float32)
        white = (vectors[:, :, 1] > 0).astype(np.uint8)
        x = np.ascontiguousarray(np.broadcast_to(white[:, :, None, None, None], (rows, 5, 1, 4, 4)))
        splits[split] = SplitData(x, changed.get(split, vectors))
    return preprocessing.write(dataset, splits, folder / "pushed")


def test_models_are_conditioned_on_a_vector_for_each_frame(tmp_path: Path) -> None:
    folder = write_pushed(tmp_path)
    assert read_manifest(folder).condition_sequence == (5, 2)
    optimizer = {"name": "adamw", "learning_rate": 0.03}
    nats = {}
    for sequence in (None, (5, 2)):
        worker = Worker(tmp_path / str(sequence), folder)
        model = {"name": "video_pixel_network", "context_frames": 1, "condition_sequence": sequence}
        worker.train(model | SMALL, max_epochs=12, batch_size=8, optimizer=optimizer)
        nats[sequence] = worker.progress.best_nats
        split = shard_reader.read_split(folder, "valid")
        scored = scoring.scores(
            worker.worker.model.eval(), ChosenRows.of(split, 5, context_frames=1)
        )
        assert scored.mean() == pytest.approx(worker.progress.history[-1].valid_nats, rel=1e-4)
    entropy = 4 * math.log(2)  # of the frames after the first, without the vectors
    assert nats[None] > 0.9 * entropy and nats[5, 2] < 0.3 * entropy


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((9, 5, 3), np.float32), r"of shape \(9, 5, 2\) and .*, got shape \(9, 5, 3\)"),
        (np.zeros((9, 5, 2)), "dtype float32, got .* dtype float64"),
        (np.full((9, 5, 2), np.nan, np.float32), "expected finite conditions"),
    ],
)
def test_vectors_of_frames_that_do_not_fit(vectors: np.ndarray, message: str, tmp_path) -> None:
    with pytest.raises(UserError, match=message):
        write_pushed(tmp_path, test=vectors)


def test_scores_are_of_the_frames_after_those_given(few: Path) -> None:
    event, split = read_manifest(few).event, shard_reader.read_split(few, "test")
    model = arcore.create_model("video_pixel_network", event, **SMALL).double().eval()
    rows = ChosenRows.of(split, 4, context_frames=3)
    nats = scoring.scores(model, rows)
    x = torch.from_numpy(rows.events(event))
    assert torch.allclose(nats, -model.frame_log_prob(x)[:, 3:].sum(1).detach())
    assert isinstance(event, Gray)
    bound = scoring.entropy_scores(event, rows)
    assert torch.allclose(bound, arcore.events.after_frames(event, 3).entropy(x[:, 3:]))
    assert (nats > bound).all()


# -- pictures


@pytest.mark.parametrize(("levels", "colours"), [(2, 1), (256, 3)])
def test_clips_become_an_animated_picture(levels: int, colours: int, tmp_path: Path) -> None:
    event = arcore.events.Levels(levels, (5, colours, 8, 8))
    x = np.random.default_rng(0).integers(0, levels, (3, *event.shape), dtype=np.uint8)
    image_figures.save_clips(tmp_path / "a.png", [x, x, x], event, 2)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (3 * 68, 3 * 68)
        assert getattr(picture, "n_frames", 1) == 6  # a still one for other viewers, then 5
        colours_of = []
        for frame in range(1, 6):
            picture.seek(frame)
            colours_of.append(picture.convert("RGB").getpixel((0, 68)))
    assert colours_of == [image_figures.GIVEN] * 2 + [image_figures.DRAWN] * 3


@pytest.mark.parametrize("event", [Gray((3, 1, 4, 4)), arcore.events.Levels(5, (3, 1, 4, 4))])
def test_expected_frames_are_means_of_the_conditionals(event: arcore.events.Levels) -> None:
    model = arcore.create_model("video_pixel_network", event, **SMALL)
    x = np.random.default_rng(0).integers(0, event.num_levels, (2, *event.shape), dtype=np.uint8)
    means = image_figures.expected(model, torch.from_numpy(x), None, 1)
    assert np.array_equal(means[:, 0], x[:, 0])
    conditionals = model.conditionals(torch.from_numpy(x))
    if isinstance(event, Gray):
        wanted = 255 * conditionals.probs
    else:
        wanted = (conditionals.probs * torch.arange(5)).sum(-1)
    assert np.allclose(means[:, 1:], wanted[:, 1:].detach().numpy(), atol=1e-3)
