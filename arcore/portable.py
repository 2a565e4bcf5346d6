"""Arithmetic that comes out the same on every processor, in any number of threads.

A sum of floats depends on its order, which kernels choose by the width of a processor's registers;
exponentials come from libraries of several versions. Here the terms of each sum are multiples of a
power of two that float64 adds up without rounding, in whatever order, and transcendental functions
are made of additions, products and quotients of single numbers, which IEEE 754 defines to the bit.
"""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from arcore.model import AutoregressiveModel
from arcore.primitives.checks import require

FACTOR_BITS = 16  # fraction of the factors of a product
TERM_BITS = 32  # of the terms of a sum
LARGEST_SUM = 2.0 ** (53 - TERM_BITS)
LARGEST_EXPONENT = 700.0
LARGEST_ERROR = 5.0  # of whose function 1 differs by 1.5e-12

Model = TypeVar("Model", bound=AutoregressiveModel)


def portable_copy(model: Model) -> Model:
    """Return the model for `PortableArithmetic`: on the CPU, in float64, weights of 16 bits.

    Each weight is rounded to a multiple of 2^-16, so that models of equal weights in float32 and
    float64 have one copy.

    Example:
        >>> import arcore
        >>> model = arcore.create_model("made", arcore.events.Binary((4,)))
        >>> portable_copy(model).dtype
        torch.float64
    """
    twin = copy.deepcopy(model).to("cpu", torch.float64).eval()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.copy_(_on_grid(parameter, FACTOR_BITS))
    return twin


class PortableArithmetic(TorchDispatchMode):
    """Within it, torch's operations in float64 on a CPU have the same results to the bit.

    Factors of matrix products and convolutions are rounded to multiples of 2^-16, terms of other
    sums to multiples of 2^-32; sums of 2^21 or more, and operations that are not known to be
    portable, raise a ValueError.

    Example:
        >>> x = torch.randn(50, dtype=torch.float64)
        >>> with PortableArithmetic():
        ...     torch.equal(x.exp().sum(), x.flip(0).exp().sum())
        True
    """

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        name = func._schema.name.removeprefix("aten::")
        plain = name.removesuffix("_") if not name.startswith("_") else name
        replaced, reals = REPLACED.get(plain), _reals(args)
        if replaced is None or not reals:
            result = func(*args, **given)
            known = plain in PASSED or not _reals((result,))
            require(known, "model", "operations that are the same on every processor", plain)
            return result
        kinds = {real.dtype for real in reals}
        require(kinds == {torch.float64}, "model", f"{plain} of float64", kinds)
        out = given.pop("out", args[0] if plain != name else None)
        result = replaced(*args, **given)
        return result if out is None else out.copy_(result)


def _reals(values: tuple[Any, ...]) -> list[Tensor]:
    """Return the tensors of reals among values and lists of them."""
    listed = (value if isinstance(value, list | tuple) else [value] for value in values)
    flat = (part for parts in listed for part in parts)
    return [part for part in flat if isinstance(part, Tensor) and part.is_floating_point()]


def _on_grid(x: Tensor, bits: int) -> Tensor:
    return torch.round(x * 2.0**bits) * 2.0**-bits


# -- sums


def _exact(total: Tensor, magnitude: Tensor) -> Tensor:
    """Return a sum of terms on the grid, if the sum of their magnitudes is exact."""
    fits = magnitude.numel() == 0 or not float(magnitude.amax()) >= LARGEST_SUM
    require(fits, "model", f"sums of magnitudes below {LARGEST_SUM:,.0f}", "larger ones")
    return total


