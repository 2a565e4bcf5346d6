"""The token of an embedded Ray, in a file that nobody else on the machine can read."""

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from pipeline.core.errors import UserError


def keep_token_private(variables: Mapping[str, str]) -> None:
    """Make Ray's token of mode 0600 before Ray makes one that all can read; fix an old one.

    Nothing is done where the token is given otherwise, or no token is asked for.
    """
    elsewhere = variables.get("RAY_AUTH_TOKEN") or variables.get("RAY_AUTH_TOKEN_PATH")
    if variables.get("RAY_AUTH_MODE") != "token" or elsewhere:
        return
    path = Path.home() / ".ray" / "auth_token"
    try:
        if path.exists():
            if path.stat().st_mode & 0o077:
                path.chmod(0o600)
            return
        path.parent.mkdir(mode=0o700, exist_ok=True)
        partial = path.with_name(f".auth_token.{secrets.token_hex(8)}")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        try:
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(partial, path)
        finally:
            partial.unlink()
    except OSError as error:
        raise UserError(f"{path}: expected a private file for Ray's token: {error}") from None
