"""Work spread over workers: results in order, lost workers replaced, one line for what fails."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.cluster import worker_pool
from pipeline.cluster.worker_pool import WorkerPool
from pipeline.core.errors import UserError
from pipeline.experiments.schema import ClusterConfig

pytestmark = [pytest.mark.own_process, pytest.mark.timeout(180)]
TWO = ClusterConfig(num_workers=2, cpus_per_worker=1, max_failures=1)
ONE = ClusterConfig(num_workers=1, cpus_per_worker=1)


class Squares:
    """Squares numbers; dies at a number as often as there are files for it, or raises."""

    def __init__(self, folder: str) -> None:
        self._folder, self._threads = Path(folder), 0

    def prepare(self, threads: int) -> None:
        self._threads = threads

    def do(self, piece: int) -> tuple[int, int, int]:
        for path in sorted(self._folder.glob(f"dies-at-{piece}-*")):
            path.unlink()
            os._exit(1)
        if piece == -1:
            raise UserError("piece: expected >= 0, got -1")
        if piece == -2:
            raise ZeroDivisionError("of two lines\nthe second")
        time.sleep(0.05)
        return piece * piece, self._threads, os.getpid()


def test_results_come_in_order_whatever_happens_to_a_worker(
    own_ray: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    workers = WorkerPool(TWO, Squares, [str(tmp_path)], "squaring")
    done = workers.map(range(20))
    assert [square for square, _, _ in done] == [n * n for n in range(20)]
    assert {threads for _, threads, _ in done} == {1}
    assert len({worker for _, _, worker in done}) == 2
    assert workers.map([]) == []

    (tmp_path / "dies-at-3-0").touch()
    assert [square for square, _, _ in workers.map([5, 4, 3, 2])] == [25, 16, 9, 4]
    assert "squaring: a worker was lost; another does its part" in caplog.messages
    assert not list(tmp_path.iterdir())

    (tmp_path / "dies-at-3-0").touch()
    with pytest.raises(UserError, match=r"squaring: lost 2 workers, more than .*\(1\): ") as error:
        workers.map(range(8))
    assert "\n" not in str(error.value)
    workers.close()


@pytest.mark.parametrize(
    ("piece", "line"),
    [
        (-1, "piece: expected >= 0, got -1"),
        (-2, "squaring: a worker failed: the second"),
    ],
)
def test_what_a_worker_raises_is_one_line(own_ray: None, piece: int, line: str) -> None:
    workers = WorkerPool(ONE, Squares, ["."], "squaring")
    with contextlib.closing(workers), pytest.raises(UserError) as error:
        workers.map([1, piece, 2])
    assert str(error.value) == line


def test_a_cluster_that_is_too_small_is_refused(own_ray: None) -> None:
    with pytest.raises(UserError, match="cluster: expected 4000 CPUs for 4000 workers"):
        WorkerPool(ClusterConfig(num_workers=4000, cpus_per_worker=1), Squares, ["."], "squaring")


def test_a_pool_waits_for_a_cluster_that_grows(
    own_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class WaitedTwiceError(Exception):
        pass

    said: list[str] = []

    def warn(line: str, *given: object) -> None:
        said.append(line % given)
        if len(said) == 2:
            raise WaitedTwiceError

    monkeypatch.setenv("ARCORE_AUTOSCALING", "1")
    monkeypatch.setattr(worker_pool, "START_SECONDS", 0.2)
    monkeypatch.setattr(worker_pool.log, "warning", warn)
    with pytest.raises(WaitedTwiceError):
        WorkerPool(ClusterConfig(num_workers=1, cpus_per_worker=4000), Squares, ["."], "squaring")
    assert said == ["squaring: waits for the cluster to grow"] * 2
    monkeypatch.delenv("ARCORE_AUTOSCALING")
    monkeypatch.setattr(worker_pool.connection, "require_resources", lambda config: None)
    with pytest.raises(UserError, match=r"squaring: expected a worker within 0\.2 s, got none"):
        WorkerPool(ClusterConfig(num_workers=1, cpus_per_worker=4000), Squares, ["."], "squaring")


def test_what_was_lost_with_a_host_is_done_by_another(
    own_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large result lies where its worker ran, until it is fetched."""
    import ray  # once the cluster of the tests has its token
    from ray.exceptions import ObjectLostError

    workers, get, lost = WorkerPool(TWO, Squares, [str(tmp_path)], "squaring"), ray.get, []

    def fetched(reference: Any, **options: Any) -> Any:
        if len(lost) < 1:
            lost.append(reference)
            raise ObjectLostError(reference.hex(), b"", "")
        return get(reference, **options)

    with contextlib.closing(workers):
        workers.map([1])  # so that all are ready
        monkeypatch.setattr(ray, "get", fetched)
        assert [square for square, _, _ in workers.map(range(6))] == [n * n for n in range(6)]
    assert len(lost) == 1