def _product(multiply: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make an exact product of factors on the grid of a product of two tensors."""

    def exact(a: Tensor, b: Tensor, *rest: Any) -> Tensor:
        a, b = _on_grid(a, FACTOR_BITS), _on_grid(b, FACTOR_BITS)
        # no term is above the largest of a times that of b
        most = a.abs().amax() * b.abs().amax() if a.numel() and b.numel() else a.new_zeros(())
        if float(most) * a.numel() >= LARGEST_SUM:
            _exact(a, multiply(a.abs(), b.abs(), *rest))
        return multiply(a, b, *rest)

    return exact


_mm, _bmm, _mv, _dot = (
    _product(multiply) for multiply in (torch.mm, torch.bmm, torch.mv, torch.dot)
)


def _addition(multiply: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def added(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
        require(beta == alpha == 1, "model", "sums without factors", (beta, alpha))
        return bias + multiply(a, b)

    return added


def _convolution(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    multiply = _product(lambda a, b: torch.ops.aten.convolution(a, b, None, *rest))
    total = multiply(x, weight)
    return total if bias is None else total + bias.view(-1, *[1] * (total.dim() - 2))


def _embedding_bag(
    table: Tensor, indices: Tensor, offsets: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    scaling, mode, sparse, scales, *last = rest
    require(mode == 0, "model", "bags that are summed", mode)

    def bags(sizes: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        factors = (
            one if one is None else sizes(_on_grid(one, FACTOR_BITS)) for one in (table, scales)
        )
        rows, by = factors
        return torch.ops.aten._embedding_bag_forward_only(
            rows, indices, offsets, scaling, mode, sparse, by, *last
        )

    found = bags(lambda factor: factor)
    _exact(found[0], bags(torch.abs)[0])
    return found


def _sum(x: Tensor, *rest: Any, **given: Any) -> Tensor:
    terms = _on_grid(x, TERM_BITS)
    return _exact(torch.sum(terms, *rest, **given), torch.sum(terms.abs(), *rest, **given))


def _cumsum(x: Tensor, dim: int) -> Tensor:
    terms = _on_grid(x, TERM_BITS)
    return _exact(terms.cumsum(dim), terms.abs().sum(dim))


def _scaled(combine: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Multiply by alpha first: a kernel may do both without rounding between them."""

    def combined(a: Tensor, b: Tensor | float, alpha: float = 1) -> Tensor:
        return combine(a, b if alpha == 1 else b * alpha)

    return combined


def _addcmul(a: Tensor, b: Tensor, c: Tensor, *, value: float = 1) -> Tensor:
    return a + b * c * value


# -- functions of single numbers

_LN2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)  # ln 2: 32 bits and the rest
_EXP = [1 / math.factorial(power) for power in range(13, -1, -1)]
_LOG = [2 / power for power in range(25, 0, -2)]
_ERF = [
    2 / math.sqrt(math.pi) * 2**n / math.prod(range(1, 2 * n + 2, 2)) for n in range(90, -1, -1)
]


def _polynomial(x: Tensor, coefficients: list[float]) -> Tensor:
    value = torch.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x
        value = value + coefficient
    return value


def _exp(x: Tensor) -> Tensor:
    """Return 2^n e^r for x = n ln 2 + r; nought below -700, infinity above 700."""
    bounded = x.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT)
    n = torch.round(bounded * (1 / math.log(2)))
    r = bounded - n * _LN2[0]
    r = r - n * _LN2[1]
    power = ((torch.nan_to_num(n).long() + 1023) << 52).view(torch.float64)
    value = _polynomial(r, _EXP) * power
    value = torch.where(x > LARGEST_EXPONENT, torch.inf, value)
    return torch.where(x < -LARGEST_EXPONENT, 0.0, value)


def _log(x: Tensor) -> Tensor:
    """Return e ln 2 + ln m for x = 2^e m, by the series of the area hyperbolic tangent."""
    m, e = torch.frexp(x)
    low = m < math.sqrt(0.5)
    m, e = torch.where(low, m * 2, m), torch.where(low, e - 1, e).to(x.dtype)
    f = (m - 1) / (m + 1)
    value = f * _polynomial(f * f, _LOG)
    value = value + e * _LN2[1]
    value = value + e * _LN2[0]
    value = torch.where(x > 0, value, torch.where(x == 0, -torch.inf, torch.nan))
    return torch.where(x == torch.inf, x, value)


def _sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + _exp(-x))


def _tanh(x: Tensor) -> Tensor:
    t = _exp(x.abs() * -2)
    return (1 - t) / (1 + t) * x.sign()


def _softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Tensor:
    scaled = x * beta
    return (scaled.clamp(min=0) + _log(1 + _exp(-scaled.abs()))) / beta


def _log_sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    return -_softplus(-x), x.new_empty(0)


def _binary_cross_entropy(x: Tensor, target: Tensor, *rest: Any) -> Tensor:
    require(rest in ((), (None, None, 0)), "model", "a cross-entropy of each bit", rest)
    return _softplus(x) - x * target


