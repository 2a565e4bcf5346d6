"""Ray: an embedded one on this machine, or the cluster of RAY_ADDRESS."""

import logging
import math
import os
import re
import resource
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

import psutil

from pipeline.core.errors import UserError, one_line
from pipeline.core.private_files import keep_token_private
from pipeline.experiments.schema import ClusterConfig

log = logging.getLogger(__name__)

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_COLOR_PREFIX": "0",  # no colour codes, also in a pipe
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # in a job, which sets some of the same variables
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}
EMBEDDED = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # nobody drains its node
    # An epoch waits until the one before it is collected, which shows where epochs are short.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_worker_niceness": "0",
    # It would start a worker for each CPU, in another environment than a training's workers have.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_AUTH_MODE": "token",
    # Ray replaces 127.0.0.1 by the machine's outer address where it supports clusters.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
STORE_SHARE, LIBRARIES_BYTES = 0.3, 5 << 30  # of memory, which Ray's store maps, and the rest
LONGEST_PARENT = 24  # characters of the folder that holds an embedded Ray's
SAME_SIGNAL_SECONDS = 3.0
ANSWER_SECONDS = 10.0
HTTP2_SETTINGS = b"\0\0\0\4\0\0\0\0\0"  # an empty frame: length, type, flags, stream
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HTTP2_SETTINGS
STARTS = 3  # On a busy machine parts of Ray start later than its fixed 20 s allow, and it gives up.


@contextmanager
def connected(variables: Mapping[str, str] | None = None) -> Iterator[None]:
    """Connect to RAY_ADDRESS, or start an embedded Ray that ends with the block.

    Nothing leaves the machine: usage statistics are off, and an embedded Ray opens no dashboard
    and listens on loopback. Its files are in a folder of mode 0700, removed at the end.
    """
    address = os.environ.get("RAY_ADDRESS")
    for name, value in (QUIET if address else QUIET | EMBEDDED).items():
        os.environ.setdefault(name, value)
    if address:
        _require_answer(address)
    else:
        _require_address_space()
        keep_token_private(os.environ)
    import ray

    where: dict[str, object] = {"address": address}
    if variables:
        where["runtime_env"] = {"env_vars": dict(variables)}
    folder = None if address else _private_folder()
    if not address:
        where |= {
            "address": "local",
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": f"{folder}/r",  # which Ray opens to all
        }
    try:
        _start(address, where)
        yield
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _require_address_space() -> None:
    """Check `ulimit -v`, at which Ray's processes abort: they map its store and their libraries."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    least = int(STORE_SHARE * psutil.virtual_memory().total) + LIBRARIES_BYTES
    if resource.RLIM_INFINITY != limit < least:
        wanted = f"no limit, or at least {least >> 10} (KiB) with Ray on this machine"
        raise UserError(f"ulimit -v: expected {wanted}, got {limit >> 10}")


def _private_folder() -> str:
    """Make a folder for an embedded Ray's sockets, logs and pickles, which nobody else may enter.

    The path of a socket has at most 107 characters; Ray's names take up to 70.
    """
    parent = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    short = len(parent) <= LONGEST_PARENT
    return tempfile.mkdtemp(prefix="ray-", dir=parent if short else "/tmp")  # noqa: S108


def _start(address: str | None, where: Mapping[str, object]) -> None:
    import ray

    for attempts_left in reversed(range(1 if address else STARTS)):
        try:
            ray.init(logging_level=logging.WARNING, **where)
            break
        except Exception as error:  # Ray raises many kinds, among them Exception itself
            ray.shutdown()
            if not attempts_left:
                what = f"RAY_ADDRESS={address}: cannot connect" if address else "Ray did not start"
                raise UserError(f"{what}: {one_line(error)}") from error


def _require_answer(address: str, seconds: float = ANSWER_SECONDS) -> None:
    """Check that what listens at a host and port speaks HTTP/2, as gRPC and so Ray does.

    Ray itself waits many minutes for one that does not answer, or not so.
    """
    found = re.fullmatch(r"(?:ray://)?(\[[^\]]+\]|[^:/\[\]]+):(\d+)", address)
    if found is None:  # "auto" and "local", or what Ray refuses at once
        return
    host, port = found[1].strip("[]"), int(found[2])
    try:
        with socket.create_connection((host, port), timeout=seconds) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return  # it says nothing in plain text
            connection.sendall(HTTP2_HELLO)
            answer = connection.recv(len(HTTP2_SETTINGS), socket.MSG_WAITALL)
        if answer[3:5] != HTTP2_SETTINGS[3:5]:
            raise OSError(f"{answer!r}, which no Ray says")
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"RAY_ADDRESS={address}: cannot connect: expected an answer within {seconds:g} s, "
            f"got {reason}"
        ) from None


@contextmanager
def on_signal(action: Callable[[], None], *numbers: signal.Signals) -> Iterator[None]:
    """Do something at the first of some signals inside the block; a later one ends the process.

    One that comes within seconds is the same one, sent to a process and to its group.
    """
    numbers = numbers or (signal.SIGTERM,)
    before = {number: signal.getsignal(number) for number in numbers}
    since: float | None = None

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal since
        if since is None:
            since = time.monotonic()
            log.warning("%s: saving a checkpoint and leaving", signal.Signals(number).name)
            # Not in the handler itself: it interrupts a call of Ray's and would make another in it.
            threading.Thread(target=action, daemon=True).start()
        elif time.monotonic() - since > SAME_SIGNAL_SECONDS:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def num_workers(cluster: ClusterConfig) -> int:
    """Return the number of Ray's workers."""
    return max(1, cluster.num_workers)


def cpus_per_worker(cluster: ClusterConfig) -> int:
    """Return the CPUs (and threads) that each worker gets: as configured, or an equal share."""
    if cluster.cpus_per_worker is not None:
        return cluster.cpus_per_worker
    nodes = _nodes()
    most = max((int(node.get("CPU", 0)) for node in nodes), default=1)
    shares = range(most, 1, -1)
    fits = (cpus for cpus in shares if _room(nodes, cpus, cluster) >= num_workers(cluster))
    return next(fits, 1)


def _nodes() -> list[dict[str, float]]:
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _room(nodes: Sequence[Mapping[str, float]], cpus: int, cluster: ClusterConfig) -> int:
    """Return how many workers fit the nodes, with their CPUs, and a GPU each if they use one."""
    held = (
        min(node.get("CPU", 0) // cpus, node.get("GPU", 0) if cluster.use_gpu else math.inf)
        for node in nodes
    )
    return int(sum(held))


def require_resources(cluster: ClusterConfig) -> None:
    """Check that the cluster can ever hold the workers, rather than wait for ever."""
    if os.environ.get("ARCORE_AUTOSCALING") == "1":  # the cluster grows with what is asked of it
        return
    share, asked = cpus_per_worker(cluster), num_workers(cluster)
    workers = min(asked, cluster.min_workers or asked)
    fitting = _room(_nodes(), share, cluster)
    each = f"{share} CPUs" + (" and a GPU" if cluster.use_gpu else "")
    if workers > fitting:
        raise UserError(
            f"cluster: expected nodes that hold {workers} workers of {each}, got room for {fitting}"
        )
