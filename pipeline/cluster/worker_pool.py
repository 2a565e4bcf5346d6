"""Work spread over Ray's workers, piece by piece; Ray gives a lost worker's piece to another."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.cluster import connection
from pipeline.core.errors import UserError, one_line
from pipeline.experiments.schema import ClusterConfig

Map = Callable[[Sequence[object]], list[Any]]
_PREPARED: dict[object, Any] = {}  # in a worker's process, by the work's first argument in Ray


def _do(kind: type[Any], arguments: Sequence[Any], threads: int, piece: object) -> object:
    """Do a piece in this process, which prepares for its first one."""
    if arguments[0] not in _PREPARED:
        import ray

        work = kind(*ray.get(list(arguments)))
        work.prepare(threads)
        _PREPARED.clear()
        _PREPARED[arguments[0]] = work
    return _PREPARED[arguments[0]].do(piece)


@contextmanager
def pool(
    cluster: ClusterConfig, kind: type[Any], arguments: Sequence[object], name: str
) -> Iterator[Map]:
    """Connect to the cluster of RAY_ADDRESS, or to this machine; yield a `map` over pieces.

    `map` does all pieces, `num_workers` at a time, and returns their results in order.

    Arguments:
        cluster: `num_workers` workers of `cpus_per_worker` CPUs (or a GPU) each; a piece may lose
            `max_failures` of them.
        kind: a class at the top of a module, which every host can import, with `prepare(threads)`,
            called once, and `do(piece)`, which gives the same result in any process.
        arguments: plain data, of which each worker's process makes its `kind`.
        name: of the work, for errors.
    """
    with connection.connected():
        import ray

        connection.require_resources(cluster)
        threads, at_once = connection.cpus_per_worker(cluster), connection.num_workers(cluster)
        task = ray.remote(max_calls=0)(_do).options(
            name=kind.__name__,
            num_cpus=threads,
            num_gpus=1 if cluster.use_gpu else 0,
            scheduling_strategy="SPREAD",
            max_retries=cluster.max_failures,
        )
        shared = [ray.put(argument) for argument in arguments]

        def run(pieces: Sequence[object]) -> list[Any]:
            waiting, running, results = deque(enumerate(pieces)), dict[Any, int](), dict[int, Any]()
            while waiting or running:
                while waiting and len(running) < at_once:
                    number, piece = waiting.popleft()
                    running[task.remote(kind, shared, threads, piece)] = number
                done = ray.wait(list(running))[0][0]
                results[running.pop(done)] = _result(done, name)
            return [results[number] for number in range(len(pieces))]

        yield run


def _result(done: Any, name: str) -> Any:
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(done)
    except RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from None
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise UserError(f"{name}: a worker failed: {reason}") from error
    except RayError as error:
        raise UserError(
            f"{name}: lost more workers than cluster.max_failures, or the cluster: "
            f"{one_line(error)}"
        ) from error