def _elu(x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Tensor:
    below = (_exp((x * input_scale).clamp(max=0)) - 1) * alpha
    return torch.where(x > 0, x, below) * scale


def _parts(x: Tensor, dim: int | list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return x less its largest, exponentials of that, and their sum."""
    largest = x.amax(dim, keepdim=True)
    below = x - torch.where(largest.isinf(), 0.0, largest)
    powers = _on_grid(_exp(below), TERM_BITS)
    return below, powers, _exact(powers.sum(dim, keepdim=True), powers.sum(dim))


def _softmax(x: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    _, powers, total = _parts(x, dim)
    return powers / total


def _log_softmax(x: Tensor, dim: int, half_to_float: bool = False) -> Tensor:
    below, _, total = _parts(x, dim)
    return below - _log(total)


def _logsumexp(x: Tensor, dim: list[int], keepdim: bool = False) -> Tensor:
    _, _, total = _parts(x, dim)
    largest = x.amax(dim, keepdim=True)
    value = _log(total) + torch.where(largest.isinf(), 0.0, largest)
    return value if keepdim else value.squeeze(tuple(dim))


def _layer_norm(
    x: Tensor, shape: list[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    dims, count = list(range(-len(shape), 0)), math.prod(shape)
    mean = _sum(x, dims, keepdim=True) / count
    apart = x - mean
    scale = 1 / torch.sqrt(_sum(apart * apart, dims, keepdim=True) / count + eps)
    value = apart * scale
    value = value if weight is None else value * weight
    return value if bias is None else value + bias, mean, scale


def _attention(
    query: Tensor, key: Tensor, value: Tensor, rate: float = 0.0, is_causal: bool = False,
    *, attn_mask: Tensor | None = None, scale: float | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    require(rate == 0, "model", "attention that drops nothing", rate)
    shape, factor = query.shape, query.shape[-1] ** -0.5 if scale is None else scale
    flat = [heads.reshape(-1, *heads.shape[-2:]) for heads in (query, key, value)]
    scores = _bmm(flat[0], flat[1].transpose(1, 2)).view(*shape[:-1], -1) * factor
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(later, -torch.inf)
    if attn_mask is not None:
        scores = scores + attn_mask
    weights = _softmax(scores, -1).view(-1, *scores.shape[-2:])
    return _bmm(weights, flat[2]).view(*shape[:-1], -1), scores.new_empty(0)


def _gelu(x: Tensor, approximate: str = "none") -> Tensor:
    require(approximate == "none", "model", "gelu itself", approximate)
    return x * (1 + _erf(x / math.sqrt(2))) / 2


def _erf(x: Tensor) -> Tensor:
    """Return 2 / sqrt(pi) e^(-x^2) sum_n 2^n x^(2n+1) / (2n+1)!!, whose terms have one sign."""
    bounded = x.clamp(-LARGEST_ERROR, LARGEST_ERROR)
    square = bounded * bounded
    return bounded * _polynomial(square, _ERF) * _exp(-square)


REPLACED: dict[str, Callable[..., Any]] = {
    "mm": _mm,
    "bmm": _bmm,
    "mv": _mv,
    "dot": _dot,
    "addmm": _addition(_mm),
    "addmv": _addition(_mv),
    "baddbmm": _addition(_bmm),
    "convolution": _convolution,
    "sum": _sum,
    "cumsum": _cumsum,
    "_embedding_bag_forward_only": _embedding_bag,
    "add": _scaled(torch.add),
    "addcmul": _addcmul,
    "sub": _scaled(torch.sub),
    "rsub": lambda a, b, alpha=1: _scaled(torch.sub)(b, a, alpha),
    "exp": _exp,
    "expm1": lambda x: _exp(x) - 1,
    "log": _log,
    "log1p": lambda x: _log(1 + x),
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "softplus": _softplus,
    "binary_cross_entropy_with_logits": _binary_cross_entropy,
    "log_sigmoid_forward": _log_sigmoid,
    "elu": _elu,
    "_softmax": _softmax,
    "_log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "native_layer_norm": _layer_norm,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "gelu": _gelu,
}
"""Operations of floats that are made of portable ones."""

PASSED = frozenset(
    "_to_copy _unsafe_view abs alias amax amin as_strided cat clamp clamp_max clamp_min clone "
    "constant_pad_nd copy detach div embedding empty empty_like empty_strided eq expand fill "
    "flip full full_like gather ge gt index index_copy index_put index_select is_pinned le "
    "lift_fresh lt masked_fill max maximum min minimum mul narrow ne neg new_empty "
    "new_empty_strided new_full new_ones new_zeros ones ones_like permute relu repeat reshape "
    "roll rot90 round scalar_tensor scatter select select_scatter set sign slice slice_scatter "
    "split split_with_sizes sqrt squeeze stack t transpose tril triu unbind unfold unsafe_split "
    "unsqueeze view where zero zeros zeros_like".split()
)
"""Operations that move numbers, or that IEEE 754 defines for each of them."""
