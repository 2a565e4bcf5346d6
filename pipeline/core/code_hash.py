"""A hash of what a module does, which comments, docstrings and layout leave as it is."""

from __future__ import annotations

import hashlib
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

LAYOUT = {tokenize.INDENT: "\t", tokenize.DEDENT: "\b", tokenize.NEWLINE: "\n"}
SKIPPED = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
# Python 3.12 takes f-strings apart; 3.11 leaves them whole, as is done here for both.
OPENING = {getattr(tokenize, name, None) for name in ("FSTRING_START", "TSTRING_START")}
CLOSING = {getattr(tokenize, name, None) for name in ("FSTRING_END", "TSTRING_END")}
INTERPOLATED = re.compile("[rR]?[fFtT]")


def code_hash(source: str) -> str:
    r"""Hash the tokens of a module without comments and docstrings: 16 hexadecimal digits.

    Line breaks within brackets, blank lines and the width of an indentation do not count; quotes
    and trailing commas do. The hash is the same under every version of Python.

    Example:
        >>> bare = code_hash("def f(x):\n    return [x, 1]\n")
        >>> bare == code_hash("def f(x):\n  '''Double.'''\n\n  return [x,\n    1]  # really\n")
        True
        >>> bare == code_hash("def f(x):\n    return [x, 2]\n")
        False

    Raises:
        tokenize.TokenError: if a bracket or a string does not end.
    """
    texts = (text for line in _logical_lines(source) for text in line)
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """Hash a file: the code of a Python module, the content of any other; 16 hexadecimal digits."""
    if path.suffix == ".py":
        return code_hash(path.read_text(encoding="utf-8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _logical_lines(source: str) -> Iterator[list[str]]:
    """The tokens of each logical line; one of strings alone, as a docstring is, does nothing."""
    line: list[str] = []
    idle = True
    for kind, text in _tokens(source):
        if kind in SKIPPED:
            continue
        if kind not in LAYOUT:
            line.append(text)
            idle = idle and kind == tokenize.STRING and not INTERPOLATED.match(text)
        elif line and not idle:
            yield [*line, LAYOUT[kind]]
        elif kind != tokenize.NEWLINE:
            yield [LAYOUT[kind]]
        if kind in LAYOUT:
            line, idle = [], True


def _tokens(source: str) -> Iterator[tuple[int, str]]:
    lines = io.StringIO(source).readlines()
    opened: list[tuple[int, int]] = []
    for kind, text, start, end, _ in tokenize.generate_tokens(io.StringIO(source).readline):
        if kind in OPENING:
            opened.append(start)
        elif kind in CLOSING:
            start = opened.pop()
            if not opened:
                yield tokenize.STRING, _between(lines, start, end)
        elif not opened:
            yield kind, text


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    whole = lines[start[0] - 1 : end[0]]
    whole[-1] = whole[-1][: end[1]]
    whole[0] = whole[0][start[1] :]
    return "".join(whole)
