"""The coded size of test rows is what their likelihood promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import arcore
from arcore.events import Binary, Levels, Real
from pipeline.core.errors import UserError
from pipeline.datasets.base import SplitData
from pipeline.evaluation import coding_cost
from pipeline.evaluation.results import Coded, Score
from pipeline.reporting import wording
from tests.support.cases import randomize


def test_the_size_is_that_of_the_likelihood() -> None:
    event = Levels(5, (1, 6, 6))
    model = randomize(arcore.create_model("gated_pixelcnn", event, width=8, num_classes=3)).eval()
    labels = torch.arange(900) % 3
    x = model.sample(900, labels, generator=torch.Generator().manual_seed(0))
    split = SplitData(x.numpy().astype(np.uint8), labels.numpy())
    rows = np.arange(0, 900, 3)
    found = coding_cost.measure(model, split, rows)
    with torch.no_grad():
        bits = -float(model.log_prob(x[rows], labels[rows]).sum()) / math.log(2)
    assert bits < found.coded_bytes * 8 < bits * 1.001 + 8 * 150, "the rows, and a header"
    assert found.coded_seconds > 0


@pytest.mark.parametrize(
    ("name", "event", "given", "context", "message"),
    [
        ("pixelvae", Binary((1, 8, 8)), {}, 0, "expected an exact likelihood"),
        ("rnade", Real((3,)), {}, 0, "expected an event of levels"),
        ("nade", Binary((4,)), {}, 2, "expected false for given frames, got true"),
        ("wavenet", Levels(4, (None,)), {}, 0, "expected false for events of open length"),
    ],
)
def test_what_cannot_be_coded_is_refused_first(name, event, given, context, message) -> None:
    model = arcore.create_model(name, event, **given)
    with pytest.raises(UserError, match=f"toy: evaluation.coded: .*{message}"):
        coding_cost.check(model, context, "toy")


def test_words(make_result) -> None:
    event = Binary((1, 8, 8))
    result = make_result(event, nats=20.0, coded=Coded(coded_bytes=3_610, coded_seconds=2.0))
    assert wording.coded(result, event, "nats") == ("20.02 (+0.09 %)", "500 rows/s")
    assert wording.coded(result, event, "bits_per_dim")[0] == "0.4512 (+0.09 %)"
    plain = make_result(event, nats=20.0, coded=None)
    assert wording.coded(plain, event, "nats") == ("-", "-")


@pytest.fixture
def make_result():
    from pipeline.evaluation.results import Result

    def make(event, nats: float, coded: Coded | None) -> Result:
        return Result(
            experiment="toy", dataset="toy", model="nade", num_members=1, unit="nats",
            score=Score.from_nats(nats, 0.1, event), num_rows=1000, coded=coded,
        )  # fmt: skip

    return make
