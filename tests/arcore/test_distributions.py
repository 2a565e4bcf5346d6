"""Drawing from conditionals, mixtures over reals, and output heads at any finite parameters."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Laplace,
    MixtureSameFamily,
    Normal,
)
from torch.testing import assert_close

from arcore.distributions.discrete import GrayBernoulli, choose, first_passed, tempered
from arcore.distributions.discretized_logistic import DiscretizedLogisticMixture
from arcore.distributions.drawing import draw, invert, select
from arcore.distributions.real_mixture import COMPONENTS, RealMixture
from arcore.layers.heads import Head
from tests.support.statistics import chi_square_p_value, uniform_p_value


def test_draw_never_takes_a_level_of_probability_zero(generator: torch.Generator) -> None:
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]).expand(20_000, 5)
    drawn = draw(Categorical(logits=logits), generator)
    assert sorted(drawn.unique().tolist()) == [1, 3]
    certain = Bernoulli(logits=torch.tensor([-torch.inf, torch.inf]))
    assert draw(certain, generator).tolist() == [0, 1]


def test_an_accelerator_chooses_as_a_processor_does(generator: torch.Generator) -> None:
    probabilities = torch.rand(20_000, 9, generator=generator)
    probabilities[probabilities < 0.3] = 0
    probabilities[:, 4] += 0.1
    uniform = torch.rand(20_000, generator=generator)
    found = first_passed(probabilities, probabilities.cumsum(-1), uniform)
    assert torch.equal(found, choose(probabilities, uniform))
    rounded = torch.tensor([0.0, 0.5, 0.50001])  # of what has no probability
    ends = torch.tensor([0.0, 0.999999, 1 - 2**-24])
    assert first_passed(torch.tensor([0.0, 0.5, 0.0]), rounded, ends).tolist() == [1, 1, 1]


def test_no_temperature_makes_a_level_of_probability_zero_a_number() -> None:
    """One beyond float32 is as one of its largest number: all that is possible is as probable."""
    logits = torch.tensor([3.0, -torch.inf, -3.0])
    assert tempered(logits, 1e300).tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize(("uniform", "level"), [(0.0, 1), (1 - 2**-24, 3)])
def test_draw_at_the_ends_of_the_uniform_range(uniform: float, level: int, monkeypatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, uniform))
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]])
    assert draw(Categorical(logits=logits), None).item() == level
    certain = Bernoulli(logits=torch.tensor([-torch.inf, torch.inf]))
    assert draw(certain, None).tolist() == [0, 1]


def test_draws_from_coarse_logits_are_not_coarse(generator: torch.Generator) -> None:
    shape, p = (100_000,), 0.0025
    logits = torch.full(shape, math.log(p / (1 - p)), dtype=torch.bfloat16)
    for rare in (Bernoulli(logits=logits), GrayBernoulli(logits=logits)):
        drawn = (draw(rare, generator) > 0).double().mean().item()
        assert drawn == pytest.approx(p, abs=5 * math.sqrt(p / shape[0]) + 0.01 * p)
    uniform = Categorical(logits=torch.zeros(shape[0] // 10, 256, dtype=torch.bfloat16))
    levels = torch.cat([draw(uniform, generator) for _ in range(10)])
    counts = torch.bincount(levels, minlength=256) / shape[0] * 256
    assert (counts - 1).abs().max() < 6 / math.sqrt(shape[0] / 256)


every_component = pytest.mark.parametrize("component", COMPONENTS)


def parts(batch: int = 7, k: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(3, batch, 1, k, generator=generator, dtype=torch.float64)
    return drawn[0], 2 * drawn[1], drawn[2] - 0.5


@every_component
def test_density_and_distribution_function_are_those_of_torch(component: str) -> None:
    log_weights, means, log_scales = parts()
    family = {"gaussian": Normal, "laplace": Laplace}[component]
    theirs = MixtureSameFamily(Categorical(logits=log_weights), family(means, log_scales.exp()))
    ours = RealMixture(component, log_weights, means, log_scales, -7.0)
    x = torch.linspace(-9, 9, 7, dtype=torch.float64)[:, None]
    assert_close(ours.log_prob(x), theirs.log_prob(x), rtol=1e-12, atol=1e-12)
    assert_close(ours.cdf(x), theirs.cdf(x), rtol=1e-9, atol=1e-12)


@every_component
def test_far_tails_are_finite(component: str) -> None:
    zeros = torch.zeros(1, 2)
    mixture = RealMixture(component, zeros, zeros, zeros, -7.0)
    assert mixture.log_prob(torch.tensor([1e4])).isfinite().all()
    assert mixture.cdf(torch.tensor([-1e4])).item() == 0
    assert mixture.cdf(torch.tensor([1e4])).item() == 1


@every_component
def test_density_and_draws_share_the_floor_of_scales(component: str, generator) -> None:
    n, zeros = 20_000, torch.zeros(20_000, 1)
    mixture = RealMixture(component, zeros, zeros, zeros - 9, min_log_scale=-2.0)
    peak = {"gaussian": 0.5 * math.log(2 * math.pi), "laplace": math.log(2)}[component]
    assert mixture.log_prob(zeros[:, 0])[0].item() == pytest.approx(2 - peak, abs=1e-6)
    drawn = mixture.draw(generator)
    variance = {"gaussian": 1, "laplace": 2}[component] * math.exp(-4)
    assert drawn.var().item() == pytest.approx(variance, rel=10 / math.sqrt(n))
    assert uniform_p_value(mixture.cdf(drawn)) > 1e-4


@every_component
@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_draws_at_the_ends_of_the_uniform_range_are_finite(
    component: str, uniform: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, uniform))
    zeros = torch.zeros(4, 3)
    assert RealMixture(component, zeros, zeros, zeros, -7.0).draw(None).isfinite().all()


def test_a_component_of_weight_zero_is_never_drawn(generator: torch.Generator) -> None:
    n = 20_000
    log_weights = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0]).expand(n, 4)
    means = torch.tensor([0.0, 10.0, 20.0, 30.0]).expand(n, 4)
    mixture = RealMixture("gaussian", log_weights, means, torch.full((n, 4), -5.0), -7.0)
    assert sorted((mixture.draw(generator) / 10).round().unique().tolist()) == [1, 3]


def test_select_takes_flattened_indices() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = torch.randn(3, 5, 2, 3, 4, generator=generator)
    mixture = RealMixture("laplace", *tensors, -7.0)
    chosen = mixture.select(torch.tensor([5, 0]))
    assert chosen.batch_shape == (5, 2)
    x = torch.randn(5, 2, 3, generator=generator)
    expected = mixture.log_prob(x).flatten(1)[:, [5, 0]]
    assert_close(chosen.log_prob(x.flatten(1)[:, [5, 0]]), expected)
    none = RealMixture("laplace", *torch.zeros(3, 0, 2, 3, 4), -7.0)
    assert none.select(torch.tensor([5, 0])).batch_shape == (0, 2)


def test_bad_arguments_are_named() -> None:
    zeros = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"^component: expected one of .*, got 'cauchy'"):
        RealMixture("cauchy", zeros, zeros, zeros, -7.0)
    with pytest.raises(ValueError, match=r"^temperature: expected 1 for a mixture.*, got 0.5"):
        RealMixture("gaussian", zeros, zeros, zeros, -7.0).draw(None, 0.5)


def test_draws_of_a_coarse_mixture_are_not_coarse(generator: torch.Generator) -> None:
    """In bfloat16 a weight of 0.0025 would be drawn twice as often, and noise end at 5.5."""
    n = 100_000
    log_weights = torch.tensor([0.9975, 0.0025]).log().expand(n, 2).bfloat16()
    means = torch.tensor([0.0, 1000.0]).expand(n, 2).bfloat16()
    drawn = RealMixture("laplace", log_weights, means, torch.zeros_like(means), -7.0).draw(
        generator
    )
    rare = (drawn > 500).double().mean().item()
    assert rare == pytest.approx(0.0025, abs=5 * math.sqrt(0.0025 / n) + 1e-5)
    assert drawn[drawn < 500].abs().max() > 8


DTYPES = (torch.float64, torch.float32, torch.bfloat16)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)
HEADS = [
    Head("softmax", 2, 3, 1),
    Head("softmax", 5, 3, 1),
    Head("softmax", 256, 1, 1, gray=True),
    Head("logistic_mixture", 2, 1, 1),
    Head("logistic_mixture", 5, 3, 4),
    Head("logistic_mixture", 256, 3, 2),
]
every_head = pytest.mark.parametrize("head", HEADS, ids=str)
SIZES = (1.0, 30.0, 87.0, 89.0, 110.0, 1e4, 1e9, 1e18, 1e30, 3e38)
ROWS, SIDE = 24, 3


def maps(head: Head, size: float, dtype: torch.dtype) -> Tensor:
    """Outputs of which some are of this size, of both signs, and others ordinary."""
    generator = torch.Generator().manual_seed(0)
    shape = (ROWS, head.num_outputs, SIDE, SIDE)
    outputs = torch.randn(shape, generator=generator, dtype=torch.float64)
    large = torch.rand(shape, generator=generator) < 0.5
    return torch.where(large, size * outputs.sign(), outputs).to(dtype)


def image_of(head: Head, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (ROWS, head.colours, SIDE, SIDE)
    image = torch.randint(head.num_levels, shape, generator=generator)
    ends = torch.rand(shape, generator=generator) < 0.3
    return torch.where(ends, (image > 0) * (head.num_levels - 1), image)


def table(conditionals: Distribution) -> Tensor:
    logits: Tensor = conditionals.logits.double()
    if logits.shape == conditionals.batch_shape:
        return torch.stack([torch.sigmoid(-logits), torch.sigmoid(logits)], -1)
    return logits.exp()


@every_dtype
@every_head
def test_masses_sum_to_one_and_gradients_are_finite(head: Head, dtype: torch.dtype) -> None:
    for size in SIZES:
        masses_sum_to_one(head, size, dtype)


def masses_sum_to_one(head: Head, size: float, dtype: torch.dtype) -> None:
    outputs, image = maps(head, size, dtype).requires_grad_(), image_of(head)
    conditionals = head.distribution(outputs, image, image.shape)
    value = image if head.num_levels > 2 and not head.gray else image.to(dtype)
    scores = conditionals.log_prob(value)
    is_mixture = head.name == "logistic_mixture"  # whose masses are of float32 in any case
    coarse = 1e-4 if is_mixture else 0.1
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: coarse}[dtype]
    assert not scores.isnan().any() and (scores <= tolerance).all()
    scores.sum().backward()
    assert outputs.grad is not None and outputs.grad.isfinite().all()
    masses = table(conditionals).sum(-1)
    assert_close(masses, torch.ones_like(masses), rtol=0, atol=tolerance)
    if is_mixture:
        assert scores.isfinite().all()


@every_head
def test_one_colour_is_what_all_say_of_it(head: Head) -> None:
    outputs, image = maps(head, 3.0, torch.float64), image_of(head)
    shape = image.flatten(1).shape
    whole = head.distribution(outputs, image, image.shape)
    for colour in range(head.colours):
        later = image.clone()
        later[:, colour:] = 0
        one = head.colour_distribution(outputs, later, colour)
        block = torch.arange(SIDE * SIDE) + colour * SIDE * SIDE
        assert one.batch_shape == (ROWS, SIDE * SIDE)
        assert_close(one.logits, select(whole, shape, block).logits, rtol=1e-12, atol=1e-12)


# -- the mixture of discretised logistics


def mixture(levels: int, log_scale: float, mean: float, n: int) -> DiscretizedLogisticMixture:
    """n times the same three components: one of them tiny, one far off."""
    log_weights = torch.tensor([0.0, -1.5, -6.0]).expand(n, 3)
    means = torch.tensor([mean, 0.4, -0.2]).expand(n, 3)
    log_scales = torch.tensor([log_scale, -1.0, -9.0]).expand(n, 3)
    return DiscretizedLogisticMixture(levels, log_weights, means, log_scales)


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize(
    ("log_scale", "mean"),
    [(-2.0, -0.3), (-7.0, 0.9), (1.0, 5.0), (40.0, 0.0), (100.0, 1e9), (1e9, 0.0), (-7.0, -3e38)],
)
def test_draws_follow_the_masses(levels: int, log_scale: float, mean: float, generator) -> None:
    n = 1000
    logits = mixture(levels, log_scale, mean, 1).logits[0].double()
    for temperature in (1.0, 0.5):
        many = mixture(levels, log_scale, mean, n)
        drawn = torch.cat([draw(many, generator, temperature) for _ in range(6)])
        assert drawn.dtype == torch.int64 and drawn.shape == (6 * n,)
        assert chi_square_p_value(drawn, torch.softmax(logits / temperature, 0)) > 1e-4


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24])
@pytest.mark.parametrize("log_scale", [-7.0, 0.0, 100.0, 3e38])
def test_draws_at_the_ends_of_the_uniform_range_are_levels(
    uniform: float, log_scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.full(shape, uniform))
    for mean in (-3e38, -1.0, 0.0, 1e9, 3e38):
        drawn = draw(mixture(256, log_scale, mean, 4), None)
        assert ((drawn >= 0) & (drawn < 256)).all()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_inversion_passes_the_given_number(temperature: float) -> None:
    """Its own definition, level by level: F(v - 1) <= u < F(v)."""
    uniform = torch.linspace(0, 1 - 2**-24, 501)
    conditionals = mixture(17, -2.0, 0.1, 501)
    below = torch.softmax(conditionals.logits.double() / temperature, -1).cumsum(-1)
    level = invert(conditionals, uniform, temperature)
    upper = below.gather(-1, level[:, None])[:, 0]
    lower = torch.where(level > 0, below.gather(-1, (level - 1).clamp(min=0)[:, None])[:, 0], 0)
    assert (lower <= uniform + 1e-6).all() and (uniform <= upper + 1e-6).all()
    assert (level.diff() >= 0).all() and level.min() == 0 and level.max() == 16


@every_dtype
def test_the_table_is_log_prob_of_each_level(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(3, 4, 2, 5, generator=generator).to(dtype)
    conditionals = DiscretizedLogisticMixture(7, *parts)
    scores = [conditionals.log_prob(torch.full((4, 2), level)) for level in range(7)]
    assert torch.equal(conditionals.logits, torch.stack(scores, -1))


@pytest.mark.parametrize("log_scale", [29.0, 30.0, 31.0, 80.0, 88.0, 100.0, 1e4])
def test_wide_components_spread_over_the_interior(log_scale: float) -> None:
    """For s far above the bin's width w, an interior mass is w / (4 s), whatever float holds."""
    scale = torch.tensor([[log_scale]], requires_grad=True)
    conditionals = DiscretizedLogisticMixture(5, torch.zeros(1, 1), torch.zeros(1, 1), scale)
    score = conditionals.log_prob(torch.tensor([2]))
    wanted = torch.tensor([0.5 / 4]).log() - log_scale
    assert_close(score, wanted, rtol=1e-6, atol=1e-6)
    score.sum().backward()
    assert_close(scale.grad, torch.tensor([[-1.0]]))


