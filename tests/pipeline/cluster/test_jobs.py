"""What a job gets: the files, the variables, the address, and how it ends."""

import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.artifacts import origin
from pipeline.cluster import checkout as exports
from pipeline.cluster import connection, jobs
from pipeline.core.errors import UserError
from tests.places import ROOT
from tests.support.checkouts import commit, git


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A Git checkout with a clean commit of code, DVC's files, tests and ignored data."""
    folder = tmp_path / "checkout"
    tracked = {
        ".gitignore": "/data/\n/models/\n",
        ".dvc/config": "[core]\n    analytics = false\n",
        ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
        "dvc.yaml": "stages: {}\n",
        "stages/train.py": "old\n",
        "stages/gone.py": "",
        "tests/test_train.py": "",
        "results/README.md": "",
    }
    ignored = {"data/raw/x.bin": "x", "models/m/model.bin": "m", ".dvc/cache/files/ab": "c"}
    write(folder, tracked | ignored | {".dvc/config.local": "password = hunter2\n"})
    commit(folder)
    return folder


KEPT = {".gitignore", ".dvc/config", ".dvc/.gitignore", "dvc.yaml", "stages/train.py"}


def export(checkout: Path) -> tuple[dict[str, str], str]:
    folder = checkout.parent / "exported"
    folder.mkdir()
    commit = exports.export(checkout, folder)
    files = contents(folder)
    assert len(files.pop(".arcore-job")) == 33, "no two jobs share a folder"
    return files, commit


def test_a_clean_checkout(checkout: Path) -> None:
    files, commit = export(checkout)
    assert set(files) == KEPT | {"stages/gone.py", ".dvc/config.local"}
    assert files[".dvc/config.local"] == exports.NO_SCM, "not the user's own"
    assert len(commit) == 12 and commit == origin.commit(checkout)


def test_files_travel_as_they_are_now(checkout: Path) -> None:
    write(checkout, {"stages/train.py": "new\n"})
    (checkout / "stages/gone.py").unlink()
    files, commit = export(checkout)
    assert set(files) == KEPT | {".dvc/config.local"}
    assert files["stages/train.py"] == "new\n" and commit.endswith("-dirty")


