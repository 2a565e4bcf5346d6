"""Where bfloat16 is, and what `auto` makes of it."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
import torch

from pipeline.training import step_precision
from pipeline.training.collectives import Workers

CPU = torch.device("cpu")


@pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() != "x86_64", reason="reads Linux's flags"
)
def test_has_bfloat16_as_the_kernel_says() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    assert step_precision.has_bfloat16(CPU) == bool({"avx512_bf16", "amx_bf16"} & set(flags))


def test_hardware_that_torch_does_not_ask_has_none() -> None:
    assert not step_precision.has_bfloat16(torch.device("meta"))


@pytest.mark.parametrize("others", [0.0, 1.0])
def test_one_worker_without_decides_for_all(monkeypatch, others: float) -> None:
    class Two(Workers):
        def minimum(self, values: torch.Tensor) -> list[float]:
            return [min(float(value), others) for value in values]

    monkeypatch.setattr(step_precision, "has_bfloat16", lambda device: True)
    assert step_precision.of_steps("auto", Two(0, 2, CPU)) == ("bfloat16" if others else "float32")


@pytest.mark.parametrize("asked", ["float32", "bfloat16", "float64"])
def test_what_is_asked_for_by_name_is_not_changed(asked: str) -> None:
    assert step_precision.of_steps(asked, Workers(0, 1, CPU)) == asked
