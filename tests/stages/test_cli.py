"""One boundary: what ends a stage is one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pipeline.core.errors import UserError
from stages import cli


@pytest.mark.parametrize(
    "number",
    [errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ENOENT],
)
def test_errors_of_the_system_are_one_line(number: int) -> None:
    def main() -> None:
        raise OSError(number, os.strerror(number), "models/x")

    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    assert ended.value.code == f"error: models/x: {os.strerror(number)}"


def test_a_path_that_the_system_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / ("x" * 300), tmp_path / "file/below"):
        with pytest.raises(SystemExit, match=r"^error: .*(too long|Not a directory)$"):
            cli.run(lambda p=path: p.mkdir())


def test_the_line_shows_no_secret() -> None:
    def main() -> None:
        raise UserError("s3://me:hunter2@bucket/x?key=hunter2")

    with pytest.raises(SystemExit) as ended:
        cli.run(main)
    assert ended.value.code == "error: s3://bucket/x"  # a query has no end but a space's
