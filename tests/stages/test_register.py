import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.pyfunc import scoring_server

import arcore
from arcore.inference import data_frames
from pipeline.core.errors import UserError
from pipeline.data.manifest import read_manifest
from pipeline.data.scalings import write_scalings
from pipeline.datasets.scaling import Scaling
from pipeline.registry import registration
from pipeline.tracking import mlflow_store
from pipeline.tracking.tracked_run import TrackedRun
from stages import register as stage
from tests.places import ROOT, python_examples
from tests.support.events import TABLE
from tests.support.measured_files import MeasuredFiles
from tests.support.registered import EVENT, experiment

CLEAN = """
import json, sys, warnings
import mlflow, numpy as np, pandas as pd
model = mlflow.pyfunc.load_model("models:/arcore-toy@champion")
events = np.array(json.loads(sys.argv[1]))
scores = model.predict(events)
flat = pd.DataFrame({"event": [event.ravel().tolist() for event in events]})
assert model.predict(flat).equals(scores)
draw = {"method": "sample", "num_samples": 3, "seed": 4}
samples = model.predict(events[:0], params=draw)
example = model.input_example
of_example = model.predict(example)
outputs = model.metadata.get_output_schema()
assert outputs.input_names() == list(of_example.columns)
assert outputs.numpy_types() == [dtype.type for dtype in of_example.dtypes]
import arcore
print(json.dumps({"example": [example.tolist(), of_example["nats"].tolist()],
    "nats": scores["nats"].tolist(), "bits": scores["bits_per_dim"].tolist(),
    "samples": samples.tolist(), "again": model.predict(events[:0], params=draw).tolist(),
    "code": arcore.__file__}))
"""


