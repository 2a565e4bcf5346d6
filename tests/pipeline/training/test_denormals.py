"""Denormal floats are zero while a training runs, and only then."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pipeline.experiments.schema import ClusterConfig
from pipeline.search import trial_run
from pipeline.training import worker
from pipeline.training.denormals import flushed_denormals, flushes


def test_only_within_the_block_whatever_ends_it() -> None:
    assert not flushes()
    with flushed_denormals():
        assert flushes()
        with flushed_denormals():
            assert flushes()
        assert flushes(), "the outer block goes on"
    assert not flushes()
    with pytest.raises(ValueError, match="ended"), flushed_denormals():
        raise ValueError("ended")
    assert not flushes()


def test_a_training_runs_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Watched:
        def __init__(self, job: object, session: object) -> None:
            seen.append(flushes())

        def run(self) -> None:
            seen.append(flushes())

    monkeypatch.setattr(worker, "Worker", Watched)
    worker.run_job(None, None)  # type: ignore[arg-type]
    assert seen == [True, True] and not flushes()


def test_a_trial_runs_so(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def make(*_: object) -> None:
        seen.append(flushes())
        raise InterruptedError

    monkeypatch.setattr(worker, "Worker", make)
    setting = SimpleNamespace(resources=ClusterConfig())
    with pytest.raises(InterruptedError):
        trial_run._train(None, setting, 0)  # type: ignore[arg-type]
    assert seen == [True] and not flushes()
