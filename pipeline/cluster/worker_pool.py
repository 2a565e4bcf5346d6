"""Work spread over Ray's workers, piece by piece; what a lost worker had is done by another."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from pipeline.cluster import connection
from pipeline.core.errors import UserError, one_line
from pipeline.experiments.schema import ClusterConfig

log = logging.getLogger(__name__)
START_SECONDS = 300.0  # for which a pool waits for a worker while it has none


class Work(Protocol):
    """What a worker does: made from plain data, and, once it is there, given piece after piece."""

    def prepare(self, threads: int) -> None:
        """Read what all pieces need, in the worker's process, with this number of threads."""

    def do(self, piece: Any) -> Any:
        """Do a piece of the work; the same piece gives the same result in any worker."""


class WorkerPool:
    """As many workers as a cluster's configuration says; see `pool`.

    Arguments:
        config: workers, what each of them holds, and how many may be lost.
        kind: of work.
        arguments: of which each worker makes it.
        name: of the work, for what is said of it.
    """

    def __init__(
        self, config: ClusterConfig, kind: type[Work], arguments: Sequence[object], name: str
    ) -> None:
        import ray

        connection.require_resources(config)
        self._threads = connection.cpus_per_worker(config)
        self._kind = ray.remote(kind).options(
            num_cpus=self._threads,
            num_gpus=1 if config.use_gpu else 0,
            scheduling_strategy="SPREAD",
            max_restarts=0,
        )
        self._arguments = [ray.put(argument) for argument in arguments]
        self._name, self._max_failures, self._failures = name, config.max_failures, 0
        # What is under way: its worker, and the number of its piece, None for one that prepares.
        self._running: dict[Any, tuple[Any, int | None]] = {}
        self._idle: list[Any] = []
        for _ in range(connection.num_workers(config)):
            self._start()
        while not self._idle:
            self._wait()

    def map(self, pieces: Sequence[object]) -> list[Any]:
        """Do all pieces, each in whichever worker is free; return their results in order.

        A piece whose worker is lost is done by another, and a new worker takes the lost one's place
        as soon as it fits the cluster.

        Raises:
            UserError: for what a worker raises, and for more lost workers than
                `cluster.max_failures`, or none at hand for too long.
        """
        waiting, results = deque(range(len(pieces))), dict[int, Any]()
        while len(results) < len(pieces):
            while waiting and self._idle:
                worker, number = self._idle.pop(), waiting.popleft()
                self._running[worker.do.remote(pieces[number])] = worker, number
            ended, result, is_done = self._wait()
            if ended is not None and is_done:
                results[ended] = result
            elif ended is not None:
                waiting.appendleft(ended)
        return [results[number] for number in range(len(pieces))]

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        import ray

        for worker in [*self._idle, *(worker for worker, _ in self._running.values())]:
            ray.kill(worker)
        self._idle, self._running = [], {}

    def _start(self) -> None:
        worker = self._kind.remote(*self._arguments)
        self._running[worker.prepare.remote(self._threads)] = worker, None

    def _wait(self) -> tuple[int | None, Any, bool]:
        """Wait until something under way ends: its piece's number, result, whether it is done."""
        import ray
        from ray.exceptions import ObjectLostError, RayActorError, RayError, RayTaskError

        at_work = any(number is not None for _, number in self._running.values())
        try:
            # A worker that does not fit may wait without end; the others go on.
            timeout = None if at_work else START_SECONDS
            while not (done := ray.wait(list(self._running), timeout=timeout)[0]):
                if not connection.autoscales():
                    raise UserError(
                        f"{self._name}: expected a worker within {START_SECONDS:g} s, got none"
                    )
                log.warning("%s: waits for the cluster to grow", self._name)
            worker, number = self._running.pop(done[0])
            result = ray.get(done[0])
        except (RayActorError, ObjectLostError) as error:  # or its host, with what it had done
            self._failures += 1
            if self._failures > self._max_failures:
                raise UserError(
                    f"{self._name}: lost {self._failures} workers, more than cluster.max_failures "
                    f"({self._max_failures}): {one_line(error)}"
                ) from error
            log.warning("%s: a worker was lost; another does its part", self._name)
            self._start()
            return number, None, False
        except RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise UserError(str(error.cause)) from None
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise UserError(f"{self._name}: a worker failed: {reason}") from error
        except RayError as error:
            raise UserError(f"{self._name}: the cluster was lost: {one_line(error)}") from error
        self._idle.append(worker)
        return number, result, True


@contextmanager
def pool(
    config: ClusterConfig, kind: type[Work], arguments: Sequence[object], name: str
) -> Iterator[WorkerPool]:
    """Start workers on the cluster of RAY_ADDRESS, or on this machine; they end with the block.

    Arguments:
        config: `num_workers` workers of `cpus_per_worker` CPUs (or a GPU) each, of which
            `max_failures` may be lost.
        kind: a class at the top of a module, which every host can import.
        arguments: plain data; each worker makes its `kind` of it.
        name: of the work.

    Raises:
        UserError: if the cluster cannot be reached, or is too small.
    """
    with connection.connected():
        workers = WorkerPool(config, kind, arguments, name)
        try:
            yield workers
        finally:
            workers.close()
