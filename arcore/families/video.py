"""What models over clips share: frame encoders, an LSTM over frames, conditions, the decoder."""

import abc
import dataclasses
import itertools
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import one_hot

from arcore.conditions import Classes, Frames, Vector
from arcore.decoding import Decoder
from arcore.distributions.drawing import reshape
from arcore.events import Event, Gray, Levels, after_frames, resized
from arcore.hyperparameters import CheckedHyperparameters
from arcore.layers import level_features
from arcore.layers.clip_layers import ConvLSTM, ResidualMultiplicativeBlock, State
from arcore.layers.convolutions import Conv2d
from arcore.model import AutoregressiveModel
from arcore.primitives.activation_checkpointing import run_block
from arcore.primitives.checks import require
from arcore.primitives.precision import summed
from arcore.primitives.transfer import to_device


def clip_shape(event: Event) -> tuple[int, int, int, int]:
    """Return the event's shape as a clip (T, C, H, W); images, (H, W) and vectors are one frame."""
    extents = event.extents
    require(len(extents) <= 4, "event", "a shape of at most four extents (T, C, H, W)", extents)
    frames, channels, height, width = (1,) * (4 - len(extents)) + extents
    return frames, channels, height, width


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipConfig(CheckedHyperparameters):
    """Hyperparameters that all models over clips have.

    Arguments:
        width: c; multiplicative units have c maps, residual blocks 2 c.
        kernel: odd size of the convolutions of encoders, LSTM and units.
        encoder_blocks: residual multiplicative blocks of the frame encoder.
        dilations: of the encoder's blocks in turn, again from the first after the last.
        recurrent_width: maps of the LSTM's state.
        decoder_blocks: residual multiplicative blocks of the decoder.
        head_width: maps of the head's hidden layer.
        inputs: scaled (to [-1, 1]) or one_hot.
        context_frames: frames at the beginning that are always given. The training loss counts
            later ones only; `log_prob` is of the whole clip all the same.
        num_classes: classes of a class condition.
        condition_size: length of a vector condition.
        condition_sequence: frames T and length of a condition of one vector per frame (actions and
            states): what is known of a frame before it is seen.
    """

    width: int = 16
    kernel: int = 3
    encoder_blocks: int = 2
    dilations: tuple[int, ...] = (1, 2)
    recurrent_width: int = 32
    decoder_blocks: int = 2
    head_width: int = 32
    inputs: str = "scaled"
    context_frames: int = 0
    num_classes: int | None = None
    condition_size: int | None = None
    condition_sequence: tuple[int, int] | None = None
    least = {"context_frames": 0}


