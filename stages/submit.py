"""Run a command, mostly a stage or `dvc repro`, as a job on a Ray cluster, in a copy of the code.

Example: python -m stages.submit -- python -m stages.train digits-made
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.cluster import jobs
from pipeline.core.redaction import redacted
from stages import cli

log = logging.getLogger(__name__)


def main() -> None:
    """Submit, print the log, and exit with the job's own status."""
    options, command = parse(sys.argv[1:])
    address = jobs.find_address(options.address, os.environ)
    client = jobs.connect(address)
    job = jobs.submit(client, Path.cwd(), command, options.env, options.id)
    at = f"--address {redacted(address)}"
    follow, stop = f"ray job logs {at} --follow {job}", f"ray job stop {at} {job}"
    if options.no_wait:
        print(job)
        log.info("submitted; follow it with: %s", follow)
        return
    log.info("submitted %s", job)
    try:
        status = jobs.follow(client, job, lambda text: print(text, end="", flush=True))
    except KeyboardInterrupt:
        log.info("\n%s runs on; follow it with: %s; stop it with: %s", job, follow, stop)
        sys.exit(130)
    if status:
        log.info("%s failed with exit status %d", job, status)
    sys.exit(status)


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split a command line at `--`, into the options and the command of the job."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.submit",
        usage="%(prog)s [-h] [--address URL] [--id ID] [--no-wait] [--env KEY=VALUE ...] -- ...",
        description="Run a command as a job on a Ray cluster, in a copy of the code.",
        epilog="Example: python -m stages.submit -- python -m stages.train digits-made",
    )
    parser.add_argument(
        "--address",
        metavar="URL",
        help="of the dashboard; else RAY_API_SERVER_ADDRESS, an http RAY_ADDRESS, or "
        + jobs.DEFAULT_ADDRESS,
    )
    parser.add_argument("--id", help="the job's id, new to the cluster; Ray chooses by default")
    parser.add_argument("--no-wait", action="store_true", help="print the id and leave")
    parser.add_argument(
        "--env",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="variables of the job; KEY alone sends the value that it has here",
    )
    at = list(arguments).index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:at])
    command = list(arguments[at + 1 :])
    if not command:
        parser.error("expected -- and then the command of the job")
    return options, command


if __name__ == "__main__":
    cli.run(main)
