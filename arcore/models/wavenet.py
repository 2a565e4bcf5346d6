"""WaveNet: dilated causal convolutions over a waveform, generated with one queue per layer."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import pad, relu

from arcore.conditions import Classes, Frames, Symbols
from arcore.decoding import Decoder
from arcore.events import Event, Levels, resized
from arcore.generation import HEADROOM
from arcore.hyperparameters import CheckedHyperparameters
from arcore.layers.dilated import DilatedQueues, GatedLayer, Upsampler, delayed
from arcore.layers.dilated_stack import has_stack, stacked_skips
from arcore.layers.heads import Head
from arcore.model import AutoregressiveModel
from arcore.primitives.activation_checkpointing import run_block
from arcore.primitives.checks import require, require_int
from arcore.primitives.precision import at_least_float32
from arcore.primitives.transfer import to_device

GRAIN = 1024
UPSAMPLING = ("transposed", "repeat")
MAX_CYCLE = 20  # a dilation of half a million samples
MOST_PER_FRAME = 1 << 16  # samples: four seconds at 16 kHz


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveNetConfig(CheckedHyperparameters):
    """Hyperparameters of WaveNet.

    Arguments:
        width: residual channels.
        gate_width: channels of each gate.
        skip_width: channels of the sum of skips and of the head's hidden layer.
        num_blocks: times that the cycle of dilations is repeated.
        cycle: layers of a cycle, of dilations 1, 2, ..., 2^(cycle - 1).
        kernel: taps of a convolution.
        head: softmax (over levels; a sigmoid over two) or logistic_mixture.
        num_mixtures: components of a logistic mixture.
        inputs: one_hot or scaled (to [-1, 1]).
        num_classes: classes of a global condition (a speaker).
        condition_size: length of a global vector instead.
        local_classes: symbols of a local condition, one per frame; may go with `num_classes`.
        local_size: features per frame of a local condition instead, which goes alone: what is
            global is then a feature that is constant over frames.
        local_strides: of the upsampling; their product is the number of samples per frame.
        local_width: channels of the upsampled condition.
        upsampling: transposed (learned) or repeat.
    """

    width: int = 32
    gate_width: int = 32
    skip_width: int = 64
    num_blocks: int = 2
    cycle: int = 8
    kernel: int = 2
    head: str = "softmax"
    num_mixtures: int = 5
    inputs: str = "one_hot"
    num_classes: int | None = None
    condition_size: int | None = None
    local_classes: int | None = None
    local_size: int | None = None
    local_strides: tuple[int, ...] = (8, 8)
    local_width: int = 16
    upsampling: str = "transposed"
    choices = {"upsampling": UPSAMPLING}
    least = {"kernel": 2}
    odd = {}

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.cycle <= MAX_CYCLE
        require(fits, "cycle", f"an integer in 1..{MAX_CYCLE} (dilations double)", self.cycle)
        for name in ("local_classes", "local_size"):
            if getattr(self, name) is not None:
                require_int(getattr(self, name), name, 1)
        names = ("num_classes", "condition_size", "local_classes", "local_size")
        given = [name for name in names if getattr(self, name) is not None]
        fits = len(given) < 2 or given == ["num_classes", "local_classes"]
        require(fits, " and ".join(given), "one of them, or num_classes and local_classes", given)


class WaveNet(AutoregressiveModel):
    """Dilated causal convolutional network over a sequence, conditional on speaker and text.

    With u[t] the encoded sample x[t - 1], layers l of dilation d and conditions g, y:

        h_0 = W * u + b,    h_(l+1) = h_l + R_l z_l,
        z_l = tanh(W_l^f *_d h_l + V_l^f g + U_l^f y) . sigm(W_l^g *_d h_l + V_l^g g + U_l^g y),
        logits = W_2 relu(W_1 relu(sum_l S_l z_l)).

    A global condition g is the same at all samples; a local one is a sequence at a lower rate that
    is upsampled to y. Before the first sample every layer's input is zero. Events of more
    dimensions are flattened. The paper's context stacks are left out.

    An event's length may be open, `Levels(256, (None,))`: such a model scores sequences of any
    length, batches of several lengths or windows of them by `scored`, and `of_length` gives the
    same model for one length, which samples.

    On a processor, training of whole sequences in float32 without a condition runs all layers as
    `arcore.layers.dilated_stack`: hooks of layers are not called, and gradients have none.

    Reference:
        van den Oord et al., "WaveNet: A Generative Model for Raw Audio", 2016, eq. 2 and 3; its
        queues are those of Le Paine et al., "Fast Wavenet Generation Algorithm", 2016.

    Attributes:
        receptive_field: past samples that a conditional depends on, k + B (k - 1) (2^cycle - 1)
            for B blocks.
        hop: samples per frame of the local condition, 1 without one.

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("wavenet", arcore.events.Levels(256, (None,)))
        >>> model.log_prob(torch.zeros(2, 100)).shape, model.of_length(50).sample(2).shape  # nats
        (torch.Size([2]), torch.Size([2, 50]))
    """

    Config = WaveNetConfig
    supports = (Levels,)
    scores_parts = True
    receptive_field: int
    hyperparameters: WaveNetConfig

    def __init__(self, event: Event, hyperparameters: WaveNetConfig) -> None:
        super().__init__(event, hyperparameters)
        assert isinstance(event, Levels)
        p = hyperparameters
        fits = None not in event.shape or event.shape == (None,)
        require(fits, "event", "a fixed shape or (None,)", event)
        self.head = Head(p.head, event.num_levels, 1, p.num_mixtures)
        self._set_condition_kind()
        is_local = isinstance(self.condition_kind, (Symbols, Frames))
        self.num_symbols = p.local_classes
        self.hop = math.prod(p.local_strides) if is_local else 1
        expected = f"a product of at most {MOST_PER_FRAME}"
        require(self.hop <= MOST_PER_FRAME, "local_strides", expected, list(p.local_strides))
        dilations = [2**i for i in range(p.cycle)] * p.num_blocks
        self.receptive_field = p.kernel + (p.kernel - 1) * sum(dilations)
        # all taps of the first convolution at once, the newest first
        self.encoding: nn.Module
        if p.inputs == "one_hot":
            self.encoding = nn.Embedding(event.num_levels, p.kernel * p.width)
            nn.init.normal_(self.encoding.weight, std=p.kernel**-0.5)
        else:
            self.encoding = nn.Linear(1, p.kernel * p.width, bias=False)
        self.input_bias = nn.Parameter(torch.zeros(p.width))
        local, last = p.local_width if is_local else 0, len(dilations) - 1
        self.layers = nn.ModuleList(
            GatedLayer(p.width, p.gate_width, p.kernel, dilation, local, number == last)
            for number, dilation in enumerate(dilations)
        )
        gates = len(dilations) * 2 * p.gate_width
        self.projection: nn.Module | None = None
        if p.condition_size is not None:
            self.projection = nn.Linear(p.condition_size, gates, bias=False)
        elif p.num_classes is not None:
            self.projection = nn.Embedding(p.num_classes, gates)
            nn.init.normal_(self.projection.weight, std=0.1)
        self.upsampler: Upsampler | None = None
        if is_local:
            kinds, repeats = (p.local_classes, p.local_size), p.upsampling == "repeat"
            self.upsampler = Upsampler(*kinds, p.local_width, p.local_strides, repeats)
            for layer in self.layers:  # as weak at first as a class
                weight = cast(nn.Linear, layer.local).weight
                nn.init.normal_(weight, std=0.1 * p.local_width**-0.5)
        self.skip = nn.Linear(len(dilations) * p.gate_width, p.skip_width)
        self.hidden_head = nn.Linear(p.skip_width, p.skip_width)
        self.output = nn.Linear(p.skip_width, self.head.num_outputs)
        with torch.no_grad():
            self.output.bias.copy_(self.head.initial_bias())

    def _set_condition_kind(self) -> None:
        p = self.hyperparameters
        frames = None
        if None not in self.event.shape:
            frames = -(-self.event.size // math.prod(p.local_strides))
        if p.local_classes is not None:
            self.condition_kind = Symbols(p.local_classes, p.num_classes, frames)
        elif p.local_size is not None:
            self.condition_kind = Frames(p.local_size, frames)

    def __repr__(self) -> str:
        """Name the receptive field too."""
        return f"{super().__repr__()[:-1]}, receptive_field={self.receptive_field})"

    def of_length(self, length: int) -> WaveNet:
        """Return the same model, sharing weights, for events of one length."""
        require_int(length, "length", 1)
        assert isinstance(self.event, Levels)
        if not self.event.is_open:
            return cast(WaveNet, super().of_length(length))
        twin = copy.copy(self)
        twin.event = resized(self.event, (length,))
        twin._set_condition_kind()
        return twin

    # -- scoring

    def _num_steps(self, x: Tensor) -> int:
        return x.shape[1]

    def _part_log_prob(self, x: Tensor, condition: Tensor | None, scored: Tensor) -> Tensor:
        """Spans are of steps of the first dimension; the head is evaluated at what counts alone.

        A window of a longer sequence is exact if it begins with the sequence, or `receptive_field`
        samples or more before the first that counts; with a local condition, where a frame begins.
        """
        flat, spans = x.flatten(1).long(), scored.cpu() * math.prod(x.shape[2:])
        time = torch.arange(flat.shape[1], device=spans.device)
        mask = (time >= spans[:, :1]) & (time < spans[:, 1:])
        places = to_device(mask.flatten().nonzero()[:, 0], x.device)
        count = len(places)
        # kernels of bfloat16 are kept for each shape that was seen, so that there must be few
        some = pad(places, (0, -count % GRAIN)) if count > GRAIN else places
        values = flat.flatten()[some]
        gates = self._gates(self._start(flat), condition).flatten(0, 1)[some]
        outputs = self._head(relu(self.skip(gates), inplace=True))
        terms = self._distribution(outputs, values).log_prob(self._as_value(values))[:count]
        every = torch.zeros(flat.numel(), dtype=at_least_float32(terms.dtype), device=x.device)
        every = every.index_copy(0, places, terms.to(every.dtype))  # on CUDA index_add may vary
        return every.view_as(flat).sum(1)

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        flat = x.flatten(1).long()
        h = self._start(flat)
        if condition is None and has_stack(h):
            rows = stacked_skips(h, cast(list[GatedLayer], list(self.layers)), self.skip)
            outputs = self._head(rows).unflatten(0, flat.t().shape).transpose(0, 1)
        else:
            gates = self._gates(h, condition).flatten(0, 1)
            outputs = self._head(relu(self.skip(gates), inplace=True)).unflatten(0, flat.shape)
        return self._distribution(outputs, flat, x.shape)

    def _distribution(
        self, outputs: Tensor, values: Tensor, shape: Sequence[int] | None = None
    ) -> Distribution:
        shape = values.shape if shape is None else shape
        outputs = outputs.to(self.dtype)
        if self.head.name == "softmax":
            return self.head.softmax(outputs.reshape(*shape, outputs.shape[-1]))
        maps = outputs.reshape(1, -1, 1, outputs.shape[-1]).movedim(-1, 1)
        return self.head.distribution(maps, values.reshape(1, 1, -1, 1), shape)

    def _encode(self, x: Tensor) -> Tensor:
        """Encode levels (batch, T) as what each tap of the first convolution adds for them."""
        assert isinstance(self.event, Levels)
        if isinstance(self.encoding, nn.Embedding):
            return self.encoding(x)
        scaled = x.to(self.dtype) * (2 / (self.event.num_levels - 1)) - 1
        return self.encoding(scaled[..., None])

    def _given(self, condition: Tensor | None, length: int) -> tuple[Tensor | None, Tensor | None]:
        """Return the layers' projections of a global condition (batch, L, 2 G), and a local one."""
        given, frames = condition, None
        if isinstance(self.condition_kind, Symbols) and condition is not None:
            given, frames = self.condition_kind.split(condition)
        elif isinstance(self.condition_kind, Frames) and condition is not None:
            given, frames = None, condition.to(self.dtype)
        if given is not None and self.projection is not None:
            if not isinstance(self.condition_kind, (Classes, Symbols)):
                given = given.to(self.dtype)
            given = self.projection(given).unflatten(-1, (len(self.layers), -1))
        if frames is None or self.upsampler is None:
            return given, None
        fits = frames.shape[1] >= -(-length // self.hop)
        wanted = f"{-(-length // self.hop)} frames for {length} samples"
        require(fits, "condition", wanted, frames.shape[1])
        return given, self.upsampler(frames, length)

    def _start(self, x: Tensor) -> Tensor:
        """Return the first layer's maps, (batch, T, width), for levels (batch, T)."""
        taps = self._encode(x).chunk(self.hyperparameters.kernel, -1)
        return self.input_bias + sum(delayed(tap, 1 + steps) for steps, tap in enumerate(taps))

    def _gates(self, h: Tensor, condition: Tensor | None) -> Tensor:
        """Return all layers' z side by side, (batch, T, L G), for maps (batch, T, width)."""
        given, local = self._given(condition, h.shape[1])
        found = []
        for number, layer in enumerate(self.layers):
            own = None if given is None else given[:, number, None]
            z, h = run_block(layer, h, own, local)
            found.append(z)
        return torch.cat(found, -1)

    def _head(self, skips: Tensor) -> Tensor:
        """Return outputs (rows, num_outputs) for rectified sums of skips (rows, skip_width)."""
        return self.output(relu(self.hidden_head(skips), inplace=True))

    # -- generation

    def _may_overflow(self) -> bool:
        """Bound what the layers hand on: gated values are at most 1, so that states only add up."""
        if self.condition_kind is not None:
            return super()._may_overflow()
        layers = cast(list[GatedLayer], list(self.layers))
        encoding = cast(nn.Embedding | nn.Linear, self.encoding).weight
        start = self.hyperparameters.kernel * encoding.abs().max() + self.input_bias.abs().max()
        residuals = [layer.residual for layer in layers if layer.residual is not None]
        states = start + sum(_largest(residual) for residual in residuals)
        gates = torch.stack([_largest(layer.taps) for layer in layers]).max() * (states + 1)
        head = [_largest(layer) + 1 for layer in (self.skip, self.hidden_head, self.output)]
        bounds = torch.stack([gates, head[0] * head[1] * head[2]])
        return not bool((bounds < math.exp(-HEADROOM) * torch.finfo(self.dtype).max).all())

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """One block per sample, in order."""
        self._require_length()
        return tuple(torch.arange(self.event.size, device=self.device).split(1))

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return QueueDecoder(self, batch, condition)


def _largest(layer: nn.Linear) -> Tensor:
    """Return the largest that a layer makes of inputs of size 1."""
    size = layer.weight.abs().sum(1, dtype=torch.float64)
    return (size if layer.bias is None else size + layer.bias.abs()).max()


class QueueDecoder(Decoder):
    """Generates by `DilatedQueues`, one block per sample."""

    def __init__(self, model: WaveNet, batch: int, condition: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        self.model = model
        given, local = model._given(condition, len(self.blocks))
        layers = cast(list[GatedLayer], list(model.layers))
        head = (model.skip, model.hidden_head, model.output)
        length = len(self.blocks)
        self.queues = DilatedQueues(layers, head, model.input_bias, batch, length, given, local)

    def _next(self, block: Tensor) -> Distribution:
        out = self.queues.outputs()
        return self.model._distribution(out[:, None], block.new_zeros(len(out), 1))

    def _push(self, block: Tensor, values: Tensor) -> None:
        encoded = self.model._encode(values.long())[:, 0]
        self.queues.push(encoded.chunk(self.model.hyperparameters.kernel, 1))
