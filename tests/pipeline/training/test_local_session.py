"""Checkpoints that a training in the stage's own process keeps."""

from __future__ import annotations

import errno
import shutil
from datetime import datetime
from pathlib import Path

import pytest
import torch

from pipeline.training import local_session
from pipeline.training.local_session import LocalSession
from pipeline.training.records import TrainingReport

REPORT = TrainingReport(epoch=1, best_valid_nats=1.0)


class Clock(datetime):
    """Stands at 02:50 of a day in October, then is put back an hour."""

    times = iter(())

    @classmethod
    def now(cls, tz: object = None) -> datetime:
        return next(cls.times)


@pytest.fixture
def session(tmp_path: Path) -> LocalSession:
    return LocalSession(str(tmp_path / "training"), torch.device("cpu"))


def written(tmp_path: Path, text: str) -> Path:
    folder = tmp_path / "written"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "state.json").write_text(text)
    return folder


def kept(session: LocalSession) -> list[str]:
    found = []
    for checkpoint in session.checkpoints():
        with checkpoint.as_directory() as folder:
            found.append(Path(folder, "state.json").read_text())
    return found


def test_the_newest_is_the_last_written_though_the_clock_is_put_back(
    session: LocalSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = [(2, 40), (2, 50), (2, 0), (2, 10), (3, 10)]
    Clock.times = iter([datetime(2026, 10, 25, *moment) for moment in moments])
    monkeypatch.setattr(local_session, "datetime", Clock)
    for number in range(5):
        session.report(REPORT, written(tmp_path, str(number)))
        assert kept(session) == [str(number), str(number - 1)][: number + 1]


def test_a_full_disk_is_one_and_keeps_no_part(
    session: LocalSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.report(REPORT, written(tmp_path, "whole"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left") as raised:
            session.report(REPORT, written(tmp_path, "next"))
    assert raised.value.errno == errno.ENOSPC
    folder = tmp_path / "training"
    (folder / ".checkpoint_2026-11-28_13-00-00.000000.partial").mkdir()  # a killed process left it
    session.report(REPORT, written(tmp_path, "next"))
    assert kept(session) == ["next", "whole"] and len(list(folder.iterdir())) == 2


def test_a_checkpoint_that_cannot_be_removed_is_left_and_said(
    session: LocalSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On NFS, where a file in it is open somewhere."""

    class Busy:
        def __getattr__(self, name: str) -> object:
            return getattr(filesystem, name)

        def delete_dir(self, path: str) -> None:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")

    for number in range(2):
        session.report(REPORT, written(tmp_path, str(number)))
    filesystem = session._filesystem
    with monkeypatch.context() as patch:
        patch.setattr(session, "_filesystem", Busy())
        patch.setattr(local_session.pyarrow.fs, "LocalFileSystem", Busy)
        session.report(REPORT, written(tmp_path, "2"))
    assert kept(session) == ["2", "1", "0"] and "is left for now: " in caplog.text
    session.report(REPORT, written(tmp_path, "3"))
    assert kept(session) == ["3", "2"]
