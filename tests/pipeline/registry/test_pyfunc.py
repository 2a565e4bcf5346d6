"""The script that travels with a registered model: events, conditions and given frames."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.pyfunc import scoring_server

import arcore
from pipeline.data import sound_batches
from pipeline.registry import exporting, pyfunc
from tests.support.events import TABLE
from tests.support.registered import exported

EVENT = arcore.events.Levels(5, (1, 2, 3))
CLIPS = arcore.events.Levels(2, (3, 1, 4, 4))
VIDEO = {"width": 4, "encoder_blocks": 1, "recurrent_width": 4, "decoder_blocks": 1}


def holding(model: arcore.AutoregressiveModel) -> pyfunc.ArcoreModel:
    loaded = pyfunc.ArcoreModel()
    loaded.model = model
    return loaded


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    converted, found = pyfunc._events, []

    def note(rows: np.ndarray, event: arcore.events.Event) -> torch.Tensor:
        found.append(len(rows))
        return converted(rows, event)

    monkeypatch.setattr(pyfunc, "_events", note)
    return found


def test_as_many_rows_are_scored_at_once_as_the_evaluation_took(tmp_path, sizes: list[int]) -> None:
    model = arcore.create_model("made", EVENT, hidden=[8], num_classes=3).eval()
    loaded = exported(tmp_path / "made", "made", model, batch_size=2)
    labels = torch.tensor([0, 2, 1, 1, 0])
    events = model.sample(5, labels)
    given = {"condition": labels.tolist()}
    wanted = -model.log_prob(events, labels).detach().numpy()
    assert np.allclose(loaded.predict(None, events, given)["nats"], wanted)
    assert sizes == [2, 2, 1]
    with pytest.raises(ValueError, match="model_input: expected levels in"):
        loaded.predict(None, torch.cat([events[:4], events[4:] + 5]), given)
    assert exported(tmp_path / "other", "made", model).batch_size == pyfunc.BATCH


def test_a_batch_of_sounds_has_so_many_samples_at_most(
    tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pyfunc.MAX_SAMPLES == sound_batches.MAX_SAMPLES
    small = {"width": 4, "gate_width": 3, "skip_width": 12, "cycle": 2, "num_blocks": 1}
    model = arcore.create_model("wavenet", arcore.events.Levels(4, (None,)), **small).eval()
    loaded = exported(tmp_path, "wavenet", model, batch_size=3)
    monkeypatch.setattr(pyfunc, "MAX_SAMPLES", 20)
    for length, expected in ((5, [3, 2]), (8, [2, 2, 1]), (30, [1] * 5)):
        sizes.clear()
        sounds = torch.randint(4, (5, length), generator=torch.Generator().manual_seed(length))
        found = loaded.predict(None, sounds.numpy())
        assert sizes == expected
        wanted = -model.log_prob(sounds).detach().numpy()
        assert np.allclose(found["nats"], wanted, rtol=1e-5)
        assert np.allclose(found["bits_per_dim"], wanted / length / np.log(2), rtol=1e-5)


def test_clips_are_completed_in_the_batches_that_are_scored(tmp_path, sizes: list[int]) -> None:
    model = arcore.create_model("video_pixel_network", CLIPS, **VIDEO).eval()
    loaded = exported(tmp_path, "video_pixel_network", model, batch_size=2, context_frames=1)
    clips = torch.randint(2, (5, *CLIPS.shape), generator=torch.Generator().manual_seed(0))
    drawn = loaded.predict(None, clips.numpy(), {"method": "sample", "seed": 3})
    assert sizes == [2, 2, 1]
    observed = (torch.arange(3) < 1).view(-1, 1, 1, 1).expand(CLIPS.extents)
    generator = torch.Generator().manual_seed(3)
    parts = [model.impute(part, observed, generator=generator) for part in clips.split(2)]
    assert np.array_equal(drawn, torch.cat(parts).numpy())


def test_it_imports_nothing_that_does_not_travel_with_it() -> None:
    tree = ast.parse(Path(pyfunc.__file__).read_text())
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    tops = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert tops == {"arcore", "mlflow", "numpy", "pandas", "torch", "yaml"}


def test_scoring_takes_what_a_caller_may_hold():
    model = arcore.create_model("nade", EVENT).eval()
    loaded = holding(model)
    events = model.sample(4)
    wanted = loaded.predict(None, events.numpy())
    assert list(wanted.columns) == ["nats", "bits_per_dim"]
    flat = events.flatten(1).numpy()
    tables = pd.DataFrame(flat), pd.DataFrame({"x": list(flat)})
    for given in (events, events.numpy().astype("uint8"), events[:, 0].numpy(), flat, *tables):
        assert loaded.predict(None, given).equals(wanted)
    assert len(loaded.predict(None, flat[:0])) == 0
    with pytest.raises(ValueError, match="model_input: expected shape"):
        loaded.predict(None, np.empty((0, 7)))
    with pytest.raises(ValueError, match="method: expected 'score' or 'sample', got 'draw'"):
        loaded.predict(None, flat, {"method": "draw"})


IMAGES = torch.arange(18).reshape(3, 1, 2, 3) % 5
CARS = {"price": [9.5, 20], "colour": ["red", "blue"], "doors": [3, None]}
RECORDS = [dict(zip(CARS, row, strict=True)) for row in zip(*CARS.values(), strict=True)]
IN_ORDER = [[0.0, 9.5, 1.0], [2.0, 20.0, float("nan")]]
REQUESTS = {  # what a client sends, and the rows that it means
    "images": ({"instances": IMAGES.tolist()}, IMAGES),
    "images without channels": ({"instances": IMAGES[:, 0].tolist()}, IMAGES),
    "flat images": ({"instances": IMAGES.flatten(1).tolist()}, IMAGES),
    "named images": ({"instances": [{"image": row} for row in IMAGES.tolist()]}, IMAGES),
    "inputs": ({"inputs": IMAGES.tolist()}, IMAGES),
    "split": ({"dataframe_split": {"data": IMAGES.flatten(1).tolist()}}, IMAGES),
    "split images": ({"dataframe_split": {"data": [[row] for row in IMAGES.tolist()]}}, IMAGES),
    "records of images": ({"dataframe_records": [{"x": row} for row in IMAGES.tolist()]}, IMAGES),
    "a table split": (
        {"dataframe_split": {"columns": [*CARS], "data": [*zip(*CARS.values(), strict=True)]}},
        IN_ORDER,
    ),
    "a table's records": (
        {"dataframe_records": RECORDS},
        IN_ORDER,
    ),
    "a table's instances": (
        {"instances": RECORDS},
        IN_ORDER,
    ),
    "a table's inputs": ({"inputs": CARS}, IN_ORDER),
    "numbers of a table": ({"instances": IN_ORDER[:1]}, IN_ORDER[:1]),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_served_model_takes_what_clients_send(name: str) -> None:
    """As MLflow's server reads a request for a model whose signature has no inputs."""
    request, rows = REQUESTS[name]
    is_table = isinstance(rows, list)
    kind = ("any_order_transformer", TABLE) if is_table else ("nade", EVENT)
    loaded = holding(arcore.create_model(*kind, **({"width": 8} if is_table else {})).eval())
    signature, _ = exporting._signature(loaded.model, {})
    given = scoring_server.infer_and_parse_data(json.loads(json.dumps(request)), signature.inputs)
    wanted = rows if isinstance(rows, torch.Tensor) else torch.tensor(rows).double()
    assert loaded.predict(None, given).equals(loaded.predict(None, wanted))


