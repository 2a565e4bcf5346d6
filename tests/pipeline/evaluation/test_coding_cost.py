"""The coded size of test rows is what their likelihood promises."""

import math

import numpy as np
import pytest
import torch

import arcore
from arcore.events import Binary, Levels, Real
from pipeline.core.errors import UserError
from pipeline.datasets.base import SplitData
from pipeline.evaluation import measuring, scoring
from pipeline.evaluation.scoring import ChosenRows
from tests.support.cases import randomize


def test_the_size_is_that_of_the_likelihood() -> None:
    event = Levels(5, (1, 6, 6))
    model = randomize(arcore.create_model("gated_pixelcnn", event, width=8, num_classes=3)).eval()
    labels = torch.arange(900) % 3
    x = model.sample(900, labels, generator=torch.Generator().manual_seed(0))
    split = SplitData(x.numpy().astype(np.uint8), labels.numpy())
    rows = np.arange(0, 900, 3)
    found = measuring.coded(model, ChosenRows(split, rows, 500), "toy")
    with torch.no_grad():
        bits = -float(model.log_prob(x[rows], labels[rows]).sum()) / math.log(2)
    assert bits < found.coded_bytes * 8 < bits * 1.001 + 8 * 150, "the rows, and a header"
    assert found.coded_seconds > 0


def test_sounds_of_several_lengths_are_coded_under_speaker_and_symbols() -> None:
    options = {"width": 4, "gate_width": 4, "skip_width": 8, "cycle": 3, "num_classes": 2}
    options |= {"local_classes": 3, "local_strides": [2]}
    model = randomize(arcore.create_model("wavenet", Levels(16, (None,)), **options)).eval()
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 90, 40)
    symbols = np.stack([lengths, rng.integers(2, size=40), np.full(40, 2)], 1)
    labels = np.concatenate([symbols, rng.integers(3, size=(40, 2))], 1)
    x = rng.integers(16, size=(40, 90)).astype(np.uint8)
    rows = ChosenRows(SplitData(x, labels), np.arange(0, 40, 2), 7)
    found = measuring.coded(model, rows, "toy")
    bits = float(scoring.scores(model, rows).sum()) / math.log(2)
    assert bits < found.coded_bytes * 8 < bits * 1.001 + 8 * 200, "the rows, and a header"


@pytest.mark.parametrize(
    ("name", "event", "given", "context", "message"),
    [
        ("pixelvae", Binary((1, 8, 8)), {}, 0, "expected an exact likelihood"),
        ("rnade", Real((3,)), {}, 0, "expected an event of levels"),
        ("nade", Binary((4,)), {}, 2, "expected false for given frames, got true"),
    ],
)
def test_what_cannot_be_coded_is_refused_first(name, event, given, context, message) -> None:
    model = arcore.create_model(name, event, **given)
    with pytest.raises(UserError, match=f"toy: evaluation.coded: .*{message}"):
        measuring.check_coding(model, context, "toy")


def test_what_the_coder_refuses_is_said_in_one_line(monkeypatch) -> None:
    model = arcore.create_model("nade", Binary((4,))).eval()
    rows = ChosenRows.of(SplitData(np.zeros((2, 4), np.uint8)), 2)
    decoded = torch.ones(2, 4, dtype=torch.int64)
    monkeypatch.setattr(measuring.coding, "decompress", lambda *_: decoded)
    with pytest.raises(UserError, match="toy: evaluation.coded: expected the levels that were"):
        measuring.coded(model, rows, "toy")
    monkeypatch.setattr(arcore.coded_batches, "LONGEST", 3)
    with pytest.raises(UserError, match=r"toy: evaluation.coded: x: .*at most 3 steps"):
        measuring.coded(model, rows, "toy")
