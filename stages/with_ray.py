"""Run a command, e.g. `dvc repro`, whose stages share one Ray instead of starting one each."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from pipeline.cluster import connection
from stages import cli


def main() -> None:
    """Start an embedded Ray (or use that of RAY_ADDRESS), run the command, leave its status."""
    parser = argparse.ArgumentParser(prog="python -m stages.with_ray", description=__doc__)
    parser.add_argument("command", nargs=argparse.REMAINDER, help="with its arguments")
    command = parser.parse_args().command
    if not command:
        parser.error("command: expected a command and its arguments, got nothing")
    with connection.connected():
        environment = os.environ | {"RAY_ADDRESS": connection.address()}
        status = subprocess.run(command, env=environment, check=False).returncode
    sys.exit(status)


if __name__ == "__main__":
    cli.run(main)
