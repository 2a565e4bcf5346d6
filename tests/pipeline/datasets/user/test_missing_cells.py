"""Tables with missing cells, from a CSV file to a report: known cells count, exactly."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import arcore
from arcore.inference import data_frames
from pipeline.core.errors import UserError
from pipeline.data import fetching, preprocessing, shard_reader
from pipeline.data.manifest import read_manifest
from pipeline.datasets import adding
from pipeline.evaluation import baselines, experiment_evaluation
from pipeline.experiments import compose
from pipeline.reporting import comparison
from pipeline.training import driver, resolved
from pipeline.uses import use_context, user_scores
from tests.support import reports
from tests.support.refusals import refused


def with_holes(rows: int = 300) -> pd.DataFrame:
    """Names, integers and a real that depend on each other; a quarter of the cells is missing."""
    generator = np.random.default_rng(0)
    kind = generator.integers(3, size=rows)
    frame = pd.DataFrame(
        {
            "colour": np.array(["red", "green", "blue"])[kind],
            "doors": kind + generator.integers(2, size=rows),
            "price": (kind * 2 + generator.normal(size=rows)).round(3),
        }
    ).astype(object)
    return frame.mask(generator.random(frame.shape) < 0.25, None).dropna(how="all")


@pytest.fixture
def added(home: Path) -> pd.DataFrame:
    frame = with_holes()
    frame.to_csv("cars.csv", index=False)
    dataset, _ = adding.add("csv", "cars", "cars.csv", ["missing=keep"], False)
    fetching.fetch(dataset)
    preprocessing.preprocess(dataset)
    return frame


def entry(model: str, **more: object) -> None:
    made = {"dataset": "cars", "model": model, "trainer": {"max_epochs": 3, "batch_size": 20}}
    Path("params.yaml").write_text(yaml.safe_dump({"experiments": {"toy": made | more}}))


def test_they_are_refused_unless_kept(home: Path) -> None:
    with_holes().to_csv("cars.csv", index=False)
    with refused(r"row \d+, column '\w+': expected .*, got a missing value \(missing=keep keeps"):
        adding.add("csv", "cars", "cars.csv", [], False)


def test_what_is_wrong_is_refused_though_what_is_missing_is_kept(home: Path) -> None:
    frame = with_holes()
    frame.iloc[7, 2] = "much"
    frame.to_csv("cars.csv", index=False)
    with refused(r"column 'price': expected a finite number, got 'much'"):
        adding.add("csv", "cars", "cars.csv", ["missing=keep"], False)


def test_shards_have_the_holes_of_the_file(added: pd.DataFrame) -> None:
    folder = Path("data/shards/cars")
    splits = [shard_reader.read_split(folder, name).x for name in ("train", "valid", "test")]
    stored = np.concatenate(splits)
    assert len(stored) == len(added)
    assert np.isnan(stored).sum(0).tolist() == added.isna().sum().tolist()
    manifest = read_manifest(folder)
    assert manifest.has_holes and manifest.table == manifest.event
    price = manifest.event.columns[2]
    assert price.mean == pytest.approx(np.nanmean(splits[0][:, 2]))
    assert price.deviation == pytest.approx(np.nanstd(splits[0][:, 2]))


def test_a_model_of_one_order_is_refused(added: pd.DataFrame) -> None:
    entry("made")
    with pytest.raises(UserError, match=r"model: expected one of any order \(deep_nade, any_order"):
        resolved.resolve(compose.load("toy"), read_manifest("data/shards/cars"))


def test_a_file_with_holes_is_refused_for_a_model_of_one_order(home: Path) -> None:
    with_holes().dropna().to_csv("cars.csv", index=False)
    dataset, _ = adding.add("csv", "cars", "cars.csv", [], False)
    fetching.fetch(dataset)
    preprocessing.preprocess(dataset)
    entry("made")
    driver.train(compose.load("toy"))
    with_holes().to_csv("again.csv", index=False)
    with refused(r"again.csv: row \d+, .* got a missing value"):
        user_scores.score("toy", "again.csv")


@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("model", ["deep_nade", "any_order_transformer"])
def test_known_cells_are_learned_and_scored(added: pd.DataFrame, model: str, members: int) -> None:
    entry(model, evaluation={"num_members": members, "num_samples": 4})
    driver.train(compose.load("toy"))
    out = experiment_evaluation.evaluate(compose.load("toy"))
    metrics = json.loads((out / "metrics.json").read_text())
    trained = use_context.load("toy").model
    scored = trained if members == 1 else trained.ensemble(members).eval()
    test = torch.from_numpy(shard_reader.read_split("data/shards/cars", "test").x)
    assert bool(test.isnan().any())
    nats = -data_frames.log_prob(scored, test).double()
    assert metrics["nats"] == pytest.approx(float(nats.mean()), rel=1e-5)
    assert (out / "samples.png").is_file()
    baselines.write("cars")
    (alone,) = json.loads(Path("codecs/cars/codecs.json").read_text())["codecs"]
    assert alone["label"] == "independent columns"
    assert "independent columns" in reports.markdown(comparison.build_report("cars"))
    added.to_csv("again.csv", index=False)
    again = user_scores.score("toy", "again.csv")
    every = data_frames.to_tensor(added, trained.event)
    expected = -float(data_frames.log_prob(scored, every).double().mean())
    assert again.score.nats == pytest.approx(expected, rel=1e-5)


def test_atoms_are_found_in_training_rows_and_scored(home: Path) -> None:
    generator = np.random.default_rng(0)
    rain = np.where(generator.random(400) < 0.6, 0.0, generator.gamma(2.0, size=400).round(4))
    pd.DataFrame({"rain": rain, "wind": generator.normal(size=400).round(4)}).to_csv(
        "cars.csv", index=False
    )
    dataset, _ = adding.add("csv", "cars", "cars.csv", ["atoms=0.05", "levels={rain: 0}"], False)
    assert [column.atoms for column in dataset.event.columns] == [(0.0,), ()]
    fetching.fetch(dataset)
    preprocessing.preprocess(dataset)
    entry("made", evaluation={"num_samples": 4}, model_overrides={"hidden": [20]})
    driver.train(compose.load("toy"))
    experiment_evaluation.evaluate(compose.load("toy"))
    model = use_context.load("toy").model
    drawn = model.sample(2000, generator=torch.Generator().manual_seed(0))[:, 0]
    assert float((drawn == 0).double().mean()) == pytest.approx(0.6, abs=0.2)
    baselines.write("cars")
    (alone,) = json.loads(Path("codecs/cars/codecs.json").read_text())["codecs"]
    splits = {
        name: shard_reader.read_split("data/shards/cars", name).x for name in ("train", "test")
    }
    train, test = splits["train"], splits["test"]
    wet = train[train[:, 0] > 0, 0]
    share = (len(wet) + 1) / (len(train) + 2)
    dry = test[:, 0] == 0
    first = np.where(
        dry,
        np.log(1 - share),
        np.log(share) - np.log(wet.std()) - ((test[:, 0] - wet.mean()) / wet.std()) ** 2 / 2
        - np.log(2 * np.pi) / 2,
    )  # fmt: skip
    second = -(((test[:, 1] - train[:, 1].mean()) / train[:, 1].std()) ** 2) / 2
    second = second - np.log(train[:, 1].std()) - np.log(2 * np.pi) / 2
    assert alone["nats"] == pytest.approx(-float((first + second).mean()))


def test_independent_columns_are_histograms_and_gaussians_of_known_cells() -> None:
    table = arcore.events.Table(
        [arcore.columns.Column(name="a", levels=2), arcore.columns.Column(name="b")]
    )
    train = np.array([[0, 1.0], [1, np.nan], [np.nan, 3.0], [1, 5.0]])
    test = np.array([[1, np.nan], [np.nan, 3.0]])
    (found,) = baselines.column_baselines.measure_all(table, lambda: [train], test)
    deviation = np.std([1.0, 3.0, 5.0])
    expected = (-np.log(3 / 5) + np.log(deviation * np.sqrt(2 * np.pi))) / 2
    assert found.score.nats == pytest.approx(expected)
