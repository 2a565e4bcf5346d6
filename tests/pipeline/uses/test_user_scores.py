"""Scores of a user's test set: as the evaluation's, or a refusal of one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import arcore
from arcore.events import Binary, Real
from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data import preprocessing
from pipeline.data.manifest import read_manifest
from pipeline.data.scalings import read_scalings
from pipeline.data.shard_reader import read_split
from pipeline.datasets import catalog
from pipeline.evaluation import experiment_evaluation
from pipeline.experiments import compose
from pipeline.reporting import wording
from pipeline.training import saved_models
from pipeline.uses import user_scores
from stages import score as stage
from tests.support.refusals import refused


def written(name: str, x: object, **others: object) -> str:
    path = Path(name)
    if path.suffix == ".npz":
        np.savez(path, x=x, **others)
    else:
        np.save(path, x)
    return name


def test_a_file_and_its_dataset_score_what_the_evaluation_does(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    experiment_evaluation.evaluate(compose.load("toy-nade"))
    metrics = json.loads(Path("evaluation/digits_binary/toy-nade/metrics.json").read_text())
    whole = read_split(paths.shards("digits_binary"), "test").x
    shutil.copytree("models/toy-nade", "elsewhere")
    shutil.copytree("models/toy-nade", "plain", ignore=shutil.ignore_patterns("config.yaml"))
    for data in (
        "digits_binary",
        written("events.npy", whole),
        written("flat.npy", whole.reshape(len(whole), -1)),
        written("floats.npy", whole[:, 0].astype(float)),
        written("last.npy", whole.transpose(0, 2, 3, 1) > 0),
        written("named.npz", whole, labels=np.zeros(len(whole), int)),
    ):
        for model in ("toy-nade", "elsewhere", "plain"):
            found = user_scores.score(model, data)
            assert found.score.nats == metrics["nats"], data
            assert found.score.bits_per_dim_stderr == metrics["bits_per_dim_stderr"]
            assert (found.num_rows, found.exact) == (len(whole), True)
    np.savetxt("plain.csv", whole.reshape(len(whole), -1), "%d", ",")
    assert user_scores.score("toy-nade", "plain.csv").score.nats == metrics["nats"]
    learned = read_split(paths.shards("digits_binary"), "train").x[:3, 0]
    parts = {"test rows": whole[:6, 0], "old rows": np.concatenate([learned, 1 - learned])}
    for name, rows in parts.items():
        caplog.clear()
        user_scores.score("elsewhere", written(f"{name}.npy", rows))
        said = [f"warning: {name}.npy: 3 of 6 rows are training rows of digits_binary"]
        assert caplog.messages == (said if name == "old rows" else [])
    monkeypatch.setattr("sys.argv", ["score", "toy-nade", "events.npy"])
    stage.main()
    nats = wording.with_error(metrics["nats"], metrics["nats_stderr"])
    printed = capsys.readouterr().out
    assert printed.startswith(f"events.npy: {nats} nats, ")
    assert printed.endswith(" bits/dim, 360 rows\n")


def test_classes_come_with_the_rows_of_a_file(project: Path) -> None:
    rows = read_split(paths.shards("digits_binary"), "test")
    assert rows.labels is not None
    named = written("named.npz", rows.x, y=rows.labels)
    wanted = user_scores.score("toy-gated_pixelcnn", "digits_binary")
    assert user_scores.score("toy-gated_pixelcnn", named) == wanted
    bounded = user_scores.score("toy-pixelvae", named)
    assert not bounded.exact and not bounded.bits_exact


@pytest.fixture
def turbines(home: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(1e6, 1e3, (300, 2))
    words = rng.choice(["on", "off"], 300)
    lines = [f"{a},{b},{word},x" for (a, b), word in zip(values, words, strict=True)]
    Path("turbines.csv").write_text("\n".join(["a,b,state,serial", *lines]) + "\n")
    described = {
        "name": "turbines", "kind": "csv", "path": "turbines.csv", "drop": ["serial"],
        "levels": {"state": ["off", "on"]}, "conditions": ["state"],
    }  # fmt: skip
    dataset = catalog.get_dataset(described)
    raw = Path("raw")
    raw.mkdir()
    shutil.copy("turbines.csv", raw)
    preprocessing.write(dataset, dataset.decode(raw), paths.shards("turbines"))
    model = arcore.create_model("rnade", Real((2,)), hidden=4, condition_size=2)
    arcore.save(model, "models/turbines")
    config = json.dumps({
        "dataset": described,
        "dataset_sha256": read_manifest(paths.shards("turbines")).sha256,
        "model": {"name": "rnade", **model.hyperparameters.to_dict()},
        "event": arcore.events.to_dict(model.event),
    })  # fmt: skip
    Path("models/turbines/config.yaml").write_text(config)


def test_a_table_is_read_as_the_one_of_the_training(turbines: None) -> None:
    scalings = read_scalings(paths.shards("turbines"))
    lines = Path("turbines.csv").read_text().splitlines()
    values = [line.split(",") for line in lines[1:]]
    numbers = np.array([row[:2] for row in values], float)
    given = np.array([[row[2] == "off", row[2] == "on"] for row in values], float)
    model = saved_models.load("turbines").model
    x = torch.from_numpy(scalings["x"].of(numbers).astype("f4"))
    nats = -model.log_prob(x, torch.from_numpy(given.astype("f4"))).detach().double()
    for data in ("turbines.csv", written("turbines.npz", numbers, conditions=given)):
        assert user_scores.score("turbines", data).score.nats == pytest.approx(float(nats.mean()))
    shutil.rmtree(paths.shards("turbines"))
    with pytest.raises(UserError, match=r"manifest\.json"):
        user_scores.score("turbines", "turbines.csv")


ROWS = np.zeros((5, 1, 8, 8), int)
REFUSED = {
    "few.npy": (ROWS[:1], "expected two rows or more"),
    "shape.npy": (ROWS[:, :, :7], r"shape.npy: expected shape \(batch, 1, 8, 8\), got \(5, 1, 7"),
    "high.npy": (ROWS + 2, r"high.npy: expected levels in \[0, 2\)"),
    "half.npy": (ROWS + 0.5, "half.npy: expected integer levels, got fractional values"),
    "words.npy": (np.array(["a"]), "expected rows of integers or reals"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_rows_that_do_not_fit_are_refused_in_one_line(home: Path, name: str) -> None:
    arcore.save(arcore.create_model("nade", Binary((1, 8, 8)), hidden=2), "nade")
    rows, message = REFUSED[name]
    with refused(message):
        user_scores.score("nade", written(name, rows))


def test_conditions_and_names_that_do_not_fit_are_refused(project: Path) -> None:
    plain = written("plain.npy", ROWS)
    other = written("classes.npz", ROWS, labels=np.full(5, 10))
    floats = written("floats.npz", ROWS, labels=np.zeros(5))
    Path("rows.txt").write_text("0")
    arcore.save(arcore.create_model("nade", Binary((4,)), hidden=2), "small")
    for model, data, message in (
        ("toy-gated_pixelcnn", plain, r"expected labels, int64 class labels of shape \(5,\)"),
        ("toy-gated_pixelcnn", other, r"classes.npz: condition: expected classes in \[0, 10\)"),
        ("toy-gated_pixelcnn", floats, "labels: expected integers"),
        ("small", "data", r"data: expected a dataset or a .npy, .npz or .csv file, got 'a folder'"),
        ("small", "digits_binary", r"digits_binary: expected events Binary\(shape=\(4,\)"),
        ("toy-nade", "digits_binari", "did you mean 'digits_binary'"),
        ("toy-nad", plain, "did you mean 'toy-nade'"),
        ("toy-nade", "none.npy", "none.npy: expected an existing file"),
        ("toy-nade", "rows.txt", "rows.txt: expected a .npy"),
    ):
        with refused(message):
            user_scores.score(model, data)
