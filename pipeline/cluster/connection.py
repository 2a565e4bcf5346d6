"""Ray: an embedded one on this machine, or the cluster of RAY_ADDRESS."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from pipeline.core.errors import UserError, one_line
from pipeline.experiments.schema import ClusterConfig

log = logging.getLogger(__name__)

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # in a job, which sets some of the same variables
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
}
EMBEDDED = {
    # An epoch waits until the one before it is collected, which shows where epochs are short.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_worker_niceness": "0",
    "RAY_AUTH_MODE": "token",
    # Ray replaces 127.0.0.1 by the machine's outer address where it supports clusters.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
SAME_SIGNAL_SECONDS = 3.0
STARTS = 3  # On a busy machine parts of Ray start later than its fixed 20 s allow, and it gives up.
# Without these glibc gives freed temporaries back to the kernel at every step and faults them in
# again at the next: up to 40,000 faults a step. One arena, since Ray trains in a thread, whose own
# heap would be given back all the same. A worker holds its peak of memory until it ends.
MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


@contextmanager
def connected(variables: Mapping[str, str] | None = None) -> Iterator[None]:
    """Connect to RAY_ADDRESS, or start an embedded Ray that ends with the block.

    Nothing leaves the machine: usage statistics are off, and an embedded Ray opens no dashboard
    and listens on loopback.

    Arguments:
        variables: environment of all workers of this driver.

    Raises:
        UserError: if RAY_ADDRESS cannot be reached, or an embedded Ray does not start.
    """
    address = os.environ.get("RAY_ADDRESS")
    for name, value in (QUIET if address else QUIET | EMBEDDED).items():
        os.environ.setdefault(name, value)
    import ray

    where: dict[str, object] = {"address": address}
    if variables:
        where["runtime_env"] = {"env_vars": dict(variables)}
    if not address:
        where |= {
            "address": "local",
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
        }
    for attempts_left in reversed(range(1 if address else STARTS)):
        try:
            ray.init(logging_level=logging.WARNING, **where)
            break
        except Exception as error:  # Ray raises many kinds, among them Exception itself
            ray.shutdown()
            if not attempts_left:
                what = f"RAY_ADDRESS={address}: cannot connect" if address else "Ray did not start"
                raise UserError(f"{what}: {one_line(error)}") from error
    try:
        yield
    finally:
        ray.shutdown()


def address() -> str:
    """Return the address of the Ray that this process is connected to, for RAY_ADDRESS."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


@contextmanager
def on_sigterm(action: Callable[[], None]) -> Iterator[None]:
    """Do something at the first SIGTERM inside the block; a later one ends the process.

    One that comes within seconds is the same one, sent to a process and to its group.
    """
    before = signal.getsignal(signal.SIGTERM)
    since: float | None = None

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal since
        if since is None:
            since = time.monotonic()
            log.warning("SIGTERM: saving a checkpoint and leaving")
            # Not in the handler itself: it interrupts a call of Ray's and would make another in it.
            threading.Thread(target=action, daemon=True).start()
        elif time.monotonic() - since > SAME_SIGNAL_SECONDS:
            signal.signal(signal.SIGTERM, before)
            signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def cpus_per_worker(config: ClusterConfig) -> int:
    """Return the CPUs (and threads) that each worker gets: as configured, or an equal share."""
    if config.cpus_per_worker is not None:
        return config.cpus_per_worker
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)) // config.num_workers)


def require_resources(config: ClusterConfig) -> None:
    """Check that the cluster can ever hold the workers, rather than wait for ever.

    Raises:
        UserError: naming what is asked for and what the cluster has. An autoscaling cluster can
            set ARCORE_AUTOSCALING=1 to wait for nodes instead.
    """
    import ray

    if os.environ.get("ARCORE_AUTOSCALING") == "1":
        return
    have = ray.cluster_resources()
    cpus = config.num_workers * cpus_per_worker(config)
    if cpus > have.get("CPU", 0):
        raise UserError(
            f"cluster: expected {cpus} CPUs for {config.num_workers} workers, "
            f"got a cluster of {have.get('CPU', 0):g}"
        )
    if config.use_gpu and config.num_workers > have.get("GPU", 0):
        raise UserError(
            f"cluster: expected {config.num_workers} GPUs, got a cluster of {have.get('GPU', 0):g}"
        )
