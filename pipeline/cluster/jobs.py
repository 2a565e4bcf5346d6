"""Jobs on a Ray cluster: a clean export of the checkout, submitted and followed to its end."""

import contextlib
import logging
import os
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from pipeline.cluster import connection
from pipeline.cluster.checkout import export
from pipeline.core.errors import UserError, one_line, require
from pipeline.core.redaction import has_secrets, redacted
from pipeline.core.threads import in_thread

logger = logging.getLogger(__name__)
DEFAULT_ADDRESS = "http://127.0.0.1:8265"
FORWARDED = (
    "ARCORE_AUTOSCALING", "ARCORE_CLUSTER", "ARCORE_HOME", "ARCORE_MIRROR", "ARCORE_STORAGE",
    "MLFLOW_TRACKING_URI",
)  # fmt: skip
PLACES = ("ARCORE_HOME", "ARCORE_MIRROR", "ARCORE_STORAGE", "MLFLOW_TRACKING_URI")
ALWAYS = {
    "DO_NOT_TRACK": "true",
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
JobInfo = Any  # of Ray: status, message, driver_exit_code
JobClient = Any  # ray.job_submission.JobSubmissionClient
ATTEMPTS = 6  # to reach a lost cluster again, or one that starts, over about a minute
ANSWER = 30.0  # seconds that a cluster has to say what a job does
LONGEST_PAUSE = 10.0  # seconds between two questions
NO_AGENT = "No available agent"  # Ray's words, after it waited for ten seconds


def variables(
    here: Mapping[str, str], named: Sequence[str], command: Sequence[str], commit: str
) -> dict[str, str]:
    """Return a job's environment variables: ours that are set here, those named, no telemetry.

    `named` are `KEY=VALUE`, or `KEY` for the value that it has `here`. DVC looks for outputs in the
    job's folder, so that a DVC command gets no ARCORE_HOME.
    """
    chosen = connection.QUIET | ALWAYS | {"ARCORE_COMMIT": commit}
    chosen |= {name: here[name] for name in FORWARDED if here.get(name)}
    if re.search(r"(^|[\s;&|('/])dvc\s|stages\.repro\b|make\s.*\brepro\b", shlex.join(command)):
        chosen["ARCORE_HOME"] = ""
    explicit = dict(_named_variable(item, here) for item in named)
    for name in set(FORWARDED) - set(explicit):
        value = chosen.get(name, "")
        if has_secrets(value):
            raise UserError(
                f"{name}: expected an address without user, password or key, got one with; "
                f"--env {name} sends it all the same"
            )
        if name in PLACES and _is_relative(value):
            raise UserError(
                f"{name}: expected an absolute path or a URI, got {value!r}, which would be in the "
                f"job's own folder; --env {name} sends it all the same"
            )
    return chosen | explicit


def _named_variable(item: str, here: Mapping[str, str]) -> tuple[str, str]:
    name, given, value = item.partition("=")
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) is None:
        raise UserError(f"--env: expected KEY=VALUE or KEY, got {name!r}")
    if not given and name not in here:
        raise UserError(f"--env {name}: expected a variable that is set here, found none")
    return name, value if given else here[name]


def _is_relative(place: str) -> bool:
    """Tell whether a place depends on the working directory; SQLite's URIs and MLflow's may too."""
    path = re.sub(r"^(sqlite[^:/]*:///|file:)", "", place)
    return bool(path) and "://" not in path and not os.path.isabs(path)


def find_address(given: str | None, here: Mapping[str, str]) -> str:
    """Return the URL of a cluster's dashboard: as given, of Ray's variables, or of this machine."""
    of_ray = here.get("RAY_ADDRESS", "")  # often of a cluster, host:port
    addresses = {
        "--address": given,
        "RAY_API_SERVER_ADDRESS": here.get("RAY_API_SERVER_ADDRESS") or None,
        "RAY_ADDRESS": of_ray if of_ray.startswith(("http://", "https://")) else None,
    }
    found = ((where, address) for where, address in addresses.items() if address is not None)
    where, address = next(found, ("", DEFAULT_ADDRESS))
    expected = "http://host:port of a dashboard"
    require(
        re.match(r"https?://(\[[^\]]+\]|[^/\[\]])", address) is not None, where, expected, address
    )
    return address.rstrip("/")


def connect(address: str) -> JobClient:
    """Return a client of a cluster's jobs."""
    import requests
    from ray.job_submission import JobSubmissionClient

    for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with _explained(address), mock.patch.dict(os.environ, RAY_API_SERVER_ADDRESS=address):
        requests.get(f"{address}/api/version", timeout=10)  # Ray's own requests wait for ever.
        return JobSubmissionClient(address)


