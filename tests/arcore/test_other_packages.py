"""A model of another package: what it says of itself is all that inference asks of it."""

import copy
import dataclasses

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution
from torch.testing import assert_close

from arcore.coding import compress, decompress
from arcore.events import Binary, Event, Levels
from arcore.hyperparameters import Hyperparameters
from arcore.inference import completion, features
from arcore.inference.outlier_detection import OutlierDetector
from arcore.model import AutoregressiveModel
from tests.support.statistics import all_levels

EVENT = Binary((5,))


@dataclasses.dataclass(frozen=True)
class ExchangeableConfig(Hyperparameters):
    pass


class Exchangeable(AutoregressiveModel):
    """Polya's urn of bits: p(x_d = 1 | x_<d) = (a + ones before) / (a + b + d), in any order."""

    Config = ExchangeableConfig
    supports: tuple[type[Event], ...] = (Levels,)
    orders, has_hidden = "any", True

    def __init__(self, event: Event, hyperparameters: Hyperparameters) -> None:
        super().__init__(event, hyperparameters)
        self.log_urn = torch.nn.Parameter(torch.tensor([0.3, -0.2]))
        self.order = torch.arange(event.size)

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        return self.order.split(1)

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        ordered = x.flatten(1)[:, self.order].to(self.dtype)
        ones, urn = ordered.cumsum(1) - ordered, self.log_urn.exp()
        p = (urn[0] + ones) / (urn.sum() + torch.arange(self.event.size))
        return Bernoulli(probs=p[:, self.order.argsort()].view(x.shape))

    def under(self, order: Tensor) -> "Exchangeable":
        view = copy.copy(self)
        view.order = order
        return view

    def hidden(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return x.flatten(1).sum(1, keepdim=True).to(self.dtype)

    def first_layer(self) -> Tensor:
        return torch.ones(1, self.event.size)


@pytest.fixture
def model() -> Exchangeable:
    return Exchangeable(EVENT, ExchangeableConfig()).eval()


def test_it_is_completed_under_another_order(model: Exchangeable) -> None:
    observed, x = torch.tensor([False, True, False, True, True]), all_levels(EVENT)
    ordered = completion.observed_first(model, observed)
    assert ordered is not None and torch.cat(ordered.schedule).tolist() == [1, 3, 4, 0, 2]
    assert completion.observed_first(model, observed.sort(descending=True).values) is model
    found = completion.log_prob_missing(model, x, observed)
    joint = model.log_prob(x).detach()
    for part in x[:, observed].unique(dim=0):
        same = (x[:, observed] == part).all(1)
        assert_close(found[same], joint[same] - joint[same].logsumexp(0))


def test_its_features_are_its_own(model: Exchangeable) -> None:
    x = all_levels(EVENT)
    assert torch.equal(features.hidden_features(model, x), x.sum(1, keepdim=True).float())
    assert torch.equal(features.first_layer(model), torch.ones(1, 5))


def test_its_outliers_are_found_and_its_rows_coded(model: Exchangeable) -> None:
    x = model.sample(60, generator=torch.Generator().manual_seed(0))
    detector = OutlierDetector(model, rate=0.1).fit(x)
    assert (detector.predict(x) == -1).sum() <= 6
    assert torch.equal(decompress(model, compress(model, x)), x)
