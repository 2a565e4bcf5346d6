"""A process that has imported what stages need, and forks for each of them.

torch, MLflow and the like take several seconds of processor to import, again in every stage. Here a
server imports them once, libraries only, none of this project's own code. A stage that finds
`ARCORE_WARM` in its environment hands its arguments, folder, path of imports, environment and
standard streams to the server, which forks a child that runs the stage from there; the stage's own
process waits, passes signals on, and ends with the child's status.
"""

import contextlib
import io
import json
import os
import pkgutil
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

from pipeline.core import paths

VARIABLE = "ARCORE_WARM"
_OWN = ("arcore", "pipeline", "stages", "reproductions")
_LIBRARIES = """fsspec hydra matplotlib.backends.backend_agg matplotlib.figure
    mlflow.store.tracking.sqlalchemy_store PIL.Image pyarrow.fs pyarrow.parquet
    safetensors.torch sklearn.datasets torch yaml"""


@contextlib.contextmanager
def warmed(variables: dict[str, str]) -> Iterator[dict[str, str]]:
    """Run the server, with some variables, in the block; yield those with which stages find it."""
    with tempfile.TemporaryDirectory(prefix="arcore-", ignore_cleanup_errors=True) as folder:
        address = os.path.join(folder, "warm")
        try:  # here, so that a stage finds it however late the server is
            listening = socket.create_server(address, family=socket.AF_UNIX)
        except OSError:  # a TMPDIR too long for such an address
            yield variables
            return
        with listening:
            server = subprocess.Popen(
                [sys.executable, "-m", __name__, str(listening.fileno())],
                env=variables, start_new_session=True,
                pass_fds=[listening.fileno()], stdin=subprocess.PIPE,
            )  # fmt: skip
        try:
            yield variables | {VARIABLE: address}
        finally:
            server.terminate()
            server.communicate()


def forward(module: str, arguments: Sequence[str]) -> int | None:
    """Have a stage (its module) run by the server; return its status, None without a server."""
    address = os.environ.pop(VARIABLE, None)
    if address is None:
        return None
    request = [module, list(arguments), os.getcwd(), sys.path, dict(os.environ)]
    sys.stdout.flush()
    sys.stderr.flush()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(address)
            socket.send_fds(connection, [b"3"], [0, 1, 2])
            replies = connection.makefile("r")
            connection.sendall(json.dumps(request).encode() + b"\n")
            child = int(replies.readline())
        except (OSError, ValueError):  # the server has ended
            return None
        passed: list[int] = []

        def pass_on(number: int, frame: object) -> None:
            passed.append(number)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, pass_on)
        status = replies.readline()
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


def serve(listening: socket.socket) -> None:
    """Import the libraries, then fork for each stage that connects, until the parent ends."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # as a stage does, which cannot once it is a pipe
    for name in _LIBRARIES.split():
        pkgutil.resolve_name(name)
    for name in [name for name in sys.modules if name.partition(".")[0] in _OWN]:
        del sys.modules[name]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # children are nobody's to wait for
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        connection, _ = listening.accept()
        with connection:
            if os.fork() == 0:
                listening.close()
                _run_child(connection)


def _run_child(connection: socket.socket) -> None:
    """Become the stage that the other side of a connection asks for; does not return."""
    status = 1
    try:
        connection.sendall(f"{os.getpid()}\n".encode())
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, stream in enumerate(socket.recv_fds(connection, 1, 3)[1]):
            os.dup2(stream, number)
            os.close(stream)
        request = json.loads(connection.makefile().readline())
        module, arguments, folder, sys.path[:], environment = request
        threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        sys.argv = [module, *arguments]
        status = _run_module(module)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.sendall(f"{status}\n".encode())
        os._exit(status)


def _run_module(module: str) -> int:
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
    serve(socket.socket(fileno=int(sys.argv[1])))