def submit(
    client: JobClient,
    root: Path,
    command: Sequence[str],
    named: Sequence[str] = (),
    submission_id: str | None = None,
) -> str:
    """Submit a command as a job with a clean export of a checkout; return the job's id."""
    if submission_id is not None and not re.fullmatch(r"\w[\w.-]*", submission_id, re.ASCII):
        raise UserError(f"--id: expected letters, digits, '.', '_' and '-', got {submission_id!r}")
    entrypoint = shlex.join(command)
    with tempfile.TemporaryDirectory(prefix="arcore-job-") as folder:
        commit = export(root, Path(folder))
        chosen = variables(os.environ, named, command, commit)
        job = {
            "entrypoint": entrypoint,
            "submission_id": submission_id,
            "runtime_env": {"working_dir": folder, "env_vars": chosen},
            "metadata": {"commit": commit, "command": entrypoint},
        }
        # The export is clean already, and .gitignore would take .dvc/config.local out of it.
        ignored = mock.patch.dict(os.environ, RAY_RUNTIME_ENV_IGNORE_GITIGNORE="1")
        with _explained(client.get_address()), ignored:
            return _submitted(client, job)


def _submitted(client: JobClient, job: Mapping[str, object]) -> str:
    """Submit a job, again while the head, just started, has no agent yet that takes it."""
    for attempts_left in reversed(range(ATTEMPTS)):
        try:
            return str(client.submit_job(**job))
        except RuntimeError as error:
            if "already exists" in str(error):
                wanted, given = "one that the cluster has not seen", job["submission_id"]
                raise UserError(f"--id: expected {wanted}, got {given!r}") from None
            if NO_AGENT not in str(error) or not attempts_left:
                raise
            time.sleep(1)
    raise AssertionError


def follow(client: JobClient, job: str, show: Callable[[str], object]) -> int:
    """Show a job's log until the job ends; return its exit status.

    The log is asked for again and again, and what is new of it shown: a connection that is kept
    open may break, or fall silent without a word. While the cluster says that the job runs, a log
    that cannot be had is waited for.
    """
    seen = idle = failures = 0
    while True:
        info, log, problem = _asked(client, job)
        idle = 0 if len(log) > seen else idle + 1
        if len(log) > seen:
            show(log[seen:])
        seen = max(seen, len(log))
        has_ended = info is not None and info.status in ENDED
        failures = failures + 1 if problem and (info is None or has_ended) else 0
        if info is not None and has_ended and (not problem or failures > ATTEMPTS):
            if info.status == "FAILED" and info.driver_exit_code is None:
                logger.warning("%s never ran: %s", job, one_line(Exception(info.message or "")))
            return exit_code(info)
        if failures > ATTEMPTS:
            where = redacted(client.get_address())
            raise UserError(f"lost job {job} at {where}, which may run on: {problem}")
        time.sleep(min(2.0 ** min(max(idle, failures), ATTEMPTS), LONGEST_PAUSE))


def _asked(client: JobClient, job: str) -> tuple[JobInfo | None, str, str]:
    """Ask a cluster for a job's state, then its log; return both, and what went wrong.

    In a thread, since Ray's requests wait for ever.
    """
    info = None
    try:
        info = in_thread(lambda: client.get_job_info(job), ANSWER)
        return info, in_thread(lambda: client.get_job_logs(job), ANSWER), ""
    except Exception as error:  # of requests and Ray
        return info, "", one_line(error)


def exit_code(info: JobInfo) -> int:
    """Return a finished job's exit status: its command's own; never 0 unless it succeeded."""
    if info.status == "SUCCEEDED":
        return 0
    code = info.driver_exit_code or 1
    return int(code) if code > 0 else 128 - int(code)  # as a shell reports a signal


@contextlib.contextmanager
def _explained(address: str) -> Iterator[None]:
    import requests
    from ray.exceptions import AuthenticationError

    where = redacted(address)
    try:
        yield
    except AuthenticationError:
        raise UserError(
            f"{where}: expected the cluster's token, which it asks for, got none or another; set "
            "RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH unless it is ~/.ray/auth_token"
        ) from None
    except (ConnectionError, requests.exceptions.RequestException) as error:
        raise UserError(
            f"{where}: expected the dashboard of a Ray cluster, got {type(error).__name__}; "
            "is it running, and is this its address?"
        ) from None
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{where}: {one_line(error)}") from None