def test_new_files_stay_and_are_listed(checkout: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(checkout, {"deep/é.py": "n", "deep/prod.yaml": "password: hunter2", "tests/new.py": ""})
    files, commit = export(checkout)
    assert set(files) == KEPT | {"stages/gone.py", ".dvc/config.local"}
    assert not commit.endswith("-dirty")
    assert caplog.messages == ["left out, since Git does not track them: deep/prod.yaml, deep/é.py"]


@pytest.mark.parametrize(
    "name",
    [
        ".env", ".env.local", "deep/server.PEM", "id_rsa", ".aws/config", "gcp-credentials.json",
        "token.txt", "service-account.json", ".docker/config.json", "secrets/x.yaml", ".my.cnf",
        ".s3cfg", "prod.env", "id_dsa", "auth_token",
    ],
)  # fmt: skip
def test_secrets_stay(checkout: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    write(checkout, {name: "hunter2"})
    git(checkout, "add", "-f", name)
    files, _ = export(checkout)
    assert name not in files and "hunter2" not in str(files)
    assert caplog.messages == [f"left out, since they look like secrets: {name}"]


def test_links_stay_in_the_selection(checkout: Path, caplog: pytest.LogCaptureFixture) -> None:
    outside = checkout.parent / "outside"
    write(outside, {"password.txt": "hunter2", "train.py": "hunter2"})
    write(checkout, {".env": "hunter2"})
    (checkout / "inside").symlink_to("stages/train.py")
    (checkout / "away").symlink_to(outside / "password.txt")
    (checkout / "ignored").symlink_to("data/raw/x.bin")
    (checkout / "hidden").symlink_to(".env")
    (checkout / "broken").symlink_to("nowhere")
    (checkout / "loop").symlink_to("loop")
    (checkout / "stages/gone.py").unlink()
    git(checkout, "add", "-f", ".env", "inside", "away", "ignored", "hidden", "broken", "loop")
    files, _ = export(checkout)
    assert set(files) == KEPT | {".dvc/config.local", "inside"} and files["inside"] == "old\n"
    assert caplog.messages[1] == "left out, since they link elsewhere: away, hidden, ignored"


def test_the_size_of_a_package(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "LARGEST_PACKAGE", 1_000_000)
    write(checkout, {"dvc.yaml": "b" * 1_500_000})
    with pytest.raises(UserError, match="expected < 1,000,000 bytes in Git, got 15000"):
        exports.export(checkout, checkout.parent)


def test_without_git(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a Git checkout"):
        exports.select(tmp_path)


def test_outputs_and_the_lock_make_no_commit_dirty(checkout: Path) -> None:
    """DVC rewrites dvc.lock while it runs."""
    clean = origin.commit(checkout)
    assert not clean.endswith("-dirty")
    write(checkout, {"dvc.lock": "new", "results/a.md": "new", "docs/a.md": "new"})
    write(checkout, {"reproductions/dvc.lock": "new", "reproductions/dvc.yaml": "new"})
    assert origin.commit(checkout) == origin.commit(checkout / "stages") == clean
    write(checkout, {"params.yaml": "new"})
    assert origin.commit(checkout / "stages") == f"{clean}-dirty"


TRAIN = ["python", "-m", "stages.train", "toy"]
HERE = {
    "ARCORE_CLUSTER": "gpu",
    "ARCORE_HOME": "/mnt/home",
    "ARCORE_MIRROR": "",
    "AWS_SECRET_ACCESS_KEY": "hunter2",
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "RAY_ADDRESS": "http://127.0.0.1:8265",
    "PATH": "/bin",
}


def ours(chosen: dict[str, str]) -> dict[str, str]:
    quiet = connection.QUIET | jobs.ALWAYS
    assert quiet.items() <= chosen.items()
    return {name: value for name, value in chosen.items() if name not in quiet}


def test_variables_and_named_ones() -> None:
    assert ours(jobs.variables(HERE, [], TRAIN, "abc")) == {
        "ARCORE_CLUSTER": "gpu",
        "ARCORE_COMMIT": "abc",
        "ARCORE_HOME": "/mnt/home",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    }
    named = ["AWS_SECRET_ACCESS_KEY", "A=b=c", "ARCORE_HOME=", "RAY_USAGE_STATS_ENABLED=0"]
    chosen = ours(jobs.variables(HERE, named, TRAIN, "abc"))
    assert chosen["AWS_SECRET_ACCESS_KEY"] == "hunter2"
    assert chosen["A"] == "b=c" and chosen["ARCORE_HOME"] == ""


@pytest.mark.parametrize(
    "uri",
    [
        "s3://b/x?secret_key=hunter2", "s3://b/x?access_key=a&scheme=http", "https://hunter2@host",
        "http://me:hunter2@host", "s3://b/x?session_token=hunter2&region=eu",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["ARCORE_STORAGE", "ARCORE_MIRROR", "MLFLOW_TRACKING_URI"])
def test_secrets_in_addresses_are_not_forwarded(uri: str, name: str) -> None:
    told = f"{name}: expected an address without user, .*; --env {name} sends it all the same"
    with pytest.raises(UserError, match=told) as caught:
        jobs.variables({name: uri}, [], TRAIN, "abc")
    assert "hunter2" not in str(caught.value)
    assert jobs.variables({name: uri}, [name], TRAIN, "abc")[name] == uri


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("ARCORE_HOME", "out"), ("ARCORE_MIRROR", "../mirror"), ("ARCORE_STORAGE", "./storage"),
        ("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"), ("MLFLOW_TRACKING_URI", "file:mlruns"),
        ("MLFLOW_TRACKING_URI", "mlruns"),
    ],
)  # fmt: skip
def test_relative_places_are_not_forwarded(name: str, place: str) -> None:
    with pytest.raises(UserError) as caught:
        jobs.variables({name: place}, [], TRAIN, "abc")
    assert str(caught.value) == (
        f"{name}: expected an absolute path or a URI, got {place!r}, which would be in the job's "
        f"own folder; --env {name} sends it all the same"
    )
    assert jobs.variables({name: place}, [name], TRAIN, "abc")[name] == place
    assert jobs.variables({name: place}, [f"{name}=/mnt/x"], TRAIN, "abc")[name] == "/mnt/x"


@pytest.mark.parametrize(
    ("command", "home"),
    [
        (TRAIN, "/mnt/home"),
        (["dvc", "repro", "train@toy"], ""),
        (["sh", "-c", "dvc repro --pull x && dvc push"], ""),
        (["sh", "-c", "dvc-viewer x"], "/mnt/home"),
        ([".venv/bin/dvc", "repro"], ""),
        (["python", "-m", "stages.repro", "report@digits"], ""),
        (["make", "-j2", "repro"], ""),
        (["make", "test"], "/mnt/home"),
    ],
)
def test_dvc_looks_for_outputs_in_the_jobs_folder(command: list[str], home: str) -> None:
    assert jobs.variables(HERE, [], command, "abc")["ARCORE_HOME"] == home


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("1A=b", "--env: expected KEY=VALUE or KEY, got '1A'"),
        ("=b", "--env: expected KEY=VALUE or KEY, got ''"),
        ("TOKEN", "--env TOKEN: expected a variable that is set here, found none"),
    ],
)
def test_bad_variables(named: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^{message}$"):
        jobs.variables({}, [named], TRAIN, "abc")


@pytest.mark.parametrize(
    ("given", "here", "address"),
    [
        ("http://a:1/", {"RAY_API_SERVER_ADDRESS": "http://b:2"}, "http://a:1"),
        (None, {"RAY_API_SERVER_ADDRESS": "https://b", "RAY_ADDRESS": "http://c"}, "https://b"),
        (None, {"RAY_ADDRESS": "http://c:3"}, "http://c:3"),
        (None, {"RAY_ADDRESS": "ray://c:3"}, jobs.DEFAULT_ADDRESS),
        (None, {"RAY_ADDRESS": "http-head:6379"}, jobs.DEFAULT_ADDRESS),
        (None, {"RAY_API_SERVER_ADDRESS": "", "RAY_ADDRESS": "http://c:3"}, "http://c:3"),
        (None, {}, jobs.DEFAULT_ADDRESS),
    ],
)
def test_address(given: str | None, here: dict[str, str], address: str) -> None:
    assert jobs.find_address(given, here) == address


@pytest.mark.parametrize("given", ["127.0.0.1:8265", "ray://a:1", "http://", "http://[::1", "auto"])
def test_bad_address(given: str) -> None:
    with pytest.raises(UserError, match="--address: expected http://host:port of a dashboard"):
        jobs.find_address(given, {})
    with pytest.raises(UserError, match="RAY_API_SERVER_ADDRESS: expected"):
        jobs.find_address(None, {"RAY_API_SERVER_ADDRESS": given})


def test_unreachable() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://me:hunter2@127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(UserError) as raised:
        jobs.connect(address)
    message = str(raised.value)
    assert message.startswith("http://127.0.0.1:") and "hunter2" not in message
    assert "expected the dashboard of a Ray cluster, got ConnectionError" in message


class Client:
    """Stands for Ray's client; a piece of the log that is None breaks the connection."""

    def __init__(self, pieces: list[str | None] | None = None, **info: Any) -> None:
        self.pieces = list(pieces or [])
        self.info = SimpleNamespace(
            **({"status": "SUCCEEDED", "driver_exit_code": 0, "message": None} | info)
        )
        self.submitted: dict[str, Any] = {}
        self.files: dict[str, str] = {}
        self.error: Exception | None = None
        self.refusals = 0
        self.away = False
        self.log = ""

    def get_address(self) -> str:
        return "http://me:hunter2@127.0.0.1:1"

    def submit_job(self, **job: Any) -> str:
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError(f"status code 500: {jobs.NO_AGENT} to submit job")
        if self.error is not None:
            raise self.error
        self.submitted = job
        self.files = contents(Path(job["runtime_env"]["working_dir"]))
        return job["submission_id"] or "raysubmit_1"

    def get_job_info(self, job: str) -> SimpleNamespace:
        if self.away and not self.pieces:
            raise RuntimeError("closed unexpectedly")
        return SimpleNamespace(status="RUNNING") if self.pieces else self.info

    def get_job_logs(self, job: str) -> str:
        piece = self.pieces.pop(0) if self.pieces else ""
        if piece is None:
            raise RuntimeError("closed unexpectedly")
        self.log += piece
        return self.log


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.time, "sleep", lambda seconds: None)


