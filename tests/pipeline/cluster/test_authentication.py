"""Ray's token is readable for its owner alone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.core.private_files import keep_token_private

TOKEN = {"RAY_AUTH_MODE": "token"}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".ray/auth_token"


def test_a_new_token_is_private_from_its_first_moment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: object) -> None:
        raise AssertionError("a file that was readable until now")

    monkeypatch.setattr(Path, "chmod", late)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: keep_token_private(TOKEN), range(8)))
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert len(file.read_text()) == 64 and [path.name for path in file.parent.iterdir()] == [
        "auth_token"
    ]


def test_an_old_token_is_kept_and_made_private(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("abc")
    file.chmod(0o644)
    keep_token_private(TOKEN)
    assert file.read_text() == "abc" and file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "variables",
    [{}, TOKEN | {"RAY_AUTH_TOKEN": "x"}, TOKEN | {"RAY_AUTH_TOKEN_PATH": "/elsewhere"}],
)
def test_nothing_is_made_where_no_token_is_asked_for_or_one_is_given(
    file: Path, variables: dict[str, str]
) -> None:
    keep_token_private(variables)
    assert not file.exists()
