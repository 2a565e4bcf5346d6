"""A causal transformer over the dimensions of an event in any order, in one pass."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import embedding

from arcore.decoding import Decoder
from arcore.distributions.drawing import SamplingOptions, reshape
from arcore.events import Binary, Event, Levels
from arcore.families.any_order import AnyOrderModel
from arcore.hyperparameters import CheckedHyperparameters
from arcore.layers import level_features
from arcore.layers.attention import KeyValueCache, TransformerBlock
from arcore.layers.level_features import condition_weight, embedded
from arcore.primitives import orderings
from arcore.primitives.checks import require
from arcore.primitives.masks import draw_parts
from arcore.primitives.precision import summed
from arcore.primitives.token_plans import TokenPlan, plan_tokens

MOST_JOINT = 4096  # joint values of a patch
INITIAL_STD = 0.3  # of embeddings


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnyOrderTransformerConfig(CheckedHyperparameters):
    """Hyperparameters of the any-order transformer.

    Arguments:
        width: numbers of a token.
        num_layers: blocks of attention and a network of 4 width hidden units.
        num_heads: heads of attention, a divisor of the width.
        patch: side of the patches of an image that are a token; 1 for a token per dimension. It
            divides both sides, and a patch has at most 4,096 joint values (2 x 2 bits have 16).
        dropout: probability of dropping a number that a layer adds, in training.
        training_orders: fixed (the ordering below alone), any (a random order of patches for each
            row) or given_first (a random part of each row in that ordering, then the rest in it).
        ordering: a name of `arcore.orderings.ORDERINGS`, of patches, under which the model scores
            and samples; `ordering_seed` serves `random` and the members.
        num_orderings: orderings whose mixture is scored where an evaluation asks for all.
        num_classes: classes of an optional condition, which shifts every token.
        condition_size: length of a vector that is the condition instead.
    """

    width: int = 32
    num_layers: int = 2
    num_heads: int = 4
    patch: int = 1
    dropout: float = 0.0
    training_orders: str = "any"
    ordering: str = "raster"
    ordering_seed: int = 0
    num_orderings: int = 1
    num_classes: int | None = None
    condition_size: int | None = None
    choices = {"training_orders": ("fixed", "any", "given_first")}

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = self.width % self.num_heads == 0
        require(fits, "num_heads", f"a divisor of the width {self.width}", self.num_heads)


class AnyOrderTransformer(AnyOrderModel):
    """A transformer whose tokens say which dimension they show and which one they are asked for.

        p(x) = prod_t p(x_s(t) | x_s(<t))  for an order s of the dimensions,
        h_t = E[x_s(t-1)] + A[s(t-1)] + B[s(t)],  logits_t = W transformer(h_<=t),

    where attention is causal over t, so that one pass gives all factors, whatever the order. A and
    B are sums of a row for each axis of the grid. A patch of n dimensions of k levels is one token
    of k^n joint values; its dimensions follow one another by the conditionals of that softmax,
    which are exact. An order that cuts a patch takes a token for each part. Training takes whole
    patches, so that scores of cut ones are exact, but of a network that never saw any.

    `log_prob` follows the model's own ordering, `under(order)` is the model under another, and
    `log_conditional` is ln p(x_A | x_B) for any A and B, with B first. `impute` draws what is
    missing given all that is observed. `forward` is -ln p under the orders that
    `training_orders` draws.

    Reference:
        Uria, Murray and Larochelle, "A Deep and Tractable Density Estimator", ICML 2014;
        Germain, Gregor, Murray and Larochelle, "MADE", ICML 2015 (orders); Alcorn and Nguyen, "The
        DEformer: An Order-Agnostic Distribution Estimating Transformer", 2021 (tokens); Shih,
        Sadigh and Ermon, "Training and Inference on Any-Order Autoregressive Models the Right
        Way", NeurIPS 2022 (given parts first).

    Example:
        >>> import torch, arcore
        >>> event = arcore.events.Binary((1, 4, 4))
        >>> model = arcore.create_model("any_order_transformer", event, width=8, patch=2)
        >>> x, left = torch.zeros(3, 1, 4, 4), torch.arange(4).expand(1, 4, 4) < 2
        >>> model.log_conditional(x, target=~left, given=left).shape  # nats
        torch.Size([3])
    """

    Config = AnyOrderTransformerConfig
    hyperparameters: AnyOrderTransformerConfig
    members: Tensor
    own: Tensor
    offsets: Tensor

    def __init__(self, event: Event, hyperparameters: AnyOrderTransformerConfig) -> None:
        super().__init__(event, hyperparameters)
        assert isinstance(event, Levels)
        p, levels = hyperparameters, event.num_levels
        self.places = p.patch**2
        self.values = _table(self.places * levels, p.width)
        self.shown = nn.ParameterList(_table(extent, p.width) for extent in self._grid())
        self.asked = nn.ParameterList(_table(extent, p.width) for extent in self._grid())
        self.start = _table(1, p.width)
        self.shift = condition_weight(p.num_classes or p.condition_size, p.width)
        self.blocks = nn.ModuleList(
            TransformerBlock(p.width, p.num_heads, p.dropout) for _ in range(p.num_layers)
        )
        self.norm = nn.LayerNorm(p.width)
        self.head = nn.Linear(p.width, levels**self.places)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.num_members = p.num_orderings
        self._rebuild()

    # -- patches and orderings

    def _grid(self) -> tuple[int, ...]:
        """Extents of the grid of patches."""
        extents, side = self.event.extents, self.hyperparameters.patch
        assert isinstance(self.event, Levels)
        if side == 1:
            return extents
        fits = len(extents) > 1 and not any(extent % side for extent in extents[-2:])
        fits = fits and self.event.num_levels ** (side**2) <= MOST_JOINT
        expected = f"1, or a divisor of an image's sides with at most {MOST_JOINT} joint values"
        require(fits, "patch", expected, f"{side} of {self.event}")
        return (*extents[:-2], *(extent // side for extent in extents[-2:]))

    def _members(self) -> Tensor:
        """Return the dimensions of each patch, (P, n), on the CPU."""
        side, (rows, columns) = self.hyperparameters.patch, (1, *self._grid())[-2:]
        dimensions = torch.arange(self.event.size, device=orderings.CPU)
        return dimensions.view(-1, rows, side, columns, side).transpose(2, 3).reshape(-1, side**2)

    def _named_ordering(self) -> Tensor:
        p = self.hyperparameters
        patches = orderings.make_ordering(p.ordering, self._grid(), p.ordering_seed)
        return self._members()[patches].flatten()

    def _random_ordering(self, seed: int) -> Tensor:
        members = self._members()
        return members[orderings.random_ordering(len(members), seed)].flatten()

    def _rebuild(self) -> None:
        super()._rebuild()
        assert isinstance(self.event, Levels)
        members = self._members()
        own = members.flatten().argsort()
        plan = plan_tokens(orderings.inverse(self._ordering)[None], members)
        # the token, and the place among patches' members, of each step
        self._tokens = plan.token.flatten()[own][self._ordering].tolist()
        self._steps = own[self._ordering].tolist()
        offsets = own % self.places * self.event.num_levels
        derived = {"members": members, "own": own, "offsets": offsets}
        for name, buffer in (derived | plan._asdict()).items():
            name = name if name in derived else f"plan_{name}"
            self.register_buffer(name, buffer.to(self.device), persistent=False)

    @property
    def plan(self) -> TokenPlan:
        """The tokens of the model's own ordering."""
        return TokenPlan(*(getattr(self, f"plan_{name}") for name in TokenPlan._fields))

    # -- the network

    def _embed(self, x: Tensor, plan: TokenPlan, tokens: slice, condition: Tensor | None) -> Tensor:
        """Make tokens (batch, tokens, width) of levels x (batch, D)."""
        none = x.new_full((len(x), 1), len(self.values))
        codes = torch.cat([x + self.offsets, none], 1)  # rows of `values`, the last one of zeros
        shown = plan.shown[:, tokens].expand(len(x), -1, -1)
        codes = codes.gather(1, shown.flatten(1)).view_as(shown)
        values = torch.cat([self.values, self.values.new_zeros(1, self.values.shape[1])])
        h = embedding(codes, values).sum(2)
        h = h + embedding(plan.source[:, tokens], torch.cat([_grid_of(self.shown), self.start]))
        h = h + embedding(plan.target[:, tokens], _grid_of(self.asked))
        if condition is None or self.shift is None:
            return h
        return h + embedded(self.shift, condition)[:, None]

    def _joint(
        self,
        x: Tensor,
        plan: TokenPlan,
        condition: Tensor | None,
        tokens: slice = slice(None),
        caches: list[KeyValueCache] | None = None,
    ) -> Tensor:
        """Return the logits of a patch's joint values at each token, (batch, tokens, k^n)."""
        h = self._embed(x, plan, tokens, condition)
        for index, block in enumerate(self.blocks):
            h = block(h, None if caches is None else caches[index])
        logits: Tensor = self.head(self.norm(h)).to(self.dtype)
        return logits

    def _level_logits(self, joint: Tensor, x: Tensor, known: Tensor) -> Tensor:
        """Return the logits of each place of patches given those of it that are known.

        Arguments:
            joint: (batch, P, n, k^n), of the token that is asked for the place.
            x: (batch, P, n) levels.
            known: (R, P, n, n), as of `TokenPlan`.
        """
        assert isinstance(self.event, Levels)
        count, levels = self.places, self.event.num_levels
        if count > 1:
            every = torch.arange(levels**count, device=x.device)
            powers = levels ** torch.arange(count - 1, -1, -1, device=x.device)
            differs = x[..., None] != every // powers[:, None] % levels
            never = (known.to(joint.dtype) @ differs.to(joint.dtype)) > 0
            joint = joint.masked_fill(never, -torch.inf)
            split = [(levels**i, levels, levels ** (count - 1 - i)) for i in range(count)]
            summed_over = [joint[:, :, i].unflatten(-1, split[i]) for i in range(count)]
            joint = torch.stack([part.logsumexp((-3, -1)) for part in summed_over], 2)
        return joint.diff(dim=-1) if isinstance(self.event, Binary) else joint

    def _given(self, x: Tensor, plan: TokenPlan, condition: Tensor | None) -> Distribution:
        """Return the conditionals of levels (batch, D), each given those before it in its order."""
        joint = self._joint(x, plan, condition)
        rows = torch.arange(len(x), device=x.device)[:, None, None] * joint.shape[1]
        joint = embedding(plan.token + rows, joint.flatten(0, 1))
        logits = self._level_logits(joint, x[:, self.members], plan.known).flatten(1, 2)
        never = level_features.impossible(self.event, logits.device)
        return level_features.distribution(logits[:, self.own], never)

    # -- training

    def _sample_training_noise(self, rows: int) -> Tensor:
        """Draw by what patches are sorted, (rows, P); nothing where their order is fixed."""
        orders, count = self.hyperparameters.training_orders, len(self.members)
        if orders == "fixed":
            return super()._sample_training_noise(rows)
        if orders == "any":
            return torch.rand(rows, count, dtype=torch.float64, device=self.device)
        given = draw_parts(rows, self._grid(), self.device)
        return self.position[self.members].amin(1) + self.event.size * ~given

    def forward(
        self, x: Tensor, condition: Tensor | None = None, scored: Tensor | None = None
    ) -> Tensor:
        """Return -ln p of each example under its drawn order, (batch,), in nats."""
        if self.hyperparameters.training_orders == "fixed":
            return super().forward(x, condition, scored)
        self._check_shapes(x, condition, scored)
        keys = self._training_noise(len(x))
        steps = keys.argsort(1).argsort(1)[..., None] * self.places
        steps = steps + torch.arange(self.places, device=steps.device)
        plan = plan_tokens(steps.flatten(1)[:, self.own], self.members, len(self.members))
        flat = x.flatten(1)
        return -summed(self._given(flat.long(), plan, condition).log_prob(self._as_value(flat)))

    # -- scoring

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        given = self._given(x.flatten(1).long(), self.plan, condition)
        return reshape(given, x.shape)

    def log_conditional(
        self, x: Tensor, target: Tensor, given: Tensor, condition: Tensor | None = None
    ) -> Tensor:
        """Return ln p(x_target | x_given, condition), (batch,), in nats, in one pass.

        What is given comes first, then the target, each in the model's own ordering.

        Arguments:
            x: (batch, *event.shape); values in neither part are ignored.
            target: bool, of x's shape or of the event's.
            given: bool, likewise; no dimension is in both.
        """
        asked, known = (
            self._check_observed(x, mask).to(self.device).flatten(1) for mask in (target, given)
        )
        require(not bool((asked & known).any()), "given", "no dimension of the target", "some")
        levels = torch.where((asked | known).view(x.shape), x.to(self.device), 0)
        self._check(levels, condition)
        return self._log_part(levels, asked, known, condition)

    def _log_part(
        self, x: Tensor, target: Tensor, given: Tensor, condition: Tensor | None
    ) -> Tensor:
        keys = self.position + self.event.size * (2 - 2 * given.long() - target.long())
        plan = plan_tokens(keys.argsort(1).argsort(1), self.members)
        flat = x.flatten(1)
        terms = self._given(flat.long(), plan, condition).log_prob(self._as_value(flat))
        return summed(torch.where(target, terms, 0))

    def _log_marginal(self, x: Tensor, observed: Tensor | None, condition: Tensor | None) -> Tensor:
        assert observed is not None
        return self._log_part(x, observed, torch.zeros_like(observed), condition)

    # -- generation

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return TokenDecoder(self, batch, condition)

    def _decoder_after(self, x: Tensor, known: Tensor, condition: Tensor | None) -> Decoder:
        decoder = self.decoder(len(x), condition)
        first = known.all(0).cpu()[self._ordering].long().cumprod(0).sum()
        if len(x) and (count := int(first)):
            assert isinstance(decoder, TokenDecoder)
            decoder.x.copy_(x)
            decoder.position = count
        return decoder

    def _complete(
        self, x: Tensor, known: Tensor, condition: Tensor | None, options: SamplingOptions
    ) -> Tensor:
        """Draw rows of the same mask together, what is known first."""
        if not bool(known.any()):
            return super()._complete(x, known, condition, options)
        masks, which = known.unique(dim=0, return_inverse=True)
        drawn, order = x.clone(), self._ordering
        for index, mask in enumerate(masks.cpu()):
            rows = (which == index).nonzero()[:, 0]
            ordered = self.under(torch.cat([order[mask[order]], order[~mask[order]]]))
            part = None if condition is None else condition[rows]
            completed = super(AnyOrderTransformer, ordered)._complete(
                x[rows], known[rows], part, options
            )
            drawn[rows] = completed.flatten(1)
        return drawn.view(len(x), *self.event.extents)