# -- mixtures over reals


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("log_scale", [-100.0, 0.0, 80.0])
def test_real_mixtures_have_finite_gradients(component: str, log_scale: float) -> None:
    parts = [
        torch.tensor([[0.0, -1e30, 5.0]]),
        torch.tensor([[0.0, 1e4, -1e4]]),
        torch.full((1, 3), log_scale),
    ]
    parts = [part.requires_grad_() for part in parts]
    score = RealMixture(component, *parts, min_log_scale=-7.0).log_prob(torch.tensor([0.5]))
    score.sum().backward()
    assert score.isfinite().all()
    assert all(part.grad is not None and part.grad.isfinite().all() for part in parts)


@pytest.mark.parametrize(("num_levels", "dtype"), [(256, torch.int8), (1024, torch.uint8)])
def test_levels_of_a_dtype_without_the_last_one(num_levels: int, dtype: torch.dtype) -> None:
    head = Head("logistic_mixture", num_levels, 3, 2)
    most = torch.iinfo(dtype).max
    image = image_of(head).clamp(max=most)
    image[0] = most
    outputs = maps(head, 1.0, torch.float64)
    wanted = head.distribution(outputs, image, image.shape).log_prob(image)
    narrow = image.to(dtype)
    assert_close(head.distribution(outputs, narrow, image.shape).log_prob(narrow), wanted)