class ClipModel(AutoregressiveModel):
    """A model that draws a clip frame by frame, each given what an LSTM remembers of those before.

    Every frame is encoded by itself, e_t = blocks(K * x_t); h_t = ConvLSTM(e_1, ..., e_t); and the
    frame t + 1 is decoded given the maps h_t, zero for the first frame. The likelihood of frames
    from t on given those before is `log_prob(x, scored=...)` with spans of frames, or
    `frame_log_prob(x, first=t).sum(1)`.

    A subclass decodes: `_decode` all pixels of frames at once, `_frame_decoder` one after the other
    in the order of `_frame_schedule`.
    """

    supports = (Levels, Gray)
    scores_parts = True
    hyperparameters: ClipConfig

    def __init__(self, event: Event, hyperparameters: ClipConfig) -> None:
        super().__init__(event, hyperparameters)
        assert isinstance(event, Levels)
        p = hyperparameters
        self.clip = clip_shape(event)
        self.frame_event = resized(event, self.clip[1:])
        frames = self.clip[0]
        fits = p.context_frames < frames
        require(fits, "context_frames", f"fewer than the {frames} frames", p.context_frames)
        kind = self.condition_kind
        if isinstance(kind, Frames):
            fits = kind.frames == frames
            require(fits, "condition_sequence", f"{frames} frames", p.condition_sequence)
        self.num_vectors = 0
        if kind is not None:
            assert isinstance(kind, (Classes, Vector, Frames))
            self.num_vectors = kind.num_classes if isinstance(kind, Classes) else kind.size
        self.encoder: FrameEncoder | None = None
        if frames > 1:
            inputs = self.clip[1] * level_features.num_features(event, p.inputs)
            self.encoder = FrameEncoder(inputs, p, self.num_vectors)
            self.memory = ConvLSTM(2 * p.width, p.recurrent_width, p.kernel)

    @property
    def scored_event(self) -> Event:
        """The frames after the given `context_frames`."""
        return after_frames(self.event, self.hyperparameters.context_frames)

    # -- for subclasses

    @abc.abstractmethod
    def _decode(self, frames: Tensor, contexts: Tensor, vectors: Tensor | None) -> Distribution:
        """Return the conditionals of frames (n, C, H, W), of that batch shape.

        Contexts are (n, recurrent_width, H, W), vectors (n, num_vectors, 1, 1) or None.
        """

    @abc.abstractmethod
    def _frame_decoder(self, context: Tensor, vectors: Tensor | None) -> Decoder:
        """Return the incremental form of `_decode` for one frame of each clip."""

    @property
    @abc.abstractmethod
    def _frame_schedule(self) -> tuple[Tensor, ...]:
        """The blocks of a frame, indices into (C, H, W) flattened."""

    # -- frames

    def _vectors(self, condition: Tensor | None) -> Tensor | None:
        """Return a condition as a vector for each frame, (batch, T, num_vectors, 1, 1)."""
        if condition is None:
            return None
        if isinstance(self.condition_kind, Classes):
            condition = one_hot(condition, self.condition_kind.num_classes)
        vectors = condition.to(self.dtype)
        if vectors.dim() == 2:
            vectors = vectors[:, None].expand(-1, self.clip[0], -1)
        return vectors[..., None, None]

    def _encode(self, frames: Tensor, vectors: Tensor | None) -> Tensor:
        """Encode frames (n, C, H, W) by themselves, (n, 2 c, H, W)."""
        assert self.encoder is not None
        p = self.hyperparameters
        features = level_features.encode_image(frames, self.event, p.inputs, self.dtype)
        return self.encoder(features, vectors)

    def _no_context(self, batch: int) -> Tensor:
        p = self.hyperparameters
        shape = (batch, *self.clip[2:], p.recurrent_width)
        return torch.zeros(shape, dtype=self.dtype, device=self.device).movedim(-1, 1)

    def _contexts(self, clip: Tensor, vectors: Tensor | None) -> Tensor:
        """Return what is remembered before each frame of (batch, T, C, H, W), (batch, T, ...)."""
        none = self._no_context(len(clip))[:, None]
        if self.clip[0] == 1:
            return none
        past, given = clip[:, :-1], None if vectors is None else vectors[:, :-1].flatten(0, 1)
        encoded = self._encode(past.flatten(0, 1), given)
        states = self.memory(encoded.unflatten(0, past.shape[:2]))
        # side by side in NHWC order, which is that of the states
        parts = [maps.movedim(2, -1) for maps in (none, states.to(self.dtype))]
        return torch.cat(parts, 1).movedim(-1, 2)

    def _conditionals_from(self, x: Tensor, condition: Tensor | None, first: int) -> Distribution:
        """Return the conditionals of frames from `first` on, (batch, T - first, C, H, W)."""
        clip = x.reshape(len(x), *self.clip)
        vectors = self._vectors(condition)
        contexts = self._contexts(clip, vectors)[:, first:].flatten(0, 1)
        given = None if vectors is None else vectors[:, first:].flatten(0, 1)
        frames = clip[:, first:]
        conditionals = self._decode(frames.flatten(0, 1), contexts, given)
        return reshape(conditionals, frames.shape)

    # -- scoring

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        return reshape(self._conditionals_from(x, condition, 0), x.shape)

    def frame_log_prob(self, x: Tensor, condition: Tensor | None = None, first: int = 0) -> Tensor:
        """Return ln p(frame t | those before) for t >= first, (batch, T - first), in nats."""
        self._check(x, condition)
        frames = self.clip[0]
        fits = isinstance(first, int) and not isinstance(first, bool) and 0 <= first < frames
        require(fits, "first", f"a frame of 0 to {frames - 1}", first)
        return self._frame_log_prob(x, condition, first)

    def _frame_log_prob(self, x: Tensor, condition: Tensor | None, first: int) -> Tensor:
        frames = self._as_value(x).reshape(len(x), *self.clip)[:, first:]
        return summed(self._conditionals_from(x, condition, first).log_prob(frames), 2)

    def _log_prob(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self._frame_log_prob(x, condition, 0).sum(1)

    def _num_steps(self, x: Tensor) -> int:
        return self.clip[0]

    def _part_log_prob(self, x: Tensor, condition: Tensor | None, scored: Tensor) -> Tensor:
        """Spans are of frames; no frame before the first of them is decoded."""
        spans = scored.cpu()
        first = min(int(spans[:, 0].min()), self.clip[0] - 1) if len(spans) else 0
        frames = torch.arange(first, self.clip[0], device=spans.device)
        counted = to_device((frames >= spans[:, :1]) & (frames < spans[:, 1:]), x.device)
        return torch.where(counted, self._frame_log_prob(x, condition, first), 0).sum(1)

    def _objective(self, x: Tensor, condition: Tensor | None) -> Tensor:
        p = self.hyperparameters
        return self._frame_log_prob(x, condition, p.context_frames).sum(1)

    # -- generation

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """Frame after frame, each in the decoder's order."""
        size, frame = self.frame_event.size, self._frame_schedule
        return tuple(block + t * size for t in range(self.clip[0]) for block in frame)

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return ClipDecoder(self, self._blank(batch).view(batch, *self.clip), 0, condition)

    def _decoder_after(self, x: Tensor, known: Tensor, condition: Tensor | None) -> Decoder:
        frames = (
            known.view(len(known), self.clip[0], self.event.size // self.clip[0])
            .all(2)
            .all(0)
            .tolist()
        )
        given = len(list(itertools.takewhile(bool, frames)))
        if given == 0:
            return self.decoder(len(x), condition)
        self._check_condition(condition, len(x))
        return ClipDecoder(self, x.reshape(len(x), *self.clip).clone(), given, condition)


class FrameEncoder(nn.Module):
    """Residual multiplicative blocks over a frame at its full resolution."""

    def __init__(self, inputs: int, p: ClipConfig, condition_size: int) -> None:
        super().__init__()
        self.input = Conv2d(inputs, 2 * p.width, p.kernel, padding=p.kernel // 2)
        dilations = itertools.islice(itertools.cycle(p.dilations), p.encoder_blocks)
        self.blocks = nn.ModuleList(
            ResidualMultiplicativeBlock(p.width, p.kernel, dilation, condition_size)
            for dilation in dilations
        )

    def forward(self, features: Tensor, vectors: Tensor | None) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, 2 c, height, width)."""
        h: Tensor = self.input(features)
        for block in self.blocks:
            h = run_block(block, h, vectors)
        return h


class ClipDecoder(Decoder):
    """Goes through one frame's decoder after the other."""

    def __init__(
        self, model: ClipModel, clip: Tensor, given: int, condition: Tensor | None
    ) -> None:
        super().__init__(model.schedule, len(clip))
        self.model, self.clip = model, clip
        self.vectors = model._vectors(condition)
        self.context = model._no_context(len(clip))
        self.state: State | None = None
        self.frame = 0
        self.part: Any = None
        for _ in range(given):
            self._remember()
        self.position = given * (len(self.blocks) // model.clip[0])

    def _vectors_now(self) -> Tensor | None:
        return None if self.vectors is None else self.vectors[:, self.frame]

    def _remember(self) -> None:
        """Take in the frame that is complete."""
        model = self.model
        if self.frame < model.clip[0] - 1:
            encoded = model._encode(self.clip[:, self.frame], self._vectors_now())
            before = model.memory.zeros(encoded) if self.state is None else self.state
            self.state = model.memory.step(encoded, before)
            self.context = self.state[0]
        self.frame += 1
        self.part = None

    def _decoder(self) -> Decoder:
        if self.part is None:
            self.part = self.model._frame_decoder(self.context, self._vectors_now())
        return cast(Decoder, self.part)

    def _next(self, block: Tensor) -> Distribution:
        return self._decoder().next()

    def _push(self, block: Tensor, values: Tensor) -> None:
        part = self._decoder()
        part.push(values)
        self.clip.view(len(self.clip), self.model.event.size)[:, block] = values.to(self.clip.dtype)
        if part.position == len(part.blocks):
            self._remember()
