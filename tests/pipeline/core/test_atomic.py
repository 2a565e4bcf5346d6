"""Folders that are replaced: whole, one process's alone, and without leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.core.atomic import replacing


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with replacing(out) as first:
        (first / "first").write_text("1")
        with replacing(out) as second:
            (second / "second").write_text("2")
            assert first != second and (first / "first").exists()
        assert [path.name for path in out.iterdir()] == ["second"]
    assert [path.name for path in out.iterdir()] == ["first"]
    assert list(tmp_path.iterdir()) == [out]


def test_many_at_once_leave_one_whole(tmp_path: Path) -> None:
    def write(number: int) -> None:
        with replacing(tmp_path / "out") as folder:
            for name in "abc":
                (folder / name).write_text(str(number))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(64)))
    assert len({path.read_text() for path in (tmp_path / "out").iterdir()}) == 1
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_block_that_raises_leaves_what_was_there(tmp_path: Path) -> None:
    with replacing(tmp_path / "out") as folder:
        (folder / "a").write_text("old")
    with pytest.raises(ValueError), replacing(tmp_path / "out") as folder:
        (folder / "a").write_text("new")
        raise ValueError
    assert (tmp_path / "out/a").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_leftovers_of_a_killed_process_go_at_the_next_call(tmp_path: Path) -> None:
    code = (
        "import os, signal, pathlib; from pipeline.core.atomic import replacing\n"
        "with replacing(pathlib.Path('out')): os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "PYTHONPATH": root}
    )
    assert done.returncode == -signal.SIGKILL and len(list(tmp_path.iterdir())) == 1
    with replacing(tmp_path / "out"):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
