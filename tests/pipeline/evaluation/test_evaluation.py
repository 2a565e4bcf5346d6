"""Evaluation: every row counts once, under the protocol, and ensembles average probabilities."""

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import arcore
from arcore.columns import Column
from arcore.inference import latent_levels
from pipeline.data import preprocessing, shard_reader
from pipeline.datasets import catalog
from pipeline.datasets.base import SplitData
from pipeline.datasets.read_transforms import choose_rows, draw, dynamic_binarize
from pipeline.evaluation import (
    experiment_evaluation,
    image_figures,
    reading,
    scoring,
)
from pipeline.evaluation.result_records import Result
from pipeline.evaluation.scoring import ChosenRows
from pipeline.experiments import compose
from pipeline.reporting import comparison
from tests.support.refusals import refused

EVENT = arcore.events.Binary((1, 8, 8))


def evaluated(*overrides: str) -> dict:
    out = experiment_evaluation.evaluate(compose.load("toy", overrides))
    return json.loads((out / "metrics.json").read_text())


def newest() -> Path:
    """The result that was written last; overrides have given it a name of its own."""
    return max(Path("evaluation/digits_binary").iterdir(), key=lambda path: path.stat().st_mtime)


@pytest.mark.parametrize("batch_size", [7, 23, 500])
def test_every_row_counts_once(project, batch_size: int) -> None:
    x = torch.from_numpy(shard_reader.read_split("data/shards/digits_binary", "test").x)
    nats = -project.log_prob(x).detach().double()
    metrics = evaluated(f"evaluation.batch_size={batch_size}", "evaluation.num_samples=4")
    assert metrics["num_rows"] == 24
    assert metrics["nats"] == pytest.approx(float(nats.mean()), rel=1e-6)
    assert metrics["nats_stderr"] == pytest.approx(float(nats.std()) / math.sqrt(24), rel=1e-5)
    assert metrics["bits_per_dim"] == pytest.approx(metrics["nats"] / 64 / math.log(2))
    scores = np.loadtxt(newest() / "scores.csv", delimiter=",", skiprows=1)
    assert scores[:, 1].mean() == pytest.approx(metrics["nats"], abs=1e-5)
    valid = np.loadtxt(newest() / "scores_valid.csv", delimiter=",", skiprows=1)
    assert valid[:, 1].mean() == pytest.approx(metrics["valid_nats"], abs=1e-5)
    made = {path.name for path in newest().iterdir()}
    assert made == {
        "metrics.json", "timing.json", "scores.csv", "scores_valid.csv", "samples.png", "media",
        "artifact.json",
    }  # fmt: skip


def test_what_members_score_comes_with_an_ensemble(project) -> None:
    x = torch.from_numpy(shard_reader.read_split("data/shards/digits_binary", "test").x)
    each = torch.stack([-project.member(index).log_prob(x) for index in range(3)]).detach()
    metrics = evaluated("evaluation.num_members=3", "evaluation.num_samples=4")
    by_row = each.double().mean(0)
    assert metrics["member_nats"] == pytest.approx(float(by_row.mean()), rel=1e-6)
    expected = float(by_row.std()) / math.sqrt(24)
    assert metrics["member_nats_stderr"] == pytest.approx(expected, rel=1e-5)
    nats = math.log(3) - torch.logsumexp(-each, 0).double().mean()  # probabilities are averaged
    assert metrics["nats"] == pytest.approx(float(nats), rel=1e-6)
    assert metrics["nats"] < metrics["member_nats"]  # Jensen
    assert "member_nats" not in evaluated("evaluation.num_samples=4")


def test_a_subset_of_rows_is_drawn_by_the_seed(project) -> None:
    x = torch.from_numpy(shard_reader.read_split("data/shards/digits_binary", "test").x)
    every = -project.log_prob(x).detach().double()
    means = []
    for seed in (0, 1, 0):
        limits = ("evaluation.num_test_rows=10", f"evaluation.seed={seed}")
        metrics = evaluated(*limits, "evaluation.num_samples=4")
        assert metrics["num_rows"] == 10 and metrics["num_split_rows"] == 24
        lines = (newest() / "scores.csv").read_text().splitlines()[1:]
        rows = [int(line.split(",")[0]) for line in lines]
        assert rows == sorted(set(rows)) and len(rows) == 10
        assert metrics["nats"] == pytest.approx(float(every[rows].mean()), rel=1e-6)
        means.append((metrics["nats"], metrics["valid_nats"]))
    assert means[0] == means[2] != means[1]
    whole = evaluated("evaluation.num_test_rows=1000", "evaluation.num_samples=4")
    assert whole["num_rows"] == 24 and whole["nats"] == pytest.approx(float(every.mean()))


