"""Mu-law companding: sound amplitudes to levels and back."""

import math

import torch
from torch import Tensor

from arcore.primitives.checks import require, require_int


def mu_law_encode(amplitudes: Tensor, num_levels: int = 256) -> Tensor:
    """Quantise amplitudes in [-1, 1] to k levels, finely near zero.

    With mu = k - 1 and f(a) = sign(a) ln(1 + mu |a|) / ln(1 + mu), the level is
    floor((f(a) + 1) / 2 mu + 1/2): silence is level k / 2, amplitudes beyond 1 are clipped.

    Reference:
        van den Oord et al., "WaveNet: A Generative Model for Raw Audio", 2016, section 2.2; ITU-T
        G.711 for the companding.

    Arguments:
        amplitudes: floating-point, of any shape.
        num_levels: k >= 2.

    Returns:
        int64 levels in [0, k) of the same shape.
    """
    require_int(num_levels, "num_levels", 2)
    require(amplitudes.is_floating_point(), "amplitudes", "floating point", amplitudes.dtype)
    finite = bool(torch.isfinite(amplitudes).all())
    require(finite, "amplitudes", "finite values", "NaN or infinity")
    mu = num_levels - 1
    a = amplitudes.double().clamp(-1, 1)
    companded = a.sign() * torch.log1p(mu * a.abs()) / math.log1p(mu)
    return torch.floor((companded + 1) / 2 * mu + 0.5).long()


def mu_law_decode(levels: Tensor, num_levels: int = 256) -> Tensor:
    """Return the amplitudes in [-1, 1] that levels stand for, float32.

    The inverse of `mu_law_encode` at the levels themselves: with y = 2 v / mu - 1, the amplitude is
    sign(y) ((1 + mu)^|y| - 1) / mu.
    """
    require_int(num_levels, "num_levels", 2)
    fits = not levels.is_floating_point()
    require(fits, "levels", "integers", levels.dtype)
    levels = levels.long()
    fits = bool(((levels >= 0) & (levels < num_levels)).all())
    require(fits, "levels", f"0 to {num_levels - 1}", "others")
    mu = num_levels - 1
    y = levels.double() * (2 / mu) - 1
    return (y.sign() * torch.expm1(y.abs() * math.log1p(mu)) / mu).float()
