"""Hosts of their own on one machine: namespaces, joined by a bridge in a namespace between them.

A host has its own network, processes, hostname, `/etc/hosts`, `/dev/shm` and `/tmp/ray` (also its
folder of temporary files); the rest of the file system is the folder that all hosts share.
Nothing has a name outside: when a host's first process ends, or the process that made it does,
the kernel takes down the host's processes, mounts and links with it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import psutil

TOOLS = ("ip", "unshare", "nsenter", "setpriv", "mount", "hostname", "sysctl")
PORT, DASHBOARD_PORT = 6379, 8265
PRIVATE = "/tmp/ray"
TOKEN = "a token of this test, not a secret: no other machine reaches these hosts"
LIGHT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    "RAY_enable_open_telemetry": "0",
    "RAY_event_stats": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_worker_niceness": "0",
}
# A host that is gone is given up after 3 checks of at most 3 s, not after a minute, and workers
# that wait for it in a collective after 5 s, not after 30.
IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",
}
# As the first process of its host it reaps every orphan; it has no other work.
FIRST_PROCESS = (
    "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); print(flush=True)\n"
    "while True: signal.pause()"
)


def unsupported() -> str | None:
    """Why hosts cannot be made here, or None."""
    if os.geteuid() != 0:
        return "hosts of their own need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"hosts of their own need {', '.join(missing)}"
    try:
        with Network(1) as network:
            network.hosts[0].run("true")
    except (OSError, subprocess.SubprocessError) as error:
        return f"namespaces are not allowed here: {error}"
    return None


class Namespaces:
    """Namespaces that live as long as their first process, and it no longer than this one."""

    def __init__(self, *kinds: str) -> None:
        self._options = [f"--{kind}" for kind in kinds]
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--fork", "--kill-child"]
            + self._options
            + (["--mount-proc"] if "pid" in kinds else [])
            + [sys.executable, "-ISc", FIRST_PROCESS],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None and self._holder.stderr is not None
        if not self._holder.stdout.readline():
            message = self._holder.stderr.read().decode().strip()
            self.close()
            raise OSError(message)
        (first,) = psutil.Process(self._holder.pid).children()
        self.pid = first.pid

    def enter(self, *command: str, cwd: str = "/") -> list[str]:
        where = [f"--wdns={cwd}"] if "--mount" in self._options else []
        return ["nsenter", "--target", str(self.pid), *self._options, *where, "--", *command]

    def shell(self, script: str, **variables: str) -> None:
        """Run a script inside; the first command that fails ends it."""
        done = subprocess.run(
            self.enter("sh", "-ec", script),
            env=os.environ | variables,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise OSError(f"{script.strip()}: {done.stderr.strip()}")

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        for stream in (self._holder.stdout, self._holder.stderr):
            if stream is not None:
                stream.close()


class Host:
    """One host of a network; `Network` makes it.

    Attributes:
        name: its hostname.
        address: its address on the network.
    """

    def __init__(self, network: Network, index: int) -> None:
        self.name = f"arcore{index}"
        self.address = network.address(index + 1)
        self._network, self._port = network, f"port{index}"
        self._popen: list[subprocess.Popen[Any]] = []
        self._namespaces = Namespaces("net", "mount", "uts", "pid")

    def connect(self) -> None:
        """Plug the host into the network's bridge, with its address, name and private folders."""
        self._network.switch.shell(
            f"ip link add {self._port} type veth peer name eth0 netns {self._namespaces.pid}\n"
            f"ip link set {self._port} master bridge up"
        )
        Path(PRIVATE).mkdir(exist_ok=True)
        # Ray asks which address leads outwards, so there is a route, to nowhere.
        self._namespaces.shell(
            """
            hostname $NAME
            ip link set lo up
            ip link set eth0 up
            ip address add $ADDRESS/24 dev eth0
            ip route add default via $GATEWAY
            mount -t tmpfs tmpfs /dev/shm
            mount -t tmpfs tmpfs $PRIVATE
            touch /dev/shm/hosts
            mount --bind /dev/shm/hosts /etc/hosts
            """,
            NAME=self.name,
            ADDRESS=self.address,
            GATEWAY=self._network.address(254),
            PRIVATE=PRIVATE,
        )

    def resolve(self, names: dict[str, str]) -> None:
        """Let hostnames stand for these addresses on this host."""
        lines = ["127.0.0.1 localhost"] + [f"{address} {name}" for name, address in names.items()]
        self._namespaces.shell('echo "$LINES" > /etc/hosts', LINES="\n".join(lines))

    # -- commands

    def environment(self, **extra: str) -> dict[str, str]:
        dropped = ("ARCORE_", "MLFLOW_", "RAY_", "DVC_", "OMP_NUM_THREADS", "GLOO_", "MASTER_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        own = {"PATH": path, "TMPDIR": PRIVATE, "OMP_NUM_THREADS": "1"}
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        return kept | own | token | LIGHT | IMPATIENT | extra

    def popen(
        self,
        *command: str,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        text: bool = False,
    ) -> subprocess.Popen[Any]:
        """Start a command, in a session of its own; the network ends it at the latest."""
        process = subprocess.Popen(
            self._namespaces.enter(*command, cwd=str(cwd or "/")),
            env=self.environment(**(env or {})),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            text=text,
            start_new_session=True,
        )
        self._popen.append(process)
        return process

    def run(
        self,
        *command: str,
        timeout: float = 60.0,
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        # Files, not pipes: what a command leaves running may keep its end of a pipe open.
        with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
            process = self.popen(*command, env=env, cwd=cwd, stdout=stdout, stderr=stderr)
            try:
                process.wait(timeout)
            finally:
                end(process)
            stdout.seek(0)
            stderr.seek(0)
            done = subprocess.CompletedProcess(
                command, process.returncode, stdout.read(), stderr.read()
            )
        if check and done.returncode != 0:
            raise OSError(f"{' '.join(command)}: {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def processes(self) -> list[psutil.Process]:
        """What runs on this host, without its first process."""
        namespace = _pid_namespace(self._namespaces.pid)
        found = [process for process in psutil.process_iter() if process.pid != os.getpid()]
        return [
            process
            for process in found
            if process.pid != self._namespaces.pid and _pid_namespace(process.pid) == namespace
        ]

    def named(self, part: str) -> list[psutil.Process]:
        """The host's processes with `part` in their command line."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if part in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def train_workers(self) -> list[psutil.Process]:
        return self.named("RayTrainWorker")

    # -- faults

    def link(self, state: str) -> None:
        """Pull the host's cable out of the switch ("down"), or plug it in ("up")."""
        self._network.switch.shell(f"ip link set {self._port} {state}")

    def delay(self, time: str) -> None:
        """Let every packet to this host wait ("200ms"); needs the kernel's netem."""
        self._network.switch.shell(f"tc qdisc replace dev {self._port} root netem delay {time}")

    def limit(self, rate: str) -> None:
        """Let no more than `rate` ("100mbit") through to this host."""
        self._network.switch.shell(
            f"tc qdisc replace dev {self._port} root tbf rate {rate} burst 64kb latency 500ms"
        )

    def restore_speed(self) -> None:
        """End `delay` and `limit`."""
        self._network.switch.shell(f"tc qdisc delete dev {self._port} root")

    # -- Ray

    def start_ray_head(self, num_cpus: int = 2) -> float:
        return self._start_ray(
            "--head",
            f"--port={PORT}",
            "--include-dashboard=true",
            f"--dashboard-host={self.address}",
            f"--dashboard-port={DASHBOARD_PORT}",
            f"--num-cpus={num_cpus}",
        )

    def start_ray_worker(self, head: Host, num_cpus: int = 2) -> float:
        """Join the Ray of `head`; return the seconds it took."""
        return self._start_ray(f"--address={head.ray_address}", f"--num-cpus={num_cpus}")

    @property
    def ray_address(self) -> str:
        return f"{self.address}:{PORT}"

    @property
    def dashboard(self) -> str:
        return f"http://{self.address}:{DASHBOARD_PORT}"

    def _start_ray(self, *options: str) -> float:
        began = time.monotonic()
        self.run(
            "ray", "start", *options,
            f"--node-ip-address={self.address}",
            "--object-store-memory=200000000",
            "--disable-usage-stats",
            timeout=120,
        )  # fmt: skip
        return time.monotonic() - began

    def kill_ray(self) -> None:
        """Kill Ray and all that it started at once, but not what `popen` started."""
        ours = {process.pid for process in self._popen if process.poll() is None}
        deadline = time.monotonic() + 30
        while ray := [p for p in self.processes() if _session(p) not in ours]:
            for process in ray:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            assert time.monotonic() < deadline, f"still there: {ray}"
            time.sleep(0.05)
        self._namespaces.shell("rm -rf $PRIVATE/*", PRIVATE=PRIVATE)

    def close(self) -> None:
        for process in self._popen:
            end(process)
        self._namespaces.close()


class Network:
    """Hosts on one bridge; everything ends with the block.

    Arguments:
        num_hosts: how many.
    """

    def __init__(self, num_hosts: int = 2) -> None:
        self._num_hosts = num_hosts
        self.hosts: list[Host] = []

    def address(self, last: int) -> str:
        return f"10.77.{os.getpid() % 251}.{last}"

    @property
    def names(self) -> dict[str, str]:
        return {host.name: host.address for host in self.hosts}

    def __enter__(self) -> Network:
        with contextlib.ExitStack() as stack:
            self.switch = Namespaces("net")
            stack.callback(self.switch.close)
            self.switch.shell(
                "ip link add bridge type bridge\n"
                f"ip address add {self.address(254)}/24 dev bridge\n"
                "ip link set bridge up"
            )
            for index in range(self._num_hosts):
                host = Host(self, index)
                self.hosts.append(host)
                stack.callback(host.close)
            for host in self.hosts:
                host.connect()
                host.resolve(self.names)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


def end(process: subprocess.Popen[Any]) -> None:
    """Kill a process of `Host.popen` and what is left of its session, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return 0


def _pid_namespace(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""
