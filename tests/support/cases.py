"""A model configuration that the properties run on, and what it declares."""

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.testing import assert_close

from arcore.decoding import Decoder
from arcore.events import Event, Levels, Real, Table
from arcore.families.latent import LatentVariableModel
from arcore.hyperparameters import build_hyperparameters
from arcore.model import AutoregressiveModel
from arcore.zoo import model_class
from tests.support.events import NINE, REALS

Module = TypeVar("Module", bound=nn.Module)


class GivenLatents(AutoregressiveModel):
    """p(x | z) of a latent-variable model at one z, the same for all events: an exact model."""

    def __init__(self, model: LatentVariableModel) -> None:
        self.supports = model.supports
        super().__init__(model.event, model.hyperparameters)
        self.model = model
        generator = torch.Generator().manual_seed(0)
        self.latents = tuple(
            (torch.randn(1, *shape, generator=generator) * 64).round() / 64
            for shape in model.latent_shapes
        )

    def _given(self, batch: int) -> tuple[Tensor, ...]:
        return tuple(z.to(self.dtype).expand(batch, *z.shape[1:]) for z in self.latents)

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        return self.model.schedule

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        return self.model.conditionals_given(x, self._given(len(x)), condition)

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return self.model.decoder(batch, condition, self._given(batch))


def exact_part(model: AutoregressiveModel) -> AutoregressiveModel:
    """The model, or p(x | z) at some z of one whose likelihood is only bounded."""
    return GivenLatents(model) if isinstance(model, LatentVariableModel) else model