def test_submit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in jobs.FORWARDED:
        monkeypatch.delenv(name, raising=False)
    client = Client()
    job = jobs.submit(client, checkout, [*TRAIN, "a b"], ["A=b"], "mine")
    commit = origin.commit(checkout)
    assert job == "mine"
    assert client.submitted["entrypoint"] == "python -m stages.train toy 'a b'"
    assert client.submitted["metadata"] == {
        "commit": commit,
        "command": client.submitted["entrypoint"],
    }
    variables = client.submitted["runtime_env"]["env_vars"]
    assert ours(variables) == {"ARCORE_COMMIT": commit, "A": "b"}
    assert client.files["stages/train.py"] == "old\n"
    assert not Path(client.submitted["runtime_env"]["working_dir"]).exists()


def test_a_head_that_has_just_started(at_once: None, checkout: Path) -> None:
    client = Client()
    client.refusals = jobs.ATTEMPTS - 1
    assert jobs.submit(client, checkout, TRAIN) == "raysubmit_1"
    client.refusals = jobs.ATTEMPTS
    with pytest.raises(UserError, match="^http://127.0.0.1:1: status code 500: No available agent"):
        jobs.submit(client, checkout, TRAIN)


@pytest.mark.parametrize("given", ["", "a/b", "-x", "a b"])
def test_bad_id(checkout: Path, given: str) -> None:
    with pytest.raises(UserError, match="--id: expected letters"):
        jobs.submit(Client(), checkout, TRAIN, submission_id=given)


