"""One boundary: what ends a stage is one line."""

import errno
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException, RestException

from arcore.primitives.checks import WeightsError
from pipeline.core.errors import UserError
from pipeline.core.private_files import SITE_CACHE
from stages import cli
from tests.places import ROOT
from tests.support.refusals import raising

LOCKED = "database is locked\n(Background on this error at ...)"
MEMORY = re.escape("out of memory; a smaller batch_size (of preprocess: a smaller rows_per_shard)")
FULL = "no space left on device while writing "


def system_error(number: int, path: str | None = "models/x") -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        *(
            (system_error(number), f"models/x: {os.strerror(number)}$")
            for number in (errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR,
                           errno.EISDIR, errno.ENOENT)
        ),
        *(
            (system_error(number, path), f"{FULL}{where}$")
            for number in (errno.ENOSPC, errno.EDQUOT)
            for path, where in (("models/x", "models/x"), (None, "an output"))
        ),
        (MemoryError(), MEMORY),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), MEMORY),
        (RuntimeError("[enforce fail] CPUAllocator: can't allocate memory: 9 bytes"), MEMORY),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), MEMORY),
        (RuntimeError("CUDA error: out of memory"), MEMORY),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublas()`"), MEMORY),
        (MlflowException(LOCKED), r"MLflow: database is locked \(Background"),
        (
            RestException({"error_code": "INTERNAL_ERROR", "message": LOCKED}),
            r"MLflow: INTERNAL_ERROR: database is locked \(Background",
        ),
        (WeightsError("weights: expected numbers"), "weights: expected numbers$"),
        (UserError("s3://me:hunter2@bucket/x?key=hunter2"), "s3://bucket/x$"),  # and no secret
    ],
    ids=repr,
)  # fmt: skip
def test_what_a_user_can_mend_is_one_line(error: Exception, said: str) -> None:
    with pytest.raises(SystemExit, match=f"^error: {said}"):
        cli.run(raising(error))


def test_a_path_that_the_system_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / ("x" * 300), tmp_path / "file/below"):
        with pytest.raises(SystemExit, match=r"^error: .*(too long|Not a directory)$"):
            cli.run(lambda p=path: p.mkdir())


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.run(raising(KeyboardInterrupt()))
    assert (ended.value.code, capsys.readouterr().err) == (130, "interrupted\n")


def test_a_file_that_is_run_by_its_path() -> None:
    run = subprocess.run(
        [sys.executable, ROOT / "stages" / "params.py", "--help"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0 and not run.stderr


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"):
        cli.run(raising(RuntimeError("shapes differ")))


def test_a_locale_without_a_sign_shows_another(tmp_path: Path) -> None:
    (tmp_path / "some_stage.py").write_text(
        "from stages import cli\n\ndef main():\n    print('1 \u00b1 2')\n\n"
        "if __name__ == '__main__':\n    cli.run(main)\n",
        encoding="utf-8",
    )
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "some_stage"],
        env=os.environ | plain | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"1 ? 2\n", b"")


def test_the_site_cache_of_dvc_is_the_owners_alone(workdir, monkeypatch) -> None:
    cli.run(lambda: None)
    assert not Path(".dvc").exists(), "outside a checkout"
    Path(".dvc").mkdir()
    for _ in range(2):
        cli.run(lambda: None)
        for folder in (SITE_CACHE, SITE_CACHE / "repo"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            folder.chmod(0o777)  # as DVC makes it
    (SITE_CACHE / "repo" / "planted").touch()
    lstat = Path.lstat

    def planted(path: Path) -> os.stat_result:
        fields = list(lstat(path))
        fields[stat.ST_UID] += path.name == "planted"
        return os.stat_result(fields)

    monkeypatch.setattr(Path, "lstat", planted)
    with pytest.raises(SystemExit, match="^error: .*planted: expected a file of this user .remove"):
        cli.run(lambda: None)
