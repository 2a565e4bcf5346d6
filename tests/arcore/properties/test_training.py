"""Losses and gradients, and that training approaches an entropy without beating it."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from arcore.events import Binary, Levels, Real
from arcore.model import AutoregressiveModel
from arcore.primitives.activation_checkpointing import checkpointed_blocks
from arcore.primitives.row_noise import BatchSlice
from arcore.zoo import list_models, model_class
from tests.arcore.cases import FIRST, cases_where, every_case, every_option, models_where
from tests.support.cases import (
    Case,
    compiles_to_the_same,
    create,
    declares,
    draws_noise,
    is_discrete,
    loss_of,
    randomize,
)
from tests.support.dependence import influence
from tests.support.statistics import all_levels

TIGHT = {"rtol": 1e-9, "atol": 1e-9}


@every_case
def test_every_parameter_gets_a_gradient(case: Case) -> None:
    model = case.build()
    loss_of(model, case.values(32), case.condition(32)).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # the first pixel has nothing before it, so only biases matter where it is alone
        part = getattr(model, "base", model) if name.startswith("base.") else model
        alone = case.event.size == 1 or math.prod(getattr(part, "image", (1, 2))[1:]) == 1
        assert alone or parameter.grad.count_nonzero(), name


@every_option
def test_loss_of_a_batch_is_the_weighted_mean_of_its_parts(case: Case) -> None:
    model, x, condition = case.build(), case.values(10), case.condition(10)
    own = draws_noise(model)

    def gradients(part: slice) -> list[Tensor]:
        label = None if condition is None else condition[part]
        # draws depend on the batch, hence likelihoods where the loss is not one
        scored = -model.log_prob(x[part], label) if own else model(x[part], label)
        loss = scored.mean()
        # the likelihood of a single dimension does not touch what it would show to others
        return [loss, *torch.autograd.grad(loss, list(model.parameters()), materialize_grads=own)]

    parts = zip(gradients(slice(0, 3)), gradients(slice(3, 10)), strict=True)
    for whole, (a, b) in zip(gradients(slice(0, 10)), parts, strict=True):
        assert_close(whole, 0.3 * a + 0.7 * b, **TIGHT)


@every_option
def test_training_mode_scores_as_evaluation_mode(case: Case) -> None:
    model, x, condition = case.build(), case.values(5), case.condition(5)
    trained = loss_of(model.train(), x, condition)
    assert torch.equal(trained, loss_of(model.eval(), x, condition))


@cases_where(lambda case: declares(case.kind, "dropout") and case is FIRST[case.model])
def test_dropout_acts_in_training_alone(case: Case) -> None:
    """Both models have the same weights, and draw the same of what they draw themselves."""
    x, condition = case.values(32), case.condition(32)
    dropped, whole = (
        dataclasses.replace(case, hyperparameters={**case.hyperparameters, "dropout": rate}).build()
        for rate in (0.5, 0.0)
    )
    scored = [loss_of(model.eval(), x, condition) for model in (dropped, whole)]
    assert torch.equal(*scored)
    trained = [loss_of(model.train(), x, condition) for model in (dropped, whole)]
    assert not torch.equal(*trained)


BLOCKS = {"diagonal_bilstm", "gated_pixelcnn", "parallel_multiscale", "pixelcnn", "pixelvae"}
BLOCKS |= {"row_lstm", "video_pixel_baseline", "video_pixel_network", "wavenet"}


@cases_where(lambda case: case is FIRST[case.model])
def test_checkpointed_blocks_keep_less_for_the_same_gradients(case: Case) -> None:
    """Bit for bit, and with dropout."""
    rate = {"dropout": 0.5} if declares(case.kind, "dropout") else {}
    case = dataclasses.replace(case, hyperparameters={**case.hyperparameters, **rate})
    model, x, condition = case.build().train(), case.values(16), case.condition(16)
    kept, gradients = [0, 0], []
    for enabled in (False, True):

        def keep(tensor: Tensor, enabled: bool = enabled) -> Tensor:
            kept[enabled] += tensor.numel()
            return tensor

        with checkpointed_blocks(enabled):
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = loss_of(model, x, condition).sum()
            gradients.append(torch.autograd.grad(loss, [*model.parameters()]))
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))
    assert kept[1] < kept[0] or case.model not in BLOCKS


@every_option
def test_validation_loss_is_deterministic(case: Case) -> None:
    model, x, condition = case.build(), case.values(7), case.condition(7)
    state = torch.get_rng_state()
    loss = model.validation_loss(x, condition)
    assert loss.shape == (7,) and loss.isfinite().all()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.validation_loss(x, condition), loss)
    parts = [
        model.validation_loss(x[rows], None if condition is None else condition[rows])
        for rows in (slice(0, 2), slice(2, 7))
    ]
    assert_close(torch.cat(parts), loss, **TIGHT)
    if not draws_noise(model):
        assert torch.equal(loss, -model.log_prob(x, condition))


# -- losses that draw

every_drawing_case = cases_where(
    lambda case: (
        case.kind._sample_training_noise is not AutoregressiveModel._sample_training_noise
        and draws_noise(case.build())
    )
)


@every_drawing_case
def test_an_objective_that_draws_is_a_function_of_the_seed(case: Case) -> None:
    model, x, condition = case.build(), case.values(7), case.condition(7)
    first = loss_of(model, x, condition, seed=1)
    assert first.shape == (7,) and first.isfinite().all()
    assert torch.equal(loss_of(model, x, condition, seed=1), first)
    assert case.event.size == 1 or not torch.equal(loss_of(model, x, condition, seed=2), first)


@every_drawing_case
def test_workers_draw_together_what_one_would(case: Case) -> None:
    x, condition = case.values(7), case.condition(7)
    model, losses = case.build(), torch.empty(7, dtype=torch.float64)
    for world in (1, 2, 3):
        for rank in range(world):
            mine = slice(rank, None, world)
            torch.manual_seed(5)
            model.sample_training_noise(BatchSlice(len(x[mine]), 7, rank, world))
            label = None if condition is None else condition[mine]
            loss = model(x[mine], label)
            if world == 1:
                losses = loss
            assert_close(loss, losses[mine], **TIGHT)
    with pytest.raises(ValueError, match="^x: expected 2 rows, as drawn, got 1"):
        model(x[:1], None if condition is None else condition[:1])
    model.eval()
    with torch.random.fork_rng():
        first, second = model(x, condition), model(x, condition)
    assert case.event.size == 1 or not torch.equal(first, second)


# -- known entropies


class Chain:
    """Six bits, each depending on two earlier ones in a scrambled order: a Bayesian network."""

    event = Binary((3, 2))

    def __init__(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        bits = self.states.flatten(1)
        order = torch.randperm(bits.shape[1], generator=generator)
        log_p = torch.zeros(len(bits), dtype=torch.float64)
        for t, index in enumerate(order):
            table = torch.rand(4, generator=generator, dtype=torch.float64) * 0.96 + 0.02
            parents = order[torch.randint(t, (2,), generator=generator)] if t else [index] * 2
            context = (2 * bits[:, parents[0]] + bits[:, parents[1]]) if t else 0 * bits[:, 0]
            p = table[context]
            log_p += torch.where(bits[:, index] == 1, p, 1 - p).log()
        self.log_p = log_p
        self.entropy = -(log_p.exp() * log_p).sum().item()

    @property
    def states(self) -> Tensor:
        return all_levels(self.event)

    def cost(self, log_q: Tensor) -> Tensor:
        """The exact expected negative log-likelihood under the source."""
        return -(self.log_p.exp() * log_q).sum()


def sees_all_before(model: AutoregressiveModel) -> bool:
    """Whether each dimension depends on all earlier ones; others cannot fit every source."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, (64, *model.event.shape), generator=generator)
    seen = influence(model, x, None)
    return bool((seen == torch.ones_like(seen).tril(-1)).all())


