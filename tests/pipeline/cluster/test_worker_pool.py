"""Work spread over workers: results in order, lost workers replaced, one line for what fails."""

import os
import time
from pathlib import Path

import pytest

from pipeline.cluster.worker_pool import pool
from pipeline.core.errors import UserError
from pipeline.experiments.schema import ClusterConfig

pytestmark = [pytest.mark.own_process, pytest.mark.timeout(180)]
TWO = ClusterConfig(num_workers=2, cpus_per_worker=1, max_failures=1)


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


def test_results_come_in_order_whatever_happens_to_a_worker(own_ray: None, tmp_path: Path) -> None:
    with pool(TWO, Squares, [str(tmp_path)], "squaring") as squares:
        done = squares(range(20))
        assert [square for square, _, _ in done] == [n * n for n in range(20)]
        assert {threads for _, threads, _ in done} == {1}
        assert len({worker for _, _, worker in done}) == 2
        assert squares([]) == []

        (tmp_path / "dies-at-3-0").touch()
        assert [square for square, _, _ in squares([5, 4, 3, 2])] == [25, 16, 9, 4]
        assert not list(tmp_path.iterdir())

        for piece, line in (
            (-1, "piece: expected >= 0, got -1"),
            (-2, "squaring: a worker failed: the second"),
        ):
            with pytest.raises(UserError, match=f"^{line}$"):
                squares([1, piece, 2])

        for number in range(2):
            (tmp_path / f"dies-at-3-{number}").touch()
        with pytest.raises(UserError, match="^squaring: lost more workers than .*: ") as error:
            squares(range(8))
        assert "\n" not in str(error.value)


def test_a_cluster_that_is_too_small_is_refused(own_ray: None) -> None:
    large = ClusterConfig(num_workers=4000, cpus_per_worker=1)
    with pytest.raises(UserError, match="cluster: expected nodes that hold 4000 workers of 1 CPUs"):
        with pool(large, Squares, ["."], "squaring"):
            raise AssertionError("started")
