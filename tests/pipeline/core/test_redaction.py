"""No password, token or option of a URI is shown."""

import logging

import pytest

from pipeline.core.errors import one_line
from pipeline.core.redaction import Redacting, has_secrets, redacted
from pipeline.tracking import mlflow_store

SECRET = "hunter2"
URIS = [
    "http://me:hunter2@mlflow:5000",
    "https://hunter2@mlflow/api",
    "http://me:hun@hunter2@mlflow:5000/",
    "s3://bucket/x?secret_key=hunter2&endpoint_override=host:9000",
    "s3://key:hunter2@bucket/x?access_key=a",
    "https://host/x#hunter2",
    "postgresql+psycopg2://me:hunter2@db/mlflow",
    "postgresql://me:hun#hunter2@db/mlflow",
    "postgresql://me:hunter2?hun@db/mlflow",
    "file:///x?key=hunter2",
    "s3://AKIA:ab/hunter2+ef@bucket/x",
    "s3://AKIA:ab'hunter2@bucket/x",
]


@pytest.mark.parametrize("uri", URIS)
@pytest.mark.parametrize("text", ["{}", "no answer from '{}': refused", "({}), twice: {}; then"])
def test_secrets_of_uris_go_wherever_they_stand(uri: str, text: str) -> None:
    shown = redacted(text.format(uri, uri))
    assert SECRET not in shown and uri.split("://")[0] + "://" in shown and has_secrets(uri)
    words = text.replace("{}", "").split()
    assert all(word.strip("'();:,") in shown for word in words)


def test_errors_and_log_lines_are_redacted() -> None:
    assert SECRET not in one_line(ValueError(f"cannot reach {URIS[0]}, url: /api?token={SECRET}"))
    record = logging.LogRecord("x", logging.INFO, "", 0, "at %s", (URIS[3],), None)
    assert Redacting("%(message)s").format(record) == "at s3://bucket/x"


@pytest.mark.parametrize("text", ["data/shards", "what is x? y=1", "a@b.org", "10:30 #3", "a = b?"])
def test_other_texts_stay(text: str) -> None:
    assert redacted(text) == text


def test_a_store_that_is_away_is_named_without_its_password(monkeypatch, caplog) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9/?token=hunter2")
    assert mlflow_store.start_run("e", "r", "k", {}, {}) is None
    assert "MLflow store http://127.0.0.1:9/ is unreachable" in caplog.text
    assert SECRET not in caplog.text


def test_pages_and_runs_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hunter2@mlflow.example.org/")
    assert mlflow_store.run_page("4d1f").startswith("https://mlflow.example.org/#/runs/4d1f")
