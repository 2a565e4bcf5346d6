"""The one exception that a user sees as a single line."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.core.redaction import redacted

LONGEST = 200  # characters of an error
LISTED = 300  # characters of known names in one


class UserError(Exception):
    """Something the user can put right: bad input, missing data, no network, no disk space.

    The message names the argument or file, what was expected and what came, in one line. Stages
    print it without a traceback and exit with status 1.
    """


class AskedToStop(UserError):
    """Work that was asked to stop, and keeps what is done of it."""


class SiteError(UserError):
    """Storage, shards, hosts or code are wrong, whatever is asked of them.

    A trial of a search that meets it has no value yet, where another `UserError` says that its
    values cannot be.
    """


def require(holds: bool, name: str, expected: str, got: object) -> None:
    """Refuse what a user gave unless it holds."""
    if not holds:
        raise UserError(f"{name}: expected {expected}, got {shortened(repr(got))}")


def shortened(text: str) -> str:
    """Return a text on one line, of at most `LONGEST` characters."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def require_no_pipe(path: Path) -> None:
    """Refuse a pipe or device, which has no end or waits for whoever writes to it."""
    fits = not path.exists() or path.is_file() or path.is_dir()
    require(fits, str(path), "a file or a folder", "a pipe or a device")


def require_seed(seed: int, name: str) -> None:
    """Refuse a seed that some library would not take: outside [0, 2^31)."""
    require(0 <= seed < 1 << 31, name, "an integer in [0, 2^31)", seed)


def unknown_name(what: str, name: object, known: Iterable[str]) -> UserError:
    """Build the error for a name that is not known, with the nearest known names.

    Of many known names the three nearest are all that it says.

    Example:
        >>> str(unknown_name("dataset", "digit", ["digits", "mnist"]))
        "unknown dataset 'digit'; did you mean 'digits'? (known: digits, mnist)"
    """
    names = sorted(known)
    listed = ", ".join(names) or "none"
    many = len(listed) > LISTED
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.0 if many else 0.5)
    hint = f"; did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    known = f"{len(names)} are known" if many else f"known: {listed}"
    return UserError(f"unknown {what} {shortened(repr(str(name)))}{hint} ({known})")


def one_line(error: BaseException) -> str:
    """Return an exception's message on one line, shortened, its URIs without secrets."""
    return shortened(redacted(" ".join(str(error).split())) or type(error).__name__)


@contextlib.contextmanager
def explained(what: str, *kinds: type[BaseException]) -> Iterator[None]:
    """Raise errors of some kinds as a `UserError`: some words, or none, and what the error says."""
    try:
        yield
    except kinds as error:
        raise UserError(f"{what} {one_line(error)}".lstrip()) from error
