"""RNN-NADE: the paper's equations by hand, and sequences of any length."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import arcore
from arcore.events import Binary, Levels
from arcore.models.rnn_nade import RNNNADE
from tests.support.cases import randomize

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def build(event: Levels, **hyperparameters: object) -> RNNNADE:
    options = {"hidden": 5, "recurrent": 4, **hyperparameters}
    model = randomize(arcore.create_model("rnn_nade", event, **options).double())
    assert isinstance(model, RNNNADE)
    return model


def by_hand(model: RNNNADE, bits: Tensor) -> Tensor:
    """The log-probability of one sequence (T, K), bit by bit and gate by gate."""
    w = dict(model.named_parameters())
    order = model.nade.order.tolist()
    h = c = torch.zeros(4, dtype=torch.float64)
    total = torch.zeros((), dtype=torch.float64)
    for step in bits.double():
        a = w["nade.hidden_bias"] + w["hidden_shift.weight"] @ h
        b = w["nade.output_bias"].flatten() + w["output_shift.weight"] @ h
        for place, dimension in enumerate(order):
            hidden = torch.sigmoid(a)
            logit = b[place] + w["nade.output_weight"][place].flatten() @ hidden
            total = total + torch.distributions.Bernoulli(logits=logit).log_prob(step[dimension])
            a = a + w["nade.input_weight"][place].flatten() * step[dimension]
        gates = w["lstm.weight_ih_l0"] @ step + w["lstm.bias_ih_l0"] + w["lstm.bias_hh_l0"]
        i, f, g, o = (gates + w["lstm.weight_hh_l0"] @ h).chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    return total


@pytest.mark.parametrize("ordering", ["raster", "reverse", "random"])
def test_it_is_the_papers_equations(ordering: str) -> None:
    model, bits = build(Binary((None, 6)), ordering=ordering), torch.randint(2, (2, 4, 6))
    expected = torch.stack([by_hand(model, one) for one in bits])
    assert_close(model.log_prob(bits), expected, **TIGHT)


def test_a_batch_of_several_lengths_is_each_alone() -> None:
    """Whatever stands after an end; a span in the middle is what its steps say."""
    model, x = build(Levels(3, (None, 2)), num_classes=2), torch.randint(3, (4, 9, 2))
    lengths, classes = torch.tensor([9, 1, 4, 6]), torch.tensor([0, 1, 0, 1])
    spans = torch.stack([torch.zeros_like(lengths), lengths], 1)
    found = model.log_prob(x, classes, scored=spans)
    for row, length in enumerate(lengths.tolist()):
        own = model.log_prob(x[row : row + 1, :length], classes[row : row + 1])
        assert_close(found[row : row + 1], own, **TIGHT)
        fixed = model.of_length(length)
        assert_close(fixed.log_prob(x[row : row + 1, :length], classes[row : row + 1]), own)
    middle = model.log_prob(x, classes, scored=torch.tensor([[2, 5]] * 4))
    upto = [model.log_prob(x[:, :end], classes) for end in (2, 5)]
    assert_close(middle, upto[1] - upto[0], **TIGHT)


def test_of_length_shares_weights() -> None:
    model = build(Binary((None, 6)))
    twin = model.of_length(3)
    assert twin.lstm is model.lstm and twin.sample(2).shape == (2, 3, 6)
    with pytest.raises(ValueError, match="length: expected a model of events of any length"):
        twin.of_length(4)
    with pytest.raises(ValueError, match="every dimension fixed|one length"):
        model.sample(2)


def test_dropout_is_of_training_alone() -> None:
    model, bits = build(Binary((5, 6)), dropout=0.5), torch.randint(2, (3, 5, 6))
    kept = model.eval().log_prob(bits)
    assert torch.equal(kept, build(Binary((5, 6))).eval().log_prob(bits))
    model.train()
    assert not torch.equal(model.log_prob(bits), model.log_prob(bits))
