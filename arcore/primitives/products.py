"""Which products of matrices a processor is fast at, and those in float32 by oneDNN there."""

import functools
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import linear

_PROCESSORS = Path("/proc/cpuinfo")
_LEAST = 600_000  # of products; a call of oneDNN takes some 10 microseconds more


def multiply(a: Tensor, b: Tensor, out: Tensor, add: bool = False) -> None:
    """Write a b into `out`, or add it to what is there; nothing is recorded for gradients.

    For float32 torch takes MKL, which on AMD's processors leaves half of AVX-512 unused. oneDNN,
    which torch takes for bfloat16, is twice as fast there (`python benchmarks/products.py`).
    """
    if _goes_to_onednn(a):
        found = _onednn(a, b.t())
        out.add_(found) if add else out.copy_(found)
    elif add:
        out.addmm_(a, b)
    else:
        torch.mm(a, b, out=out)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a b as `multiply` computes it."""
    return _onednn(a, b.t()) if _goes_to_onednn(a) else torch.mm(a, b)


def scored_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x weight' + bias, as `multiply` computes it where no gradient is asked for."""
    recorded = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if recorded or x.numel() * len(weight) < _LEAST:
        return linear(x, weight, bias)
    if torch.is_autocast_enabled(x.device.type) or not _goes_to_onednn(x):
        return linear(x, weight, bias)
    return _onednn(x, weight, bias)


@functools.cache
def has_fast_onednn() -> bool:
    """Whether oneDNN is ahead of MKL here: on a processor of AMD's with AVX-512."""
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    if not both or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return hasattr(torch.ops.mkldnn, "_linear_pointwise") and "AuthenticAMD" in _described()


@functools.cache
def has_fast_bfloat16() -> bool:
    """Whether products in bfloat16 are faster than in float32 here, by Linux's description.

    By AVX-512 alone, AMD's processors take half of the time, Intel's without AMX 1.6 times as long.
    """
    found = _described()
    return bool(found & {"amx_bf16", "bf16"}) or found >= {"avx512_bf16", "AuthenticAMD"}


def _described() -> set[str]:
    """Vendor, flags and other words that Linux has for the processor; none elsewhere."""
    if not _PROCESSORS.is_file():
        return set()
    return set(_PROCESSORS.read_text(encoding="utf-8", errors="replace").split())


def _goes_to_onednn(x: Tensor) -> bool:
    fits = x.dtype == torch.float32 and x.device.type == "cpu" and x.shape[-1] > 0
    return fits and has_fast_onednn()


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not (weight.is_contiguous() or weight.t().is_contiguous()):
        weight = weight.contiguous()  # of other strides a product takes 500 times as long
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