def test_a_server_does_not_cast_what_a_model_would_refuse() -> None:
    loaded = holding(arcore.create_model("nade", EVENT).eval())
    signature, _ = exporting._signature(loaded.model, {})
    request = {"instances": (IMAGES + 0.5).tolist()}
    given = scoring_server.infer_and_parse_data(request, signature.inputs)
    with pytest.raises(ValueError, match="model_input: expected integer levels, got fractional"):
        loaded.predict(None, given)


def test_outliers_are_rows_above_a_threshold_of_the_stated_rate():
    model = arcore.create_model("rnade", arcore.events.Real((2,))).eval()
    loaded = holding(model)
    loaded.scalings = {"x": (torch.zeros(2).double(), torch.full((2,), 5.0).double())}
    events = 5 * model.sample(99, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="rate: expected 0 for a version without validation"):
        loaded.predict(None, events, {"rate": 0.1})
    loaded.validation = -model.log_prob(events / 5).detach().double()
    found = loaded.predict(None, events, {"rate": 0.1})
    flagged = found["nats"][found["outlier"]]
    assert len(flagged) == 9 and flagged.min() > found["nats"][~found["outlier"]].max()
    assert found[["nats", "bits_per_dim"]].equals(loaded.predict(None, events, {"rate": 0.0}))
    for rate, message in ((1.5, "rate: expected a number in"), (0.001, "expected 999 rows or")):
        with pytest.raises(ValueError, match=message):
            loaded.predict(None, events, {"rate": rate})