class TokenDecoder(Decoder):
    """Keeps the keys and values of tokens; the dimensions of a patch share one."""

    def __init__(self, model: AnyOrderTransformer, batch: int, condition: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        self.model, self.condition = model, condition
        self.x = model._blank(batch)
        self.plan = model.plan
        self.caches = [KeyValueCache(self.plan.target.shape[1]) for _ in model.blocks]
        self.token = -1

    def _next(self, block: Tensor) -> Distribution:
        model, token = self.model, self.model._tokens[self.position]
        if token != self.token:
            part = slice(self.token + 1, token + 1)
            joint = model._joint(self.x, self.plan, self.condition, part, self.caches)
            self.token, self.joint = token, joint[:, -1]
        patch, place = divmod(model._steps[self.position], model.places)
        joint = self.joint[:, None, None].expand(-1, -1, model.places, -1)
        values = self.x[:, model.members[patch]][:, None]
        logits = model._level_logits(joint, values, self.plan.known[:, patch, None])
        never = level_features.impossible(model.event, logits.device, block)
        return level_features.distribution(logits[:, :, place], never)

    def _push(self, block: Tensor, values: Tensor) -> None:
        self.x[:, block] = values.to(self.x.dtype)


def _table(rows: int, width: int) -> nn.Parameter:
    return nn.Parameter(INITIAL_STD * torch.randn(rows, width))


def _grid_of(tables: nn.ParameterList) -> Tensor:
    """Add up the rows of a table for each axis, (P, width)."""
    total = tables[0]
    for table in tables[1:]:
        total = (total[:, None] + table).flatten(0, 1)
    return total
