"""The command line of `python -m stages.submit`; tests/cluster has jobs."""

import sys
from types import SimpleNamespace

import pytest

from pipeline.cluster import jobs
from stages import cli, submit
from tests.places import ROOT
from tests.support.refusals import raising


class Client:
    def __init__(self, status: str, code: int | None) -> None:
        self.info = SimpleNamespace(status=status, driver_exit_code=code, message=None)

    def get_address(self) -> str:
        return "http://127.0.0.1:1"

    def submit_job(self, **job: object) -> str:
        return str(job["submission_id"] or "raysubmit_1")

    def get_job_logs(self, job: str) -> str:
        return f"log of {job}\n"

    def get_job_info(self, job: str) -> SimpleNamespace:
        return self.info


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    def run(*arguments: str, status: str = "SUCCEEDED", code: int | None = 0) -> object:
        monkeypatch.chdir(ROOT)
        monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(jobs, "connect", lambda address: Client(status, code))
        monkeypatch.setattr(sys, "argv", ["submit", *arguments])
        try:
            cli.run(submit.main)
        except SystemExit as ended:
            return ended.code
        return 0

    return run


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 3, 3), ("FAILED", None, 1), ("STOPPED", None, 1)],
)
def test_exit_status(run, capsys, status: str, code: int | None, expected: int) -> None:
    assert run("--id", "mine", "--", "true", status=status, code=code) == expected
    assert capsys.readouterr().out == "log of mine\n"


def test_no_wait(run, capsys) -> None:
    assert run("--no-wait", "--", "true", status="FAILED", code=3) == 0
    assert capsys.readouterr().out == "raysubmit_1\n"


def test_interrupt_leaves_the_job(run, monkeypatch, caplog) -> None:
    monkeypatch.setattr(jobs, "follow", raising(KeyboardInterrupt()))
    caplog.set_level("INFO")
    assert run("--id", "mine", "--", "true") == 130
    assert "ray job logs --address http://127.0.0.1:8265 --follow mine" in caplog.messages[-1]
    assert "ray job stop --address http://127.0.0.1:8265 mine" in caplog.messages[-1]


def test_the_command_line() -> None:
    options, command = submit.parse(
        ["--env", "A=b", "C", "--id", "x", "--env", "D=", "--", "dvc", "repro", "--", "x"]
    )
    assert options.env == ["A=b", "C", "D="] and options.id == "x" and not options.no_wait
    assert command == ["dvc", "repro", "--", "x"]


@pytest.mark.parametrize("arguments", [[], ["--"], ["--id", "x"], ["python", "--", "true"]])
def test_usage(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        submit.parse(arguments)
    assert ended.value.code == 2 and "usage: python -m stages.submit" in capsys.readouterr().err


def test_one_line_for_an_address_that_is_none(command) -> None:
    assert "--address: expected http" in command(ROOT, "submit", "--address", "x", "--", "true")