BLIND = {"MarkovChain", "VideoPixelBaseline"}  # one step back; pixels of a frame independent


@models_where(lambda kind: is_discrete(kind) and kind.exact)
def test_training_approaches_a_known_entropy_and_never_beats_it(
    kind: type[AutoregressiveModel],
) -> None:
    source = Chain(seed=5)
    assert source.log_p.exp().sum().item() == pytest.approx(1)
    torch.manual_seed(0)
    # a clip's model of default width is made for larger frames
    small = {"width": 4, "decoder_blocks": 1} if declares(kind, "condition_sequence") else {}
    model = create(kind, source.event, **small).double()
    free = sees_all_before(randomize(create(kind, source.event, **small).double()))
    assert free == (kind.__name__ not in BLIND)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    untrained = source.cost(model.log_prob(source.states)).item()
    for _ in range(1000 if free else 20):
        cost = source.cost(model.log_prob(source.states))
        assert cost.item() >= source.entropy - 1e-9
        if cost.item() < source.entropy + 0.02:
            break
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    assert cost.item() < untrained
    assert not free or cost.item() < source.entropy + 0.02 < untrained


@models_where(lambda kind: not is_discrete(kind))
def test_training_approaches_a_known_density_and_never_beats_it(
    kind: type[AutoregressiveModel], generator: torch.Generator
) -> None:
    """A scrambled chain of Gaussians x_t = 0.9 x_{t-1} + 0.5 e_t, whose entropy is exact."""
    steps, n = 4, 20_000
    noise = torch.randn(n, steps, generator=generator, dtype=torch.float64)
    x = noise.clone()
    for t in range(1, steps):
        x[:, t] = 0.9 * x[:, t - 1] + 0.5 * noise[:, t]
    cost = 0.5 * noise.square().sum(1) + steps * 0.5 * math.log(2 * math.pi)
    cost += (steps - 1) * math.log(0.5)
    entropy = cost.mean().item()  # of the very rows that are scored
    x = x[:, [2, 0, 3, 1]].view(n, 1, 2, 2)
    torch.manual_seed(0)
    model = create(kind, Real((1, 2, 2))).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    with torch.no_grad():
        untrained = model(x).mean().item()
    for step in range(200):
        rows = slice(step * 500 % n, step * 500 % n + 500)
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 200)
        optimizer.zero_grad()
        model(x[rows]).mean().backward()
        optimizer.step()
    with torch.no_grad():
        trained = model(x).mean().item()
    assert entropy - 0.02 < trained < entropy + 0.06 < untrained


# Kernels of our own and a scan; the compiler is slow: the others are slow tests.
COMPILED = ("nade", "row_lstm")


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(model_class(name), id=name, marks=() if name in COMPILED else pytest.mark.slow)
        for name in list_models()
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch's own, about its compiler
def test_compiled_training_call_is_the_same(kind: type[AutoregressiveModel]) -> None:
    event = Levels(3, (1, 2, 2)) if is_discrete(kind) else Real((4,))
    event = Levels(3, (2, 1, 3, 3)) if declares(kind, "condition_sequence") else event
    small = {"num_layers": 2} if declares(kind, "num_layers") else {}
    compiles_to_the_same(create(kind, event, **small), None)