def test_vectors_of_frames_are_a_parameter():
    event = arcore.events.Levels(2, (2, 1, 4, 4))
    loaded = holding(
        arcore.create_model("video_pixel_network", event, condition_sequence=(2, 3), **VIDEO).eval()
    )
    vectors = torch.arange(18.0).reshape(3, 2, 3)
    flat = vectors.flatten().tolist()
    drawn = loaded.predict(
        None, np.empty((0, *event.shape)), {"method": "sample", "num_samples": 3, "vectors": flat}
    )
    assert drawn.shape == (3, *event.shape)
    found = loaded.predict(None, drawn, {"vectors": flat})["nats"]
    wanted = -loaded.model.log_prob(torch.from_numpy(drawn), vectors)
    assert np.allclose(found, wanted.detach().numpy())


def test_given_frames_are_kept_and_not_scored():
    event = CLIPS
    loaded = holding(arcore.create_model("video_pixel_network", event, **VIDEO).eval())
    loaded.context_frames = 2  # whatever the model's own loss counts
    clips = torch.randint(2, (5, *event.shape), generator=torch.Generator().manual_seed(0))
    found = loaded.predict(None, clips.numpy())
    wanted = loaded.model.frame_log_prob(clips, first=2).sum(1)
    assert np.allclose(found["nats"], -wanted.detach().numpy())
    assert np.allclose(found["bits_per_dim"], found["nats"] / 16 / np.log(2))
    drawn = loaded.predict(None, clips.numpy(), {"method": "sample"})
    assert np.array_equal(drawn[:, :2], clips[:, :2]) and not np.array_equal(drawn, clips)
    with pytest.raises(ValueError, match="model_input: expected clips, of which the first 2"):
        loaded.predict(None, np.empty((0, *event.shape)), {"method": "sample"})


def test_a_condition_goes_into_the_parameter_of_its_kind():
    classes = holding(arcore.create_model("made", EVENT, num_classes=3).eval())
    nothing = np.empty((0, *EVENT.shape))
    labels = {"method": "sample", "num_samples": 2, "condition": [0, 2], "vectors": []}
    drawn = classes.predict(None, nothing, labels)
    found = classes.predict(None, drawn, {"condition": [0, 2]})["nats"]
    wanted = -classes.model.log_prob(torch.from_numpy(drawn), torch.tensor([0, 2]))
    assert np.allclose(found, wanted.detach().numpy())
    for params, message in (
        (
            {"condition": [0]},
            r"condition: expected the numbers of int64 class labels of shape \(2,",
        ),
        ({"condition": [0, 3]}, r"condition: expected classes in \[0, 3\)"),
        ({"vectors": [0.5, 1.5]}, "vectors: expected condition, int64 class labels"),
        ({}, "condition: expected int64 class labels"),
    ):
        with pytest.raises(ValueError, match=message):
            classes.predict(None, drawn, params)
    plain = holding(arcore.create_model("made", EVENT).eval())
    for name in ("condition", "vectors"):
        with pytest.raises(ValueError, match=f"{name}: expected none for an unconditional model"):
            plain.predict(None, drawn, {name: [1, 2]})