def test_more_members_than_masks_are_refused(project) -> None:
    with refused("toy: evaluation.num_members 4: num_members: expected at most 3"):
        evaluated("evaluation.num_members=4")
    assert not any(Path("evaluation").glob("digits_binary/*"))


def test_other_shards_are_refused(project) -> None:
    config_file = Path("models/toy/config.yaml")
    described = yaml.safe_load(config_file.read_text()) | {"dataset_sha256": "0" * 64}
    config_file.write_text(yaml.safe_dump(described))
    with refused(r"toy: expected the data .*\(000000000000\).* train it"):
        evaluated()


def cut(path: Path) -> None:
    """Give the first tensor of a file another shape."""
    first, *others = sorted(load_file(path).items())
    save_file({first[0]: first[1][:1].clone(), **dict(others)}, path)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("config.yaml", None, "damaged model folder"),
        ("training.json", None, "damaged model folder"),
        ("model.safetensors", None, "models/toy/model.safetensors: not a readable safetensors"),
        ("model.safetensors", cut, "models/toy/model.safetensors: shape of "),
    ],
)
def test_a_damaged_model_folder_is_one_line(project, name: str, damage, message: str) -> None:
    (damage or (lambda path: path.write_text("{")))(Path("models/toy", name))
    with refused(message):
        evaluated()
    assert not list(Path("evaluation").rglob("*.json"))


def test_a_drawn_split_is_drawn_once_for_all(project) -> None:
    gray = np.random.default_rng(0).integers(0, 256, (10, 1, 8, 8), dtype=np.uint8)
    split = SplitData(gray, None, "bernoulli")
    drawn = dynamic_binarize(gray, np.arange(10), 0, 0)
    expected = -project.log_prob(torch.from_numpy(drawn)).detach().double()
    for batch_size in (3, 10):
        torch.testing.assert_close(
            scoring.scores(project, ChosenRows.of(split, batch_size)), expected
        )


def test_a_dequantised_split_is_scored_in_bits_of_its_levels(project, place) -> None:
    """The digits with noise, of which an untrained RNADE knows little more than their range."""
    dataset = catalog.get_dataset({"name": "digits_dequantized"})
    folder = preprocessing.write(
        dataset, dataset.decode(Path()), Path("data/shards/digits_dequantized")
    )
    small = {"hidden": 4, "components": 2}
    entry = {"dataset": "digits_dequantized", "model": "rnade", "model_overrides": small}
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"toy": entry}}))
    model = arcore.create_model("rnade", dataset.event, hidden=4, components=2).eval()
    place(model, "rnade", dataset.name)
    metrics = evaluated("evaluation.num_samples=4")
    test = shard_reader.read_split(folder, "test")
    nats = -model.log_prob(torch.from_numpy(test.x)).detach().double()
    assert metrics["nats"] == pytest.approx(float(nats.mean()), rel=1e-6)
    bits = metrics["nats"] / 64 / math.log(2) + math.log2(17)
    assert metrics["bits_per_dim"] == pytest.approx(bits)
    error = metrics["nats_stderr"] / 64 / math.log(2)
    assert metrics["bits_per_dim_stderr"] == pytest.approx(error)
    drawn = shard_reader.read_split(folder, "train")
    noisy = draw("dequantize", drawn.x[:9], dataset.event, np.arange(9), 0, 0)
    first = dataclasses.replace(drawn, x=drawn.x[:9], labels=None)
    expected = -model.log_prob(torch.from_numpy(noisy)).detach().double()
    torch.testing.assert_close(scoring.scores(model, ChosenRows.of(first, 4)), expected)


