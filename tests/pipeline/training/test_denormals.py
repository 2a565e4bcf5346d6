"""Denormal floats are zero while a training runs, in every thread, and only then."""

import os
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from arcore.process_tuning import flushed_denormals, tune_process
from pipeline.experiments.schema import ClusterConfig
from pipeline.search import trial_run
from pipeline.training import worker

THREADS = 4


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(1)


def share_flushed() -> float:
    """The share of a large tensor whose halves are zero; each thread computes its part."""
    smallest = torch.full((1 << 20,), torch.finfo(torch.float32).tiny)
    flushed = float(((smallest / 2) == 0).double().mean())
    assert len(os.listdir("/proc/self/task")) >= THREADS
    return flushed


def test_in_every_thread_within_the_block_and_in_none_after_it() -> None:
    assert share_flushed() == 0, "whose threads are there before the block"
    with flushed_denormals():
        assert share_flushed() == 1
        with flushed_denormals():
            assert share_flushed() == 1
        assert share_flushed() == 1, "the outer block goes on"
    assert share_flushed() == 0
    with pytest.raises(ValueError, match="ended"), flushed_denormals():
        assert share_flushed() == 1
        raise ValueError("ended")
    assert share_flushed() == 0
    with flushed_denormals():  # whose end undoes the call
        torch.set_flush_denormal(False)
        tune_process(flush_denormals=False)
        assert share_flushed() == 0
        tune_process()
        assert share_flushed() == 1


def test_trainings_and_trials_run_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def make(*_: object) -> None:
        seen.append(share_flushed())
        raise InterruptedError

    monkeypatch.setattr(worker, "Worker", make)
    setting = SimpleNamespace(resources=ClusterConfig())
    with pytest.raises(InterruptedError):
        worker.run_job(None, SimpleNamespace(world=2))  # type: ignore[arg-type]
    with pytest.raises(InterruptedError):
        trial_run._train(None, setting, 0)  # type: ignore[arg-type]
    assert seen == [1, 1] and share_flushed() == 0