@dataclass(frozen=True, eq=False)
class Case:
    """A model configuration over a tiny event.

    Arguments:
        name: "<model>-<what is special>", the model being a name of the zoo or that of `defined`.
        event: what is modelled.
        hyperparameters: fields of the model's `Config`.
        mask: which member of a model with several masks or orderings.
        full: every earlier index must influence every later one (False where a model cannot grant
            it: narrow or randomly connected networks, blind spots, short memories).
        tiny: too small for every weight to have a part; for the properties of probabilities alone.
        defined: the model's class, where it is none of the zoo.
    """

    name: str
    event: Levels | Real | Table
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    mask: int = 0
    full: bool = True
    tiny: bool = False
    defined: type[AutoregressiveModel] | None = None

    def __str__(self) -> str:
        return self.name

    # -- what it declares

    @property
    def model(self) -> str:
        return self.name.partition("-")[0]

    @property
    def kind(self) -> type[AutoregressiveModel]:
        return self.defined or model_class(self.model)

    @property
    def discrete(self) -> bool:
        return isinstance(self.event, Levels)

    @property
    def follows_autocast(self) -> bool:
        """Whether its scores are computed in the precision of autocast."""
        return self.discrete and self.kind.scores_in_autocast

    @property
    def num_states(self) -> float:
        return math.prod(self.event.levels_by_dimension) if self.discrete else math.inf

    # -- models

    def create(self) -> AutoregressiveModel:
        model = create(self.kind, self.event, **self.hyperparameters)
        return model.member(self.mask) if self.mask else model

    def build(self, seed: int = 0) -> AutoregressiveModel:
        """Create the model in float64 with random non-zero weights and biases.

        Over reals with a quarter of the weights: scales are exponentials of them, and samples that
        feed on each other would overflow.
        """
        return copied(_built(self, seed), {})

    def build_exact(self) -> AutoregressiveModel:
        """Build the model, or p(x | z) at some z of one whose likelihood is only bounded."""
        return exact_part(self.build())

    # -- rows

    def values(self, batch: int, seed: int = 0) -> Tensor:
        """Rows drawn uniformly: levels, or multiples of 1/16 within [-2, 2], or both in columns.

        The products of the latter with weights are exact in float64.
        """
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, *self.event.extents)
        if isinstance(self.event, Levels):
            drawn = torch.randint(2**31, shape, generator=generator)
            counts = torch.tensor(self.event.levels_by_dimension).view(self.event.extents)
            return drawn % counts
        drawn = torch.randint(-32, 33, shape, generator=generator)
        if isinstance(self.event, Table):
            counts = torch.tensor([column.count for column in self.event.columns])
            return torch.where(counts > 0, drawn % counts.clamp(min=1), drawn / 16).double()
        return drawn.double() / 16

    def condition(self, batch: int) -> Tensor | None:
        """Conditions that differ from row to row (classes in turn), None for an unconditional."""
        if (symbols := self.hyperparameters.get("local_classes")) is not None:
            return self._symbols(batch, symbols)
        if (classes := self.hyperparameters.get("num_classes")) is not None:
            return torch.arange(batch) % classes
        shape = self._condition_shape()
        if shape is None:
            return None
        generator = torch.Generator().manual_seed(batch)
        return torch.randint(-64, 64, (batch, *shape), generator=generator).double() / 64

    def conditions(self, batch: int) -> list[Tensor | None]:
        """One condition a class, or two others, each the same for the whole batch."""
        classes = self.hyperparameters.get("num_classes")
        if classes is not None and "local_classes" not in self.hyperparameters:
            return [torch.full((batch,), c) for c in range(classes)]
        pair = self.condition(2)
        if pair is None:
            return [None]
        return [one.expand(batch, *one.shape).contiguous() for one in pair]

    def _frames(self) -> int:
        return -(-self.event.size // math.prod(self.hyperparameters["local_strides"]))

    def _symbols(self, batch: int, symbols: int) -> Tensor:
        generator = torch.Generator().manual_seed(batch)
        drawn = torch.randint(symbols, (batch, self._frames()), generator=generator)
        drawn[:, 0] = torch.arange(batch) % symbols
        classes = self.hyperparameters.get("num_classes")
        if classes is None:
            return drawn
        return torch.cat([torch.arange(batch)[:, None] % classes, drawn], 1)

    def _condition_shape(self) -> tuple[int, ...] | None:
        given = self.hyperparameters
        if (size := given.get("local_size")) is not None:
            return (self._frames(), size)
        if (size := given.get("condition_size")) is not None:
            return (size,)
        return given.get("condition_sequence") or given.get("condition_shape")


def row(
    name: str, event: Levels | Real | Table, *, mask: int = 0, full: bool = True,
    tiny: bool = False, **hyperparameters: Any,
) -> Case:  # fmt: skip
    return Case(name, event, hyperparameters, mask, full, tiny)


def copied(module: Module, memo: dict[int, nn.Parameter]) -> Module:
    """As `copy.deepcopy`, in a fraction of the time: what is no parameter or buffer is shared."""
    twin = object.__new__(type(module))
    vars(twin).update(vars(module))  # hooks too: no property registers any
    for name in ("_parameters", "_buffers", "_modules"):
        vars(twin)[name] = dict(vars(module)[name])
    for name, parameter in module._parameters.items():
        if parameter is not None and id(parameter) not in memo:
            memo[id(parameter)] = nn.Parameter(parameter.detach().clone())
        twin._parameters[name] = None if parameter is None else memo[id(parameter)]
    for name, buffer in module._buffers.items():
        twin._buffers[name] = None if buffer is None else buffer.clone()
    if isinstance(module, nn.LSTM):  # which keeps its parameters in a list, too
        twin._flat_weights = [twin._parameters[name] for name in module._flat_weights_names]
    for name, child in module._modules.items():
        twin._modules[name] = None if child is None else copied(child, memo)
    return twin


@functools.cache  # thirty properties build each case
@torch.no_grad()
def _built(case: Case, seed: int) -> AutoregressiveModel:
    model = randomize(case.create().double(), seed)
    if not case.discrete:
        for parameter in model.parameters():
            parameter.mul_(0.25)
    return model


def create(
    kind: type[AutoregressiveModel], event: Event, **hyperparameters: object
) -> AutoregressiveModel:
    return kind(event, build_hyperparameters(kind.Config, hyperparameters, kind.__name__))


def is_discrete(kind: type[AutoregressiveModel]) -> bool:
    return issubclass(kind.supports[0], Levels)


def event_of(kind: type[AutoregressiveModel]) -> Levels | Real:
    """A tiny image of a kind that a model supports."""
    return NINE if is_discrete(kind) else REALS


def declares(kind: type[AutoregressiveModel], hyperparameter: str) -> bool:
    return hyperparameter in {field.name for field in dataclasses.fields(kind.Config)}


def draws_noise(model: AutoregressiveModel) -> bool:
    """Whether `forward` is another loss than -ln p(x), with draws of its own for each row."""
    with torch.random.fork_rng():
        noise = model._sample_training_noise(1)
    return noise.numel() > 0


@torch.no_grad()
def randomize(model: AutoregressiveModel, seed: int = 0) -> AutoregressiveModel:
    """Fill parameters with non-zero multiples of 1/64.

    Sums of such numbers are exact in float64, whatever the order in which a matrix product adds
    them, so that the bit-exact properties hold on every machine or show a real leak.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        inputs = parameter[0].numel() if parameter.dim() == 4 else parameter.shape[-1]
        std = min(1.0, 2 / inputs**0.5)
        drawn = torch.empty(parameter.shape, dtype=torch.float64).normal_(generator=generator)
        steps = (64 * std * drawn).round()
        parameter.copy_(torch.where(steps == 0, 1, steps) / 64)
    return model


def loss_of(model: AutoregressiveModel, x: Tensor, *given: Tensor | None, seed: int = 0) -> Tensor:
    """The training loss as a step computes it: what it draws is a function of the seed."""
    torch.manual_seed(seed)
    loss: Tensor = model(x, *given)
    return loss


def compiles_to_the_same(model: AutoregressiveModel, *given: Tensor | None) -> None:
    """Check loss and gradients of four rows, traced and differentiated by the compiler.

    Its code generation is not ours to test.
    """
    model = randomize(model.double())
    shape = model.event.shape
    x = torch.zeros(4, *shape) + torch.arange(4).view(-1, *[1] * len(shape)) % 3
    compiled = torch.compile(model, backend="aot_eager")
    results = []
    for call in (model, compiled):
        loss = loss_of(call, x, *given)
        loss.mean().backward()
        results.append((loss.detach(), [p.grad for p in model.parameters()]))
        model.zero_grad(set_to_none=True)
    assert_close(results[1], results[0], rtol=1e-9, atol=1e-9)
    torch._dynamo.reset()
