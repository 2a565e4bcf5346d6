"""Models that leave for MLflow: what comes back scores and draws as the model itself does."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import arcore
from arcore.events import Event, Levels, Real
from pipeline.datasets.scaling import Scaling
from pipeline.registry import exporting, pyfunc
from tests.support.cases import randomize
from tests.support.registered import exported, imported


def event_of(name: str) -> Event:
    return Real((3,)) if name == "rnade" else Levels(3, (2, 1, 2, 2))


def created(name: str, **given: object) -> arcore.AutoregressiveModel:
    return randomize(arcore.create_model(name, event_of(name), **given)).eval()


def drawn(model: arcore.AutoregressiveModel, seed: int = 0) -> Tensor:
    return model.sample(5, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "members", "given"),
    [
        *((name, 1, {}) for name in arcore.list_models()),
        ("made", 3, {"num_masks": 3}),
        ("deep_nade", 3, {}),
        ("conv_nade", 2, {}),
        ("mixture", 1, {"members": [{"name": "nade"}, {"name": "made"}]}),
        ("pool", 1, {"members": [{"name": "nade"}, {"name": "made"}]}),
    ],
)
def test_every_model_comes_back_as_it_was_evaluated(
    name: str, members: int, given: dict[str, object], tmp_path: Path
) -> None:
    whole = created(name, **given)
    loaded = exported(tmp_path, name, whole, num_members=members)
    model = whole.ensemble(members).eval() if members > 1 else whole
    events = drawn(model)
    with torch.no_grad():
        nats = -model.log_prob(events)
    scores = loaded.predict(None, events.numpy())
    assert_close(torch.tensor(scores["nats"].tolist()), nats, rtol=0, atol=0)
    bits = arcore.units.nats_to_bits_per_dim(nats, model.event)
    assert_close(torch.tensor(scores["bits_per_dim"].tolist()), bits)
    params = {"method": "sample", "num_samples": 5, "seed": 0}
    assert np.array_equal(loaded.predict(None, events[:0].numpy(), params), events.numpy())


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("gated_pixelcnn", {"num_classes": 3}),
        ("gated_pixelcnn", {"condition_size": 2}),
        ("made", {"condition_size": 2}),
        ("gated_pixelcnn", {"condition_shape": (2, 3, 1)}),
        ("video_pixel_network", {"condition_sequence": (2, 5)}),
    ],
)
def test_the_example_of_a_conditional_model_is_one_that_it_takes(
    name: str, given: dict[str, object], tmp_path: Path
) -> None:
    loaded = exported(tmp_path, name, created(name, **given))
    _, (events, params) = exporting._signature(loaded.model, {})
    assert np.isfinite(loaded.predict(None, events, params)["nats"]).all()


def test_standardised_values_are_taken_and_given_as_they_were(tmp_path: Path) -> None:
    model = created("rnade", condition_size=2)
    scalings = {
        "x": Scaling(np.array([1.7e9, -3.0, 0.0]), np.array([20.0, 10.0, 0.5])),
        "conditions": Scaling(np.array([1.0, 100.0]), np.array([3.0, 7.0])),
    }
    described = json.dumps({role: one.to_dict() for role, one in scalings.items()})
    exported(tmp_path, "rnade", model)
    (tmp_path / pyfunc.SCALINGS).write_text(described)
    loaded = imported(tmp_path)
    vectors = np.array([[4.0, 93.0]] * 5)
    condition = torch.tensor(scalings["conditions"].of(vectors), dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    z = model.sample(5, condition, generator=generator)
    given = {"vectors": vectors.ravel().tolist()}
    x = loaded.predict(None, np.empty((0, 3)), given | {"method": "sample", "num_samples": 5})
    np.testing.assert_allclose(scalings["x"].of(x), z, rtol=1e-5, atol=1e-5)
    nats = -model.log_prob(z, condition) + scalings["x"].nats
    got = loaded.predict(None, x, given)
    np.testing.assert_allclose(got["nats"], nats.detach(), rtol=1e-4)
    np.testing.assert_allclose(got["bits_per_dim"], got["nats"] / (3 * np.log(2)), rtol=1e-5)
    _, (example, params) = exporting._signature(model, scalings)
    np.testing.assert_array_equal(example, [scalings["x"].mean] * 2)
    assert params == {"vectors": [1.0, 100.0] * 2}
    assert np.isfinite(loaded.predict(None, example, params)["nats"]).all()
    frame = pd.DataFrame({"x": []})
    assert len(pyfunc.ArcoreModel.predict(loaded, None, frame, {})) == 0
    with pytest.raises(ValueError, match="model_input: expected"):
        loaded.predict(None, x[:, :2], given)
