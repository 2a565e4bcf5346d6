"""Sampling in batches, with a bar, of open lengths; bits per dimension; an ensemble's text."""

import math
import sys

import pytest
import torch

import arcore
from arcore.events import Binary, Levels, Real
from tests.support.cases import randomize

MODELS = [
    ("nade", Levels(3, (2, 2)), {"hidden": 3}),
    ("pixelvae", Binary((1, 4, 4)), {}),
    ("deep_nade", Binary((4,)), {"hidden": [4]}),
    ("rnade", Real((3,)), {}),
]


@pytest.mark.parametrize(("name", "event", "hyperparameters"), MODELS, ids=lambda v: str(v)[:9])
def test_batches_follow_each_other(name: str, event: object, hyperparameters: dict) -> None:
    """Three batches are three calls with the same generator; one batch is what it always was."""
    model = arcore.create_model(name, event, **hyperparameters).eval()
    drawn = model.sample(7, generator=torch.Generator().manual_seed(0), batch=3)
    generator = torch.Generator().manual_seed(0)
    parts = [model.sample(n, generator=generator) for n in (3, 3, 1)]
    assert torch.equal(drawn, torch.cat(parts))
    whole = [model.sample(7, None, torch.Generator().manual_seed(0), batch=b) for b in (None, 7, 9)]
    assert torch.equal(whole[0], whole[1]) and torch.equal(whole[0], whole[2])


def test_conditions_go_with_their_batches() -> None:
    model = arcore.create_model("made", Binary((3,)), num_classes=2, hidden=[4]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.class_output.copy_(torch.tensor([-50.0, 50.0])[:, None].expand(2, 3))
    classes = torch.tensor([0, 1, 1, 0, 1])
    assert torch.equal(model.sample(5, classes, batch=2)[:, 0], classes)
    with pytest.raises(ValueError, match=r"condition: expected int64 class labels of shape \(5,\)"):
        model.sample(5, classes[:4], batch=2)


def test_a_bar_where_it_is_asked_for(capsys, monkeypatch) -> None:
    model = arcore.create_model("nade", Binary((4,)), hidden=2)
    model.sample(4)
    assert capsys.readouterr() == ("", "")
    model.sample(4, batch=2, progress=True)
    captured = capsys.readouterr()
    assert captured.out == "" and "sampling: 100%" in captured.err and "8/8" in captured.err
    arcore.Ensemble([model, model]).sample(9, progress=True)
    assert "4/4" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tqdm", None)
    model.sample(4)
    with pytest.raises(ValueError, match="progress: expected the package tqdm to be installed"):
        model.sample(4, progress=True)


def test_open_lengths_name_of_length() -> None:
    model = arcore.create_model("wavenet", Levels(4, (None,)), width=2, cycle=1)
    message = r"event: expected events of one length to generate \(use model.of_length\(length\)\)"
    with pytest.raises(ValueError, match=message):
        model.sample(2)
    with pytest.raises(ValueError, match=message):
        model.impute(torch.zeros(2, 5), torch.zeros(2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=message):
        arcore.Ensemble([model]).sample(2)
    assert model.of_length(5).sample(2).shape == (2, 5)
    bits = arcore.create_model("wavenet", Binary((None,)), cycle=2).of_length(5)
    assert bits.event == Binary((5,))
    for model in (bits, arcore.create_model("nade", Binary((4,)))):
        with pytest.raises(ValueError, match="length: expected a model of events of any length, g"):
            model.of_length(4)


def test_bits_per_dim() -> None:
    for event in (Levels(256, (1, 2, 2)), Real((3,), 0.25)):
        model = arcore.create_model("nade" if isinstance(event, Levels) else "rnade", event)
        x = torch.zeros(5, *event.shape)
        expected = arcore.units.nats_to_bits_per_dim(-model.log_prob(x), event)
        assert torch.equal(model.bits_per_dim(x), expected)
    sound = arcore.create_model("wavenet", Levels(4, (None,)), width=2, num_classes=2)
    x, speakers = torch.zeros(2, 9), torch.tensor([0, 1])
    expected = -sound.log_prob(x, speakers) / (9 * math.log(2))
    assert torch.allclose(sound.bits_per_dim(x, speakers), expected)


def test_an_ensemble_names_its_members() -> None:
    model = randomize(arcore.create_model("nade", Binary((4,)), hidden=2))
    other = arcore.create_model("made", Binary((4,)), hidden=[3])
    text = repr(arcore.Ensemble([model, other]))
    assert text.splitlines() == [
        "Ensemble(Binary(shape=(4,), num_levels=2), members=2,",
        f"  (0): {model!r}",
        f"  (1): {other!r}",
        ")",
    ]
    many = repr(arcore.Ensemble([model] * 100)).splitlines()
    assert len(many) == 11 and many[5] == "  ... 92 more"