@pytest.mark.parametrize(("size", "shown"), [(1, 1), (2, 1), (5, 4), (11, 6)])
def test_real_vectors_are_points_in_planes(size: int, shown: int) -> None:
    real = np.random.default_rng(0).normal(size=(20, size)).astype(np.float32)
    events = {"samples": 100 * real[:7], "real": real}
    figure = image_figures.sample_figure(events, arcore.events.Real((size,)))
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == shown
    if size > 1:
        assert all(max(axes.get_xlim()) < 10 for axes in panels), "outliers do not set the range"
        table = arcore.events.Table([Column(name=f"${d} {{") for d in range(size)])
        figure = image_figures.sample_figure(events, arcore.events.Real((size,)), table)
        figure.canvas.draw()
        assert [figure.axes[0].get_xlabel(), figure.axes[0].get_ylabel()] == ["$0 {", "$1 {"]


@pytest.mark.parametrize("shape", [(8, 8, 3), (2, 4, 4), (4, 3, 3), (5, 6, 6, 3)])
def test_events_that_are_no_pictures_are_rows_of_a_matrix(shape: tuple[int, ...]) -> None:
    event = arcore.events.Levels(5, shape)
    drawn = np.random.default_rng(0).integers(0, 5, (7, *shape))
    figure = image_figures.sample_figure({"samples": drawn, "real": drawn}, event)
    assert figure.axes[0].images[0].get_array().shape == (7, event.size)
    figure.canvas.draw()
    assert not image_figures.are_clips(event)


def test_strips_of_reals_have_the_range_of_the_real_images(tmp_path: Path) -> None:
    real = np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 1, 2, 2)
    drawn = real.copy()
    drawn[0, 0, 0, 0] = 50
    event, strips = arcore.events.Real((1, 2, 2)), []
    plane, planes = arcore.events.Real((2, 2)), {"samples": drawn[:, 0], "real": real[:, 0]}
    assert image_figures.sample_figure(planes, plane).axes[0].images[0].get_array().ndim == 3
    image_figures.write_strip(tmp_path / "b.png", planes["samples"], plane, planes["real"])
    for images in (real, drawn):
        image_figures.write_strip(tmp_path / "a.png", images, event, real)
        with Image.open(tmp_path / "a.png") as picture:
            strips.append(np.array(picture))
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    assert strips[0].shape == (2, 4) and strips[0].max() == 255
    assert strips[1][0, 0] == 255 and (strips[0] != strips[1]).sum() == 1


# -- bounds


@pytest.fixture
def latent_project(project, place):
    """The same project, its model a PixelVAE of a class condition."""
    torch.manual_seed(1)
    hyperparameters = {"num_levels": 2, "encoder": [4], "width": 4, "num_layers": 2}
    model = arcore.create_model("pixelvae", EVENT, **hyperparameters).eval()
    place(model, "pixelvae")
    entry = {"dataset": "digits_binary", "model": "pixelvae"}
    entry["model_overrides"] = hyperparameters
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"toy": entry}}))
    return model


FEW = ("evaluation.num_samples=4", "evaluation.importance_samples=20")


def row_by_row(model, x: torch.Tensor, rows: Iterable[int]) -> torch.Tensor:
    """The estimates of rows, in nats, whose noise is a function of the seed, 0, and the row."""
    found = []
    for row in rows:
        (seed,) = np.random.SeedSequence([0, row]).generate_state(1)
        generator = torch.Generator().manual_seed(int(seed))
        found.append(-model.importance_weighted(x[row : row + 1], 20, None, generator).double())
    return torch.cat(found)