def test_refusals_in_one_line(checkout: Path) -> None:
    from ray.exceptions import AuthenticationError

    client = Client()
    client.error = RuntimeError("status code 500: Traceback...\nJob with id x already exists.")
    with pytest.raises(UserError, match="^--id: expected one that .* has not seen, got 'x'$"):
        jobs.submit(client, checkout, TRAIN, submission_id="x")
    client.error = RuntimeError("status code 500:\nno space")
    with pytest.raises(UserError, match="^http://127.0.0.1:1: status code 500: no space$"):
        jobs.submit(client, checkout, TRAIN)
    client.error = AuthenticationError("no token")
    with pytest.raises(UserError, match="expected the cluster's token, which it asks for"):
        jobs.submit(client, checkout, TRAIN)


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [
        ("SUCCEEDED", 0, 0),
        ("SUCCEEDED", None, 0),
        ("FAILED", 3, 3),
        ("FAILED", None, 1),
        ("FAILED", 0, 1),
        ("FAILED", -9, 137),
        ("STOPPED", None, 1),
        ("STOPPED", -15, 143),
        ("STOPPED", 0, 1),
    ],
)
def test_exit_codes(at_once: None, status: str, driver: int | None, code: int) -> None:
    client = Client(["a\n"], status=status, driver_exit_code=driver)
    assert jobs.follow(client, "job", lambda text: None) == code


def test_a_job_that_never_ran(at_once: None, caplog: pytest.LogCaptureFixture) -> None:
    client = Client(status="FAILED", driver_exit_code=None, message="runtime_env\nfailed")
    assert jobs.follow(client, "job", lambda text: None) == 1
    assert caplog.messages == ["job never ran: runtime_env failed"]


def test_a_log_goes_on_where_the_connection_broke(at_once: None) -> None:
    client = Client(["one\n", None, "two\n", None, None, "three\n"])
    log: list[str] = []
    assert jobs.follow(client, "job", log.append) == 0
    assert "".join(log) == "one\ntwo\nthree\n"


def test_a_cluster_that_stays_away(at_once: None) -> None:
    client = Client(["one\n"])
    client.away = True
    log: list[str] = []
    with pytest.raises(UserError) as raised:
        jobs.follow(client, "job", log.append)
    assert "".join(log) == "one\n"
    assert str(raised.value) == (
        "lost job job at http://127.0.0.1:1, which may run on: closed unexpectedly"
    )


@pytest.mark.parametrize("silent", ["get_job_info", "get_job_logs"])
def test_a_cluster_that_falls_silent(at_once: None, monkeypatch, silent: str) -> None:
    """It answers no more, or for a while alone where it says that the job runs."""
    monkeypatch.setattr(jobs, "ANSWER", 0.05)
    client, log, ended = Client(["one\n", "two\n"]), [], threading.Event()
    answer, asked = getattr(client, silent), []

    def wait(job: str) -> object:
        asked.append(job)
        if len(asked) > 1 and (silent == "get_job_info" or len(asked) < 12):
            ended.wait(60)
        return answer(job)

    monkeypatch.setattr(client, silent, wait)
    if silent == "get_job_info":
        with pytest.raises(UserError, match="^lost job job at http://127.0.0.1:1, which may run "):
            jobs.follow(client, "job", log.append)
    else:
        assert jobs.follow(client, "job", log.append) == 0
    ended.set()
    assert "".join(log) == ("one\n" if silent == "get_job_info" else "one\ntwo\n")


def test_no_file_of_the_project_looks_like_a_secret() -> None:
    """It would be left out of the copy that a job runs in."""
    folders = ("arcore", "pipeline", "stages", "reproductions")
    files = [str(p.relative_to(ROOT)) for f in folders for p in (ROOT / f).rglob("*.py")]
    assert [name for name in files if exports.looks_secret(name)] == []
