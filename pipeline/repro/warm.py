"""A process that has imported what stages need, and forks for each of them.

torch, MLflow and the like take several seconds of processor to import, again in every stage. Here a
server imports them once, libraries only, none of this project's own code. A stage that finds
`ARCORE_WARM` in its environment hands its arguments, folder, environment and standard streams to
the server, which forks a child that runs the stage from there; the stage's own process waits,
passes signals on, and ends with the child's status.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType

from pipeline.core import paths

VARIABLE = "ARCORE_WARM"
_OWN = ("arcore", "pipeline", "stages", "reproductions")
_STREAMS = 3
_LARGEST = 1 << 20


@contextlib.contextmanager
def warmed(variables: dict[str, str]) -> Iterator[dict[str, str]]:
    """Run the server inside the block; yield the variables with which stages find it.

    Arguments:
        variables: environment of the server, which decides the threads of torch and what MLflow
            reads when it is imported.
    """
    if not hasattr(os, "fork"):
        yield variables
        return
    with tempfile.TemporaryDirectory(prefix="arcore-", ignore_cleanup_errors=True) as folder:
        address = os.path.join(folder, "warm")
        ours, theirs = os.pipe()  # that ends with this process, however it does
        try:
            server = _started(address, variables, ours)
            os.close(ours)
            if server is None:
                yield variables
                return
            try:
                yield variables | {VARIABLE: address}
            finally:
                server.terminate()
                server.wait()
        finally:
            os.close(theirs)


def _started(
    address: str, variables: dict[str, str], parent: int
) -> subprocess.Popen[bytes] | None:
    """Start the server, None where a TMPDIR is too long for such an address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        try:
            listening.bind(address)  # here, so that a stage finds it however late the server is
        except OSError:
            return None
        listening.listen()
        number = listening.fileno()
        command = [sys.executable, "-m", "pipeline.repro.warm", str(number), str(parent)]
        passed = [number, parent]
        return subprocess.Popen(command, env=variables, start_new_session=True, pass_fds=passed)


def forward(module: str, arguments: Sequence[str]) -> int | None:
    """Have a stage run by the server; return its status, None if there is no server.

    Arguments:
        module: of the stage, e.g. "stages.train".
        arguments: of its command line.
    """
    address = os.environ.pop(VARIABLE, None)
    if address is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        request = {
            "module": module,
            "arguments": list(arguments),
            "folder": os.getcwd(),
            "environment": dict(os.environ),
        }
        sys.stdout.flush()
        sys.stderr.flush()
        message = json.dumps(request).encode()
        header = len(message).to_bytes(4, "big")
        try:
            connection.connect(address)
            socket.send_fds(connection, [header], list(range(_STREAMS)))
            connection.sendall(message)
            child = int(_line(connection) or 0)
        except OSError:  # the server has ended
            return None
        if not child:
            return None

        passed: list[int] = []

        def pass_on(number: int, frame: FrameType | None) -> None:
            passed.append(number)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pass_on)
        status = _line(connection)
    if status:
        return int(status)
    if not passed:  # it could say nothing any more
        print("error: killed, perhaps by the system for want of memory", file=sys.stderr)
    return 128 + (passed[-1] if passed else signal.SIGKILL)


def end_with_repro() -> None:
    """Ask this process to end when the `make repro` that runs its stage has ended, however."""
    number = os.environ.get(paths.REPRO)
    if number is None or not hasattr(os, "pidfd_open"):
        return

    def watch() -> None:
        with contextlib.suppress(ProcessLookupError):
            select.select([os.pidfd_open(int(number))], [], [])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _line(connection: socket.socket) -> str:
    """Read to the end of a line; what there is of it where the other side has closed."""
    read = b""
    while not read.endswith(b"\n"):
        part = connection.recv(1)
        if not part:
            break
        read += part
    return read.decode().strip()


def serve(listening: socket.socket, parent: int) -> None:
    """Import the libraries, then fork for each stage that connects, until terminated.

    Arguments:
        listening: where stages connect.
        parent: the reading end of a pipe that the process which started this one holds.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # as a stage does, which cannot once it is a pipe
    _import_libraries()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are nobody's to wait for
    either = [listening.fileno(), parent]
    while parent not in select.select(either, [], [])[0]:
        connection, _ = listening.accept()
        with connection:
            if os.fork() == 0:
                listening.close()
                _run_child(connection)


def _import_libraries() -> None:
    import fsspec  # noqa: F401
    import hydra  # noqa: F401
    import matplotlib.backends.backend_agg  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    import mlflow.system_metrics.system_metrics_monitor  # noqa: F401
    import PIL.Image  # noqa: F401
    import pyarrow.fs  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import safetensors.torch  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch
    import yaml  # noqa: F401

    torch.optim.SGD([torch.zeros(1, requires_grad=True)]).step()  # imports torch's compiler
    for name in list(sys.modules):
        if name.partition(".")[0] in _OWN:
            del sys.modules[name]
    gc.collect()
    gc.freeze()  # so that children do not copy what they never touch


def _run_child(connection: socket.socket) -> None:
    """Become the stage that the other side of a connection asks for; does not return."""
    status, is_known = 1, False
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        header, streams, _, _ = socket.recv_fds(connection, 4, _STREAMS)
        size = int.from_bytes(header, "big")
        assert 0 < size <= _LARGEST and len(streams) == _STREAMS
        message = b""
        while len(message) < size:
            part = connection.recv(size - len(message))
            assert part, "a client that has ended"
            message += part
        request = json.loads(message)
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        connection.sendall(f"{os.getpid()}\n".encode())
        is_known = True
        threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        sys.argv = [request["module"], *request["arguments"]]
        status = _status_of(request["module"])
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.sendall(f"{status if is_known else 0}\n".encode())  # 0 for its number: none
        os._exit(status)


def _status_of(module: str) -> int:
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
            return 1
        return int(ended.code or 0)


def _end_with(connection: socket.socket) -> None:
    """End this process when the one that waits for it has gone."""
    with contextlib.suppress(OSError):
        if not connection.recv(1):
            os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
