"""The script that travels with a registered model: events, conditions and given frames."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import arcore
from pipeline.registry import pyfunc

EVENT = arcore.events.Levels(5, (1, 2, 3))


def holding(model: arcore.AutoregressiveModel) -> pyfunc.ArcoreModel:
    loaded = pyfunc.ArcoreModel()
    loaded.model = model
    return loaded


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
    for given in (events, flat, pd.DataFrame(flat), pd.DataFrame({"x": list(flat)})):
        assert loaded.predict(None, given).equals(wanted)
    with pytest.raises(ValueError, match="model_input: expected levels"):
        loaded.predict(None, flat + 5)
    with pytest.raises(ValueError, match="method: expected 'score' or 'sample', got 'draw'"):
        loaded.predict(None, flat, {"method": "draw"})


def test_vectors_of_frames_are_a_parameter():
    event = arcore.events.Levels(2, (2, 1, 4, 4))
    small = {"width": 4, "encoder_blocks": 1, "recurrent_width": 4, "decoder_blocks": 1}
    loaded = holding(
        arcore.create_model("video_pixel_network", event, condition_sequence=(2, 3), **small).eval()
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


def test_a_table_given_vectors_is_scored_and_drawn():
    event = arcore.events.Levels([2, 5, 3])
    loaded = holding(arcore.create_model("made", event, hidden=[8], condition_size=2).eval())
    params = {"vectors": [0.5, -1.0, 2.0, 0.0, 1.0, 1.0]}
    drawn = loaded.predict(None, np.empty((0, 3)), {"method": "sample", "num_samples": 3, **params})
    vectors = torch.tensor(params["vectors"]).view(3, 2)
    wanted = -loaded.model.log_prob(torch.from_numpy(drawn), vectors)
    assert np.allclose(loaded.predict(None, drawn, params)["nats"], wanted.detach().numpy())
    with pytest.raises(ValueError, match="model_input: expected levels"):
        loaded.predict(None, np.full((3, 3), 4), params)


def test_given_frames_are_kept_and_not_scored():
    event = arcore.events.Levels(2, (3, 1, 4, 4))
    small = {"width": 4, "encoder_blocks": 1, "recurrent_width": 4, "decoder_blocks": 1}
    loaded = holding(arcore.create_model("video_pixel_network", event, **small).eval())
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