def test_a_bound_comes_with_an_estimate_of_stated_rows(latent_project) -> None:
    x = torch.from_numpy(shard_reader.read_split("data/shards/digits_binary", "test").x)
    metrics = evaluated(*FEW, "evaluation.importance_rows=10")
    nats = -latent_project.log_prob(x).detach().double()
    assert metrics["exact"] is False
    assert metrics["nats"] == pytest.approx(float(nats.mean()), rel=1e-6)
    assert (metrics["importance_samples"], metrics["importance_rows"]) == (20, 10)
    places = torch.from_numpy(choose_rows(24, 10, 0))
    few = row_by_row(latent_project, x, places.tolist())
    gained = few - nats[places]
    expected = nats.mean() + gained.mean()
    assert metrics["nats_importance_weighted"] == pytest.approx(float(expected), rel=1e-6)
    assert 0 < metrics["nats_importance_weighted_stderr"]
    assert metrics == evaluated(*FEW, "evaluation.importance_rows=10"), "DVC hashes no seconds"
    everything = evaluated(*FEW)
    assert everything["importance_rows"] == 24
    each = row_by_row(latent_project, x, range(24))
    assert everything["nats_importance_weighted"] == pytest.approx(float(each.mean()), rel=1e-6)
    in_batches = evaluated(*FEW, "evaluation.batch_size=5")["nats_importance_weighted"]
    assert everything["nats_importance_weighted"] == pytest.approx(in_batches, rel=1e-12)
    error = float(each.std()) / 24**0.5  # of all rows, nothing but their own spread
    assert everything["nats_importance_weighted_stderr"] == pytest.approx(error, rel=1e-5)
    assert everything["nats_importance_weighted"] < everything["nats"] + 0.5


def test_the_error_of_a_difference_is_the_spread_of_its_estimates() -> None:
    torch.manual_seed(0)
    rows, count, found = 2000, 100, []
    for seed in range(400):
        known = 80 + 20 * torch.randn(rows, dtype=torch.float64)
        each = known - 0.5 + 0.1 * (known - 80) + torch.randn(rows, dtype=torch.float64)
        places = torch.from_numpy(choose_rows(rows, count, seed))
        found.append(scoring.difference_estimate(known, each[places], places))
    means, errors = torch.tensor(found).T
    assert abs(float(means.mean()) - 79.5) < 4 * float(means.std()) / 20
    assert float(means.std()) == pytest.approx(float(errors.mean()), rel=0.12)


def test_a_bound_is_the_sum_of_what_its_levels_cost(latent_project) -> None:
    x = torch.from_numpy(shard_reader.read_split("data/shards/digits_binary", "test").x)
    metrics = evaluated(*FEW)
    levels = metrics["level_nats"]
    assert list(levels) == ["top", "latent", "pixels"]
    assert sum(levels.values()) == pytest.approx(metrics["nats"], rel=1e-6)
    terms = latent_levels.bound_terms(latent_project, x).double().mean(0)
    assert list(levels.values()) == pytest.approx(terms.tolist(), rel=1e-6)
    assert metrics["level_units"] == {"top": 16, "latent": 64}
    used = [count for count, _ in latent_levels.active_units(latent_project, x, batch_size=7)]
    assert list(metrics["active_units"].values()) == used
    (summary,) = (json.loads(path.read_text()) for path in Path("metrics").glob("toy*.json"))
    assert list(summary) == ["value", "stderr", "unit", "relation"], "no level has a column"
    result = Result.read(newest())
    assert result.bound is not None and dict(result.bound.level_nats) == levels


def test_further_test_splits_are_scored_as_the_first_is(project, place) -> None:
    folder = Path("data/shards/digits_binary")
    splits = {name: shard_reader.read_split(folder, name) for name in ("train", "valid", "test")}
    novel = SplitData(1 - splits["test"].x[:9], splits["test"].labels[:9])
    dataset = catalog.get_dataset({"name": "digits_binary"})
    dataset = dataclasses.replace(dataset, extra_test_splits=("novel",))
    preprocessing.write(dataset, splits | {"novel": novel}, folder)
    place(project, "made")
    metrics = evaluated()
    nats = -project.log_prob(torch.from_numpy(novel.x)).detach().double()
    (found,) = metrics["further_tests"]
    assert found["split"] == "novel" and found["num_rows"] == found["num_split_rows"] == 9
    assert found["nats"] == pytest.approx(float(nats.mean()), rel=1e-6) != metrics["nats"]
    written = (newest() / "scores_novel.csv").read_text().splitlines()
    assert len(written) == 1 + 9
    read = reading.read_evaluated(newest())
    _, row = comparison.rows_of(read)
    assert row.result.experiment == "toy (novel)" and row.value == found["nats"]
