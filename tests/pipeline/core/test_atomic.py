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


def test_interrupted_between_its_renames_it_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, replace = tmp_path / "out", os.replace
    with replacing(out) as folder:
        (folder / "a").write_text("old")

    def interrupted(source: Path, target: Path) -> None:
        if Path(source).suffix == ".partial":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt), replacing(out) as folder:
            (folder / "a").write_text("new")
    assert (out / "a").read_text() == "old" and list(tmp_path.iterdir()) == [out]


def test_what_a_killed_process_had_moved_away_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    code = (
        "import os, pathlib, signal; from pipeline.core import atomic\n"
        "move = os.replace\n"
        "def once(source, target):\n"
        "    move(source, target)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "pathlib.Path('out').mkdir()\n"
        "pathlib.Path('out/a').write_text('old')\n"
        "os.replace = once\n"
        "with atomic.replacing(pathlib.Path('out')): pass\n"
    )
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": root}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert not out.exists()
    with pytest.raises(ValueError), replacing(out):
        raise ValueError
    assert (out / "a").read_text() == "old" and list(tmp_path.iterdir()) == [out]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """Large folders lie on another disk."""
    large, out = tmp_path / "disk" / "large", tmp_path / "out"
    large.mkdir(parents=True)
    (large / "a").write_text("old")
    out.symlink_to(large)
    with replacing(out) as temporary:
        assert temporary.parent == large.parent, "on the disk that it leads to"
        (temporary / "b").write_text("new")
    assert out.is_symlink() and [path.name for path in large.iterdir()] == ["b"]
    assert list(large.parent.iterdir()) == [large] and len(list(tmp_path.iterdir())) == 2
