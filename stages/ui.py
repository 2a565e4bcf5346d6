"""MLflow's pages on this machine: prints the address of each dataset's runs, then serves them.

Example: python -m stages.ui; python -m stages.ui --port 5001; python -m stages.ui --print
"""

import argparse
import os
import socket
import sys

from pipeline.core.errors import UserError
from pipeline.tracking import mlflow_store
from stages import cli


def main() -> None:
    """Print addresses, then become MLflow's server; of a server elsewhere, print alone."""
    parser = argparse.ArgumentParser(prog="python -m stages.ui", description=__doc__)
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--print", action="store_true", help="only print the addresses")
    options = parser.parse_args()
    uri = mlflow_store.tracking_uri()
    elsewhere = uri.startswith(("http://", "https://"))
    if not (elsewhere or options.print):
        _require_free(options.port)
    address = None if elsewhere else f"http://127.0.0.1:{options.port}"
    print(mlflow_store.overview(mlflow_store.require_store(uri), address), flush=True)
    if elsewhere or options.print:
        return
    command = ["mlflow", "ui", "--host", "127.0.0.1", "--port", str(options.port)]
    # by the environment: a command line, which may hold a password then, is seen by every user
    settings = os.environ | {"MLFLOW_BACKEND_STORE_URI": uri}
    os.execve(sys.executable, [sys.executable, "-m", *command], settings)


def _require_free(port: int) -> None:
    """Refuse a port that another process holds, to which an address would lead."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UserError(f"--port {port}: expected a free port, got {reason}") from None


if __name__ == "__main__":
    cli.run(main)