def test_a_clean_process_scores_and_samples(home, tmp_path_factory):
    experiment("toy-nade", "nade", valid_nats=9.0)
    model = experiment("toy-made", "made", valid_nats=8.0, members=3, num_masks=3, hidden=[8])
    registration.write("toy")
    events = model.sample(5, generator=torch.Generator().manual_seed(0))
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    env["MLFLOW_TRACKING_URI"] = mlflow_store.tracking_uri()
    ran = subprocess.run(
        [sys.executable, "-c", CLEAN, json.dumps(events.tolist())],
        cwd=tmp_path_factory.mktemp("elsewhere"),
        env=env,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    got = json.loads(ran.stdout)
    nats = -model.log_prob(events)
    torch.testing.assert_close(torch.tensor(got["nats"]), nats.detach())
    bits = arcore.units.nats_to_bits_per_dim(nats, EVENT)
    torch.testing.assert_close(torch.tensor(got["bits"]), bits.detach())
    wanted = model.sample(3, generator=torch.Generator().manual_seed(4))
    assert got["samples"] == got["again"] == wanted.tolist()
    example, nats = map(torch.tensor, got["example"])
    assert example.shape == (2, *EVENT.shape)
    torch.testing.assert_close(nats, -model.log_prob(example).detach())
    # The code comes from the registry, not from this repository.
    assert Path(got["code"]).is_relative_to(home / "mlartifacts")


def test_registering_is_idempotent_and_a_lost_store_is_rebuilt(home, migrated, monkeypatch):
    experiment("toy-nade", "nade", valid_nats=9.0)
    experiment("toy-made.v1", "made", valid_nats=8.0)
    monkeypatch.setattr(sys, "argv", ["register", "--all"])
    stage.main()
    path = Path("registry", "toy", "registration.json")
    first = json.loads(path.read_text())
    stage.main()
    assert json.loads(path.read_text()) == first
    store = mlflow_store.client()
    versions = list(store.search_model_versions("name = 'arcore-toy'"))
    assert len(versions) == 2
    made = store.get_model_version_by_alias("arcore-toy", "toy-made-v1")
    assert store.get_model_version_by_alias("arcore-toy", "champion").version == made.version
    assert made.tags["commit"] == "abc" and len(made.tags) <= 5
    run = store.get_run(made.run_id)
    assert run.data.params["dataset_sha256"] == "d" * 64 and run.data.metrics["test_nats"] == 8.0
    assert run.data.metrics["curves/valid_nats"] == 8.1 and run.data.params["model.name"] == "made"
    assert [m.step for m in store.get_metric_history(made.run_id, "curves/train_nats")] == [1, 2]
    logged = store.get_logged_model(made.source.rpartition("/")[2])
    files = [f.name for f in artifact_folder(logged).rglob("*")]
    assert "model.safetensors" in files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pt"))]

    # Another file, since MLflow keeps its connections to the first.
    (home / "new.db").write_bytes(migrated.read_bytes())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/new.db")
    hashes = {name: entry["sha256"] for name, entry in first["experiments"].items()}
    stage.main()
    rebuilt = json.loads(path.read_text())
    assert {n: e["sha256"] for n, e in rebuilt["experiments"].items()} == hashes
    assert rebuilt["champions"] == first["champions"]
    assert len(list(mlflow_store.client().search_model_versions("name = 'arcore-toy'"))) == 2


def artifact_folder(logged) -> Path:
    return Path(urllib.parse.unquote(urllib.parse.urlparse(logged.artifact_location).path))


def test_a_model_goes_into_the_run_that_trained_it_which_stays_as_it_was(home, few_rows):
    experiment("toy-nade", "nade", valid_nats=9.0)
    config = Path("models", "toy-nade", "config.yaml")
    trained_on = read_manifest(Path("data", "shards", "toy")).sha256
    config.write_text(config.read_text().replace("d" * 64, trained_on))
    run_id = mlflow_store.start_run("arcore-toy", "toy-nade", "id", {"a": 1}, {}, seconds_ago=18)
    TrackedRun(run_id).update(values={"system/cpu_utilization_percentage": 50.0}, status="FINISHED")
    store = mlflow_store.client()
    before = store.get_run(run_id).info
    path = Path("models", "toy-nade", "training.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "run_id": run_id}))
    entry = registration.register_dataset("toy").experiments["toy-nade"]
    assert entry.run_id == run_id
    run = store.get_run(run_id)
    assert (run.info.status, run.info.end_time) == ("FINISHED", before.end_time)
    assert 18_000 <= run.info.end_time - run.info.start_time < 25_000
    data = {one.dataset.name: one.dataset.digest for one in run.inputs.dataset_inputs}
    assert data == {f"toy ({split})": "e" * 36 for split in ("train", "valid", "test")}
    version = store.get_model_version("arcore-toy", str(entry.version))
    assert version.description.startswith("nade on toy: 8.000 ± 0.100 nats")
    assert "; event: Levels(shape=(1, 2, 3), num_levels=5); " in version.description
    (logged,) = store.search_logged_models([run.info.experiment_id])
    assert {metric.key for metric in logged.metrics} == {
        "test_nats", "stderr_nats", "test_bits_per_dim", "stderr_bits_per_dim", "best_valid_nats",
    }  # fmt: skip
    shutil.rmtree(home / "mlartifacts")
    again = registration.register_dataset("toy").experiments["toy-nade"]
    assert again.version > entry.version, "files that are gone are registered anew"


@pytest.fixture
def few_rows(home: Path) -> None:
    """The manifest of the dataset that experiments here are of."""
    MeasuredFiles().manifest("toy", event=EVENT, unit="bits_per_dim")
    write_scalings({}, Path("data", "shards", "toy"))


def test_values_that_were_standardised_make_a_version_that_knows_it(home, few_rows):
    experiment("toy-nade", "nade", valid_nats=9.0)
    config, shards = Path("models/toy-nade/config.yaml"), Path("data/shards/toy")
    config.write_text(config.read_text().replace("d" * 64, read_manifest(shards).sha256))
    first = registration.register_dataset("toy").experiments["toy-nade"].version
    shape = EVENT.extents
    write_scalings({"x": Scaling(np.zeros(shape), np.full(shape, 2.0))}, shards)
    second = registration.register_dataset("toy").experiments["toy-nade"].version
    assert second == first + 1
    version = mlflow_store.client().get_model_version("arcore-toy", str(second))
    assert version.tags["standardized"] == "x"
    loaded = mlflow.pyfunc.load_model(f"models:/arcore-toy/{second}").unwrap_python_model()
    assert set(loaded.scalings) == {"x"} and bool((loaded.scalings["x"][1] == 2).all())


def test_new_weights_make_a_new_version_and_take_the_alias(home):
    experiment("toy-nade", "nade", valid_nats=9.0)
    before = registration.register_dataset("toy").experiments["toy-nade"].version
    experiment("toy-nade", "nade", valid_nats=8.5, hidden=3)
    after = registration.register_dataset("toy")
    assert after.experiments["toy-nade"].version == before + 1
    champion = registration.Champion(experiment="toy-nade", version=before + 1)
    assert after.champions == {"arcore-toy": champion}


def test_models_that_are_told_the_class_have_a_champion_of_their_own(home):
    experiment("toy-nade", "nade", valid_nats=9.0)
    experiment("toy-made-classes", "made", valid_nats=5.0, num_classes=3)
    found = registration.register_dataset("toy")
    winners = {name: champion.experiment for name, champion in found.champions.items()}
    assert winners == {"arcore-toy": "toy-nade", "arcore-toy-given-class": "toy-made-classes"}
    assert found.experiments["toy-made-classes"].model == "arcore-toy-given-class"
    store = mlflow_store.client()
    assert len(list(store.search_model_versions("name = 'arcore-toy'"))) == 1
    told = store.get_model_version_by_alias("arcore-toy-given-class", "champion")
    assert told.tags["experiment"] == "toy-made-classes"
    assert registration.register_dataset("toy") == found


def served(model, request: dict[str, object]) -> list[dict[str, float]]:
    """Return what `mlflow models serve` answers, without its port."""
    schema = model.metadata.get_input_schema()
    answer = scoring_server.invocations(json.dumps(request), "application/json", model, schema)
    assert answer.status == 200
    return json.loads(answer.response)["predictions"]


def test_a_champion_takes_any_integers_and_says_no_in_one_line(home):
    model = experiment("toy-nade", "nade", valid_nats=9.0)
    registration.write("toy")
    loaded = mlflow.pyfunc.load_model("models:/arcore-toy@champion")
    events = model.sample(3, generator=torch.Generator().manual_seed(0)).numpy()
    wanted = loaded.predict(events)
    for dtype in ("uint8", "int32", "int64", "float32", "float64"):
        assert loaded.predict(events.astype(dtype)).equals(wanted), dtype
    assert loaded.predict(events > 0).equals(loaded.predict((events > 0).astype(int)))
    assert served(loaded, {"instances": events.tolist()}) == wanted.to_dict("records")
    for given, message in (
        (events + 0.5, "model_input: expected integer levels, got fractional values"),
        (events + 5, r"model_input: expected levels in \[0, 5\)"),
        (events[:, :, :1], r"model_input: expected shape \(batch, 1, 2, 3\)"),
        (np.array(["a"]), "model_input: expected numbers"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            loaded.predict(given)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 120


def test_a_champion_of_a_table_takes_and_gives_data_frames(home):
    model = experiment("toy-any", "any_order_transformer", 9.0, event=TABLE, width=8).eval()
    registration.write("toy")
    names: dict[str, object] = {}
    exec(python_examples("docs/tables.md")[-1].replace("arcore-mixed", "arcore-toy"), names)
    loaded, drawn = names["model"], names["drawn"]
    assert list(loaded.input_example.columns) == [column.name for column in TABLE.columns]
    again = data_frames.sample(model, 4, generator=torch.Generator().manual_seed(0))
    assert drawn.equals(again) and set(drawn["colour"]) <= {"red", "green", "blue"}
    assert loaded.predict(drawn).equals(names["scores"]) and len(names["scores"]) == 4
    turned = drawn.iloc[:, ::-1].to_dict("split", index=False)
    assert served(loaded, {"dataframe_split": turned}) == names["scores"].to_dict("records")
    for given in (drawn, drawn.assign(price=None)):
        wanted = -data_frames.log_prob(model, given).detach().numpy()
        assert np.allclose(loaded.predict(given)["nats"], wanted)
    for given, message in (
        (drawn.drop(columns="price"), "frame: expected one column 'price', got '0 of that name'"),
        (drawn.assign(colour="pink"), "frame: row 0, column 'colour': expected one of red, green"),
        (np.full((1, 3), np.inf), "model_input: expected finite numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            loaded.predict(given)


def test_a_champion_of_a_named_file_takes_its_columns_by_name(home):
    event = arcore.events.Levels([2, 3])
    experiment("toy-made", "made", 9.0, event=event, hidden=[4])
    config, shards = Path("models/toy-made/config.yaml"), Path("data/shards/toy")
    for version, columns in enumerate([(), ("doors", "owners")], 1):  # the shards of older code
        shutil.rmtree(shards, ignore_errors=True)
        MeasuredFiles().manifest("toy", event=event, columns=columns)
        write_scalings({}, shards)
        config.write_text(config.read_text().replace("d" * 64, read_manifest(shards).sha256))
        assert registration.register_dataset("toy").experiments["toy-made"].version == version
    loaded = mlflow.pyfunc.load_model("models:/arcore-toy@champion")
    assert list(loaded.input_example.columns) == ["doors", "owners"]
    frame = pd.DataFrame({"owners": [2, 0], "doors": [1, 0]})
    assert loaded.predict(frame).equals(loaded.predict(np.array([[1, 2], [0, 0]])))
    for given, message in (
        (frame.rename(columns={"doors": "gates"}), "frame: expected one column 'doors'"),
        (frame.assign(owners=[None, 1]), "frame: expected whole rows, got missing cells"),
    ):
        with pytest.raises(ValueError, match=message):
            loaded.predict(given)


def test_the_examples_of_pages_run(home, capsys):
    """On a champion of the same shape."""
    (example,), outliers = python_examples("docs/registry.md"), python_examples("docs/outliers.md")
    model = experiment("toy-nade", "nade", 9.0, event=arcore.events.Levels(17, (1, 8, 8)))
    nats = -model.log_prob(model.sample(99)).detach().double()
    scores = "evaluation/toy/toy-nade/scores_valid.csv"
    np.savetxt(scores, nats.numpy(), header="nats", comments="")
    experiment("toy-made", "made", 9.0, event=arcore.events.Levels(17, (1, 8, 8)), num_classes=10)
    registration.write("toy")
    names: dict[str, object] = {}
    for page in (example, outliers[-1]):
        exec(compile(page.replace("arcore-digits", "arcore-toy"), "a page", "exec"), names)
    assert 0 <= float(capsys.readouterr().out.splitlines()[-1]) <= 1
    assert list(names["scores"].columns) == ["nats", "bits_per_dim"]
    assert len(names["found"]) == 2
    assert names["samples"].shape == names["threes"].shape == (4, 1, 8, 8)


def test_the_requests_of_the_page_are_answered(home):
    """By champions of the same events."""
    page = (ROOT / "docs" / "registry.md").read_text()
    blocks = map(json.loads, re.findall(r"```json\n(.*?)```", page, re.DOTALL))
    image, _, rows, wanted, draw, drawn = blocks
    experiment("toy-nade", "nade", 9.0, event=arcore.events.Levels(17, (1, 8, 8)))
    registration.write("toy")
    loaded = mlflow.pyfunc.load_model("models:/arcore-toy@champion")
    assert list(served(loaded, image)[0]) == ["nats", "bits_per_dim"]
    experiment("toy-any", "any_order_transformer", 8.0, event=TABLE, width=8)
    registration.write("toy")
    loaded = mlflow.pyfunc.load_model("models:/arcore-toy@champion")
    for request, answer in ((rows, wanted), (draw, drawn)):
        found = served(loaded, request)
        assert [sorted(row) for row in found] == [sorted(row) for row in answer["predictions"]]


def test_errors_are_one_line(home, monkeypatch):
    with pytest.raises(UserError, match="no evaluated experiment"):
        registration.register_dataset("toy")
    experiment("toy-nade", "nade", valid_nats=9.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="http://127.0.0.1:9 is unreachable") as caught:
        registration.register_dataset("toy")
    assert "\n" not in str(caught.value)
    Path("models", "toy-nade", "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: missing"):
        registration.register_dataset("toy")
