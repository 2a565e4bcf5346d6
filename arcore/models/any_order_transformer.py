"""A causal transformer over the dimensions of an event in any order, in one pass."""

import dataclasses

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import embedding

from arcore.decoding import Decoder
from arcore.distributions.drawing import SamplingOptions, reshape
from arcore.events import Binary, Event, Levels, Table, is_table
from arcore.families.any_order import AnyOrderModel
from arcore.hyperparameters import CheckedHyperparameters
from arcore.layers import level_features
from arcore.layers.attention import KeyValueCache, TransformerBlock
from arcore.layers.level_features import condition_weight, embedded
from arcore.primitives import orderings
from arcore.primitives.activation_checkpointing import run_block
from arcore.primitives.checks import require, require_scores
from arcore.primitives.masks import draw_parts
from arcore.primitives.precision import summed
from arcore.primitives.token_plans import TokenPlan, plan_tokens

MOST_JOINT = 4096  # joint values of a patch
INITIAL_STD = 0.3  # of embeddings
Caches = list[KeyValueCache] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnyOrderTransformerConfig(CheckedHyperparameters):
    """Hyperparameters of the any-order transformer.

    Arguments:
        width: numbers of a token.
        num_layers: blocks of attention and a network of 4 width hidden units.
        num_heads: heads of attention, a divisor of the width.
        patch: side of the patches of an image that are tokens, a divisor of both its sides; with at
            most 4,096 joint values (2 x 2 bits have 16). 1 is a token per dimension.
        dropout: probability of dropping a number that a layer adds, in training.
        training_orders: fixed (the ordering below alone), any (a random order of patches for each
            row) or given_first (a random part of each row in that ordering, then the rest in it).
        ordering: a name of `arcore.orderings.ORDERINGS`, of patches, under which the model scores
            and samples; `ordering_seed` serves `random` and the members.
        num_orderings: orderings whose mixture is scored where an evaluation asks for all.
        num_classes: number of classes of an optional condition, which shifts every token.
        condition_size: likewise, of a vector.
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
    patches, so that scores of cut ones are exact, but of a network that never saw any. A cell of a
    table is shown by its features times a matrix of its column; columns share W.

    `log_conditional` is ln p(x_A | x_B) for any A and B, with B first. `impute` draws what is
    missing given all that is observed. `forward` is -ln p under orders that are drawn.

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
    supports = (Levels, Table)
    hyperparameters: AnyOrderTransformerConfig
    members: Tensor
    own: Tensor

    def __init__(self, event: Event, hyperparameters: AnyOrderTransformerConfig) -> None:
        super().__init__(event, hyperparameters)
        p = hyperparameters
        self.places = p.patch**2
        if isinstance(event, Levels):
            rows, outputs = self.places * event.num_levels, event.num_levels**self.places
        else:
            rows = event.size * level_features.num_features(event, "one_hot")
            outputs = level_features.num_logits(event)
        self.values = _table(rows, p.width)
        self.source_axes, self.target_axes = (
            nn.ParameterList(_table(extent, p.width) for extent in self._grid()) for _ in range(2)
        )
        self.start = _table(1, p.width)
        self.shift = condition_weight(p.num_classes or p.condition_size, p.width)
        self.blocks = nn.ModuleList(
            TransformerBlock(p.width, p.num_heads, p.dropout) for _ in range(p.num_layers)
        )
        self.norm = nn.LayerNorm(p.width)
        self.head = nn.Linear(p.width, outputs)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.num_members = p.num_orderings
        self._rebuild()

    def _grid(self) -> tuple[int, ...]:
        """Extents of the grid of patches."""
        extents, side = self.event.extents, self.hyperparameters.patch
        fits = len(extents) > 1 and not any(extent % side for extent in extents[-2:])
        levels = self.event.num_levels if isinstance(self.event, Levels) else MOST_JOINT
        fits = fits and levels ** (side**2) <= MOST_JOINT
        expected = f"1, or a divisor of an image's sides with at most {MOST_JOINT} joint values"
        require(fits or side == 1, "patch", expected, f"{side} of {self.event}")
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
        members = self._members()
        own = members.flatten().argsort()
        plan = plan_tokens(orderings.inverse(self._ordering)[None], members)
        # the token, and the place among patches' members, of each step
        self._tokens = plan.token.flatten()[own][self._ordering].tolist()
        self._steps = own[self._ordering].tolist()
        for name, buffer in ({"members": members, "own": own} | plan._asdict()).items():
            self.register_buffer(name, buffer.to(self.device), persistent=False)

    @property
    def keeps_units(self) -> bool:
        """Whether the model's order cuts no patch."""
        return self.plan.target.shape[1] == len(self.members)

    @property
    def num_evaluations(self) -> int | None:
        """One per token."""
        return self.plan.target.shape[1] if self.places > 1 else None

    @property
    def plan(self) -> TokenPlan:
        """The tokens of the model's own ordering."""
        return TokenPlan(*(getattr(self, name) for name in TokenPlan._fields))

    def _joint(
        self, x: Tensor, plan: TokenPlan, condition: Tensor | None, caches: Caches = None,
        mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Return the logits of a patch's joint values at each token, (batch, tokens, k^n)."""
        h = self._values(x, plan.shown.expand(len(x), -1, -1))
        h = h + embedding(plan.source, torch.cat([_grid_of(self.source_axes), self.start]))
        h = h + embedding(plan.target, _grid_of(self.target_axes))
        if condition is not None and self.shift is not None:
            h = h + embedded(self.shift, condition)[:, None]
        for index, block in enumerate(self.blocks):
            h = run_block(block, h) if caches is None else block(h, caches[index], mask)
        logits: Tensor = self.head(self.norm(h)).to(self.dtype)
        return logits

    def _values(self, x: Tensor, shown: Tensor) -> Tensor:
        """Embed the values of dimensions (batch, tokens, n) of each row, and sum over n."""
        nothing = torch.zeros_like(self.start)
        if isinstance(self.event, Table):
            features = level_features.encode(x, self.event, "one_hot", self.dtype)
            weight = self.values.view(self.event.size, -1, self.values.shape[-1])
            cells = torch.einsum("ndf,dfw->ndw", features, weight)
            cells = torch.cat([cells, nothing.expand(len(x), 1, -1)], 1)
            return cells.gather(1, shown.expand(-1, -1, cells.shape[-1]))
        count = len(self.values)
        codes = x + self.own % self.places * (count // self.places)
        # rows of `values`, and one of zeros for what is not shown
        codes = torch.cat([codes, codes.new_full((len(x), 1), count)], 1)
        codes = codes.gather(1, shown.flatten(1)).view_as(shown)
        return embedding(codes, torch.cat([self.values, nothing])).sum(2)

    def _levels(self, joint: Tensor, x: Tensor, known: Tensor) -> Tensor:
        """Return the logits of each place of patches, given its known levels.

        Of joint logits (batch, P, n, k^n), levels (batch, P, n) and `TokenPlan.known`.
        """
        count, levels = self.places, len(self.values) // self.places
        if count > 1:
            every = torch.cartesian_prod(*[torch.arange(levels, device=x.device)] * count)
            differs = x[..., None] != every.t()
            never = (known.to(joint.dtype) @ differs.to(joint.dtype)) > 0
            joint = joint.masked_fill(never, -torch.inf)
            sizes = [(levels**place, levels, -1) for place in range(count)]
            parts = [joint[:, :, place].unflatten(-1, size) for place, size in enumerate(sizes)]
            joint = torch.stack([part.logsumexp((-3, -1)) for part in parts], 2)
        return joint.diff(dim=-1) if isinstance(self.event, Binary) else joint

    def _given(self, x: Tensor, plan: TokenPlan, condition: Tensor | None) -> Distribution:
        """Return the conditionals of levels (batch, D), each given those before it in its order."""
        x = x.to(self._drawn_dtype)
        with self._scoring_precision():
            joint = self._joint(x, plan, condition)
        rows = torch.arange(len(x), device=x.device)[:, None, None] * joint.shape[1]
        joint = embedding(plan.token + rows, joint.flatten(0, 1))
        logits = self._levels(joint, x[:, self.members], plan.known).flatten(1, 2)
        return level_features.conditionals(logits[:, self.own], self.event)

    def _terms(self, x: Tensor, plan: TokenPlan, condition: Tensor | None) -> Tensor:
        return self._given(x, plan, condition).log_prob(self._as_value(x))

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
        """Return -ln p of each example under its drawn order, (batch,), in nats.

        Of a table's row that is of its known cells; unknown ones are NaN.
        """
        if self.hyperparameters.training_orders == "fixed":
            return super().forward(x, condition, scored)
        self._check_shapes(x, condition, scored)
        flat, known = self._known_cells(x.flatten(1))
        keys = self._training_noise(len(x))
        if known is not None:  # unknown cells come last, and are not scored
            keys = keys + 2 * self.event.size * ~known
        steps = keys.argsort(1).argsort(1)[..., None] * self.places
        steps = steps + torch.arange(self.places, device=steps.device)
        plan = plan_tokens(steps.flatten(1)[:, self.own], self.members, len(self.members))
        terms = self._terms(flat, plan, condition)
        return -summed(terms if known is None else torch.where(known, terms, 0))

    def validation_loss(
        self, x: Tensor, condition: Tensor | None = None, scored: Tensor | None = None
    ) -> Tensor:
        """Return minus `log_prob`, of the known cells of a table, (batch,), in nats."""
        if is_table(self.event) and bool((unknown := x.isnan()).any()):
            return -self.log_marginal(x, ~unknown, condition)
        return super().validation_loss(x, condition, scored)

    def _conditionals(self, x: Tensor, condition: Tensor | None) -> Distribution:
        return reshape(self._given(x.flatten(1), self.plan, condition), x.shape)

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
            self._check_observed(x, mask, name).to(self.device).flatten(1)
            for name, mask in (("target", target), ("given", given))
        )
        require(not bool((asked & known).any()), "given", "no dimension of the target", "some")
        levels = torch.where((asked | known).view(x.shape), x.to(self.device), 0)
        self._check(levels, condition)
        keys = self.position + self.event.size * (2 - 2 * known.long() - asked.long())
        plan = plan_tokens(keys.argsort(1).argsort(1), self.members)
        scores = summed(torch.where(asked, self._terms(levels.flatten(1), plan, condition), 0))
        require_scores(not bool(scores.isnan().any()))
        return scores

    def log_marginal(self, x: Tensor, observed: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return ln p(x_observed | condition), (batch,), in nats, as `AnyOrderModel` does."""
        observed = self._check_observed(x, observed)
        return self.log_conditional(x, observed, torch.zeros_like(observed), condition)

    def _caches(self) -> list[KeyValueCache]:
        return [KeyValueCache(self.plan.target.shape[1]) for _ in self.blocks]

    def _ask(
        self, x: Tensor, first: int, end: int, condition: Tensor | None, caches: list[KeyValueCache]
    ) -> Tensor:
        """Take in the patches that are not cached yet, then one query for each of those asked."""
        tokens = torch.arange(caches[0].length, end, device=self.device)
        shown, plan, every = tokens.clamp(max=first), self.plan, torch.arange(end).to(tokens)
        part = plan._replace(
            shown=plan.shown[:, shown], source=plan.source[:, shown], target=plan.target[:, tokens]
        )
        own = tokens[:, None] == every
        mask = own | (tokens[:, None] > every) & (every < first)
        joint = self._joint(x, part, condition, caches, mask)
        for cache in caches:
            cache.length = first
        return joint[:, first - end :]

    def _answer(self, told: Tensor, x: Tensor, first: int, end: int, place: int) -> Tensor:
        target = self.plan.target[0, first:end]
        joint = told[:, :, None].expand(-1, -1, self.places, -1)
        logits = self._levels(joint, x[:, self.members[target]], self.plan.known[:, target])
        which = self.own[self.order.view(-1, self.places)[first:end, place]] % self.places
        return logits[:, torch.arange(end - first, device=which.device), which]

    def _decoder(self, batch: int, condition: Tensor | None) -> Decoder:
        return TokenDecoder(self, batch, condition)

    def _decoder_after(self, x: Tensor, known: Tensor, condition: Tensor | None) -> Decoder:
        decoder = self.decoder(len(x), condition)
        first = known.all(0).cpu()[self._ordering].long().cumprod(0).sum()
        if len(x) and (count := int(first)):  # one pass takes them in
            decoder.position = count
            decoder.x.copy_(x)  # type: ignore[attr-defined]
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
            rest = x[rows], known[rows], None if condition is None else condition[rows], options
            drawn[rows] = super(AnyOrderTransformer, ordered)._complete(*rest).flatten(1)
        return drawn.view(len(x), *self.event.extents)


class TokenDecoder(Decoder):
    """Keeps the keys and values of tokens; the dimensions of a patch share one."""

    def __init__(self, model: AnyOrderTransformer, batch: int, condition: Tensor | None) -> None:
        super().__init__(model.schedule, batch)
        self.model, self.condition = model, condition
        self.x = model._blank(batch)
        self.plan = model.plan
        self.caches = model._caches()
        self.token = -1

    def _next(self, block: Tensor) -> Distribution:
        model, token = self.model, self.model._tokens[self.position]
        if token != self.token:
            part = self.plan.part(self.token + 1, token + 1)
            joint = model._joint(self.x, part, self.condition, self.caches)
            self.token, self.joint = token, joint[:, -1]
        patch, place = divmod(model._steps[self.position], model.places)
        joint = self.joint[:, None, None].expand(-1, -1, model.places, -1)
        values = self.x[:, model.members[patch]][:, None]
        logits = model._levels(joint, values, self.plan.known[:, patch, None])
        return level_features.conditionals(logits[:, :, place], model.event, block)

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
