"""Outputs are written alone, whole or not at all, and read only whole, unaltered and current."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.artifacts import artifact, locks, origin, reader, writer
from pipeline.artifacts.artifact import Artifact, Kind
from pipeline.artifacts.writer import alone, replacing, writing
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from tests.places import ROOT

KIND = Kind(
    verb="make", doing="making", main="main.json", origin="origin.json", hash_key="main_sha256",
    recorded={"give": "given_sha256"},
)  # fmt: skip
GIVEN = Kind(verb="give", doing="giving", main="given.txt")


@pytest.fixture
def output(workdir: Path) -> Artifact:
    given = Artifact(kind=GIVEN, name="a", folder=workdir / "given", command="give a")
    given.folder.mkdir()
    (given.folder / "given.txt").write_text("first")
    return Artifact(
        kind=KIND, name="a", folder=workdir / "out/a", command="make a", inputs=(given,)
    )


@contextlib.contextmanager
def written(
    output: Artifact, *, work: tuple[str, str] | None = None, storage: str | None = None
) -> Iterator[Path]:
    with alone(output, work), writing(output, storage) as under_way:
        yield under_way.folder


def write(output: Artifact, text: str = "{}") -> None:
    with written(output) as folder:
        (folder / "part").mkdir()
        (folder / "part/a.txt").write_text("a")
        (folder / "main.json").write_text(text)


def test_what_is_written_is_read_again(output: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "commit", lambda: "abc")
    with written(output) as folder:
        (folder / "main.json").write_text("{}")
        (folder / "origin.json").write_text('{"seconds": 3}')
    assert reader.read(output) == output.folder
    found = reader.read_origin(output.folder, KIND)
    assert found is not None and found["main_sha256"] == sha256_of(output.folder / "main.json")
    assert (found["seconds"], found["commit"], found["command"]) == (3, "abc", "make a")
    assert isinstance(found["versions"], dict) and "torch" in found["versions"]
    sealed = json.loads((output.folder / artifact.SEAL).read_text())
    assert sealed["inputs"] == {"given": sha256_of(Path("given/given.txt"))}
    assert list(sealed["files"]) == ["main.json"], "the origin differs from run to run"


def test_what_is_missing_or_altered_is_refused(output: Artifact) -> None:
    with pytest.raises(UserError, match="out/a/main.json: missing; run `make a`"):
        reader.read(output)
    write(output)
    for name in ("main.json", "part/a.txt"):
        path = output.folder / name
        before = path.read_text()
        path.write_text(before + " ")
        with pytest.raises(UserError, match=f"{name}: expected the file .*; run `make a`"):
            reader.read(output)
        path.write_text(before)
    (output.folder / "part/a.txt").unlink()
    with pytest.raises(UserError, match="part/a.txt: missing; run `make a`"):
        reader.read(output)


@pytest.mark.parametrize("sealed", [True, False])
def test_what_was_made_of_something_else_is_refused(output: Artifact, sealed: bool) -> None:
    given = Path("given/given.txt")
    write(output, json.dumps({"given_sha256": sha256_of(given)}))
    if not sealed:  # of an older version
        (output.folder / artifact.SEAL).unlink()
    given.write_text("second")
    with pytest.raises(UserError, match="out/a: expected an output of given as it is .*`make a`"):
        reader.read(output)
    given.unlink()
    assert reader.read(output) == output.folder, "which nothing contradicts"


def test_an_origin_of_another_run_is_passed_over(output: Artifact) -> None:
    """DVC restores what it tracks next to the origin that is there."""
    write(output)
    kept = (output.folder / "origin.json").read_text()
    write(output, '{"other": 1}')
    (output.folder / "origin.json").write_text(kept)
    assert reader.read(output) and reader.read_origin(output.folder, KIND) is None
    (output.folder / "origin.json").unlink()
    assert reader.read(output) and reader.read_origin(output.folder, KIND) is None


def test_an_input_that_changes_meanwhile_gives_no_output(output: Artifact) -> None:
    write(output)
    before = (output.folder / "main.json").read_text()
    with pytest.raises(UserError, match="^given: expected the content that this began with"):
        with written(output) as folder:
            (folder / "main.json").write_text("new")
            Path("given/given.txt").write_text("second")
    assert (output.folder / "main.json").read_text() == before


def test_one_works_on_an_output_at_a_time(output: Artifact) -> None:
    with locks.held(locks.path_of("make-a"), "making a"):
        with pytest.raises(UserError, match="^making a: expected to be alone"), written(output):
            raise AssertionError("two at once")
    with written(output, work=(str(Path("shared").absolute()), "work")) as folder:
        assert Path("shared/.work.lock").exists() and locks.path_of("make-a").exists()
        (folder / "main.json").write_text("{}")


def test_a_folder_of_a_users_choice_is_locked_by_its_whole_path(workdir: Path) -> None:
    with alone(artifact.files(workdir / "mine" / "out")), ThreadPoolExecutor(1) as another:
        assert another.submit(write_alone, Path("out")).result(60)
        with pytest.raises(UserError, match="decompressing out: expected to be alone"):
            another.submit(write_alone, Path("mine", "..", "mine", "out")).result(60)


def write_alone(folder: Path) -> bool:
    with written(artifact.files(folder)) as partial:
        (partial / "a").touch()
    return folder.exists()


def test_many_at_once_leave_one_whole(output: Artifact) -> None:
    waiting = dataclasses.replace(output, kind=dataclasses.replace(KIND, waits=True))

    def write(number: int) -> None:
        with written(waiting) as folder:
            for name in ("main.json", "b", "c"):
                (folder / name).write_text(str(number))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(12)))
    names = ("main.json", "b", "c")
    assert len({(output.folder / name).read_text() for name in names}) == 1
    assert list(output.folder.parent.iterdir()) == [output.folder]


def test_an_output_is_published_but_for_a_part_of_another(output: Artifact, workdir: Path) -> None:
    storage = str(workdir / "storage")
    with writer.unpublished(), written(output, storage=storage) as folder:
        (folder / "main.json").write_text("{}")
    assert not Path(storage).exists()
    with written(output, storage=storage) as folder:
        (folder / "main.json").write_text("{}")
    assert Path(storage, "results/out/a/main.json").is_file()


def test_interrupted_between_its_renames_it_leaves_what_was_there(tmp_path, monkeypatch) -> None:
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


@pytest.mark.parametrize("rename", [True, False])
def test_what_a_killed_process_left_goes_or_comes_back(tmp_path: Path, rename: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a").write_text("old")
    code = (
        "import os, pathlib, signal; from pipeline.artifacts.writer import replacing\n"
        "move = os.replace\n"
        "def once(source, target):\n"
        "    move(source, target)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"os.replace = once if {rename} else move\n"
        "with replacing(pathlib.Path('out')):\n"
        f"    {rename} or os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    assert done.returncode == -signal.SIGKILL and out.exists() != rename
    with pytest.raises(ValueError), replacing(out):
        raise ValueError
    assert (out / "a").read_text() == "old" and list(tmp_path.iterdir()) == [out]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    large, out = tmp_path / "disk" / "large", tmp_path / "out"
    large.mkdir(parents=True)
    (large / "a").write_text("old")
    out.symlink_to(large)
    with replacing(out) as temporary:
        assert temporary.parent == large.parent, "on the disk of its target"
        (temporary / "b").write_text("new")
    assert out.is_symlink() and [path.name for path in large.iterdir()] == ["b"]
    assert list(large.parent.iterdir()) == [large] and len(list(tmp_path.iterdir())) == 2
