"""Models of images under a symmetry: mirrored, flipped or turned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from arcore.decoding import Decoder
from arcore.distributions.drawing import reshape, select
from arcore.ensembles import Combination
from arcore.events import Event
from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require
from arcore.primitives.orderings import SYMMETRIES, transformed

IDENTITY = ("identity",)


def require_symmetries(symmetries: Sequence[str], event: Event) -> None:
    """Refuse what is no list of different symmetries of an event."""
    fits = isinstance(symmetries, list | tuple) and len(symmetries) > 0
    fits = fits and all(isinstance(name, str) and name in SYMMETRIES for name in symmetries)
    fits = fits and len(set(symmetries)) == len(symmetries)
    require(fits, "symmetries", f"different ones of {', '.join(SYMMETRIES)}", symmetries)
    if tuple(symmetries) != IDENTITY:
        fits = len(event.shape) > 2 and not event.is_open
        require(fits, "symmetries", f"{list(IDENTITY)} for {event}, which is no image", symmetries)
    if any(SYMMETRIES[name][0] % 2 for name in symmetries):
        square = event.shape[-2] == event.shape[-1]
        require(square, "symmetries", f"no quarter turns of {event}", symmetries)


class Transformed(Combination):
    """A model of images under a symmetry s: p(x) = q(s(x)), with the weights of the model q.

    A symmetry permutes pixels, so the density is exact where the model's is. Dimensions are drawn
    in the model's order of s(x). A condition is passed on as it is.

    Arguments:
        model: over images (channels, height, width), or clips of them.
        symmetry: identity, mirror (left and right), flip (top and bottom), rotate_90, rotate_180,
            rotate_270 (against the clock), transpose or antitranspose (over a diagonal); quarter
            turns and diagonals for square images.

    Raises:
        ValueError: for another symmetry, or an event that does not have it.

    Example:
        >>> import torch, arcore
        >>> model = arcore.create_model("nade", arcore.events.Binary((1, 2, 3)))
        >>> mirrored, x = arcore.Transformed(model, "mirror"), torch.tensor([[[[0, 1, 1]] * 2]])
        >>> torch.equal(mirrored.log_prob(x), model.log_prob(x.flip(-1)))
        True
    """

    places: Tensor  # (D,) the dimension of x that is each dimension of s(x)

    def __init__(self, model: AutoregressiveModel, symmetry: str) -> None:
        fits = isinstance(model, AutoregressiveModel) and not model.event.is_open
        require(fits, "model", "a model of events of a fixed shape", model)
        known = isinstance(symmetry, str) and symmetry in SYMMETRIES
        require(known, "symmetry", f"one of {', '.join(SYMMETRIES)}", symmetry)
        require_symmetries([symmetry], model.event)
        self._combine([model], model.hyperparameters)
        self.symmetry = symmetry
        self.scores_parts = model.scores_parts
        self.scores_in_autocast = model.scores_in_autocast
        self._place()

    @property
    def model(self) -> AutoregressiveModel:
        """The model that is transformed."""
        return next(iter(self))

    def __repr__(self) -> str:
        """Name the symmetry and the model."""
        return f"Transformed({self.symmetry}, {self.model!r})"

    def _place(self) -> None:
        numbers = torch.arange(self.event.size, device=self.device).view(self.event.extents)
        places = transformed(numbers, self.symmetry).flatten()
        self.register_buffer("places", places, persistent=False)

    def _rebuild(self) -> None:
        super()._rebuild()
        self._place()

    def transform(self, x: Tensor) -> Tensor:
        """Return s(x) of events, (batch, *event.shape)."""
        return x.flatten(1)[:, self.places].view(x.shape)

    def undo(self, x: Tensor) -> Tensor:
        """Return what `transform` makes these events of."""
        return x.flatten(1)[:, self.places.argsort()].view(x.shape)

    @property
    def num_evaluations(self) -> int | None:
        """The model's."""
        return self.model.num_evaluations

    @property
    def schedule(self) -> tuple[Tensor, ...]:
        """The model's, of s(x)."""
        return tuple(self.places[block] for block in self.model.schedule)

    def _log_prob(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.model._log_prob(self.transform(x), condition)

    def _log_estimate(self, x: Tensor, condition: Tensor | None) -> Tensor:
        return self.model._log_estimate(self.transform(x), condition)

    def _num_steps(self, x: Tensor) -> int:
        return self.model._num_steps(self.transform(x))

    def _part_log_prob(self, x: Tensor, condition: Tensor | None, scored: Tensor) -> Tensor:
        return self.model._part_log_prob(self.transform(x), condition, scored)

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        conditionals = self.model._conditionals(self.transform(x), condition)
        flat = x.flatten(1).shape
        return reshape(select(conditionals, flat, self.places.argsort()), x.shape)

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return TransformedDecoder(self, batch, condition)

    def sample(self, n: int, *args: Any, **options: Any) -> Tensor:
        """Draw n events of the model, and undo the symmetry."""
        return self.undo(self.model.sample(n, *args, **options))

    def impute(self, x: Tensor, observed: Tensor, *args: Any, **options: Any) -> Tensor:
        """Draw the unobserved dimensions as the model draws the dimensions of s(x)."""
        observed = self._check_observed(x, observed).to(self.device)
        given = self.transform(x.to(self.device)), self.transform(observed)
        return self.undo(self.model.impute(*given, *args, **options))


class TransformedDecoder(Decoder):
    """The model's decoder, whose blocks are of s(x)."""

    def __init__(self, model: Transformed, batch: int, condition: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        self.inner = model.model.decoder(batch, condition)

    def _next(self, block: Tensor) -> Distribution:
        return self.inner.next()

    def _push(self, block: Tensor, values: Tensor) -> None:
        self.inner.push(values)
