"""What the columns of a table were taken for, in lines that name the options that change it."""

import math
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence

import pandas as pd
import yaml

from pipeline.datasets.user.user_data import listed

INTEGER = r"[-+]?\d+"
SHARE = 10  # of rows: where fewer values than a tenth of them differ, values repeat
REALS, INTEGERS, NAMES = "reals", "integers as levels", "names"
MANY = "reals, integers of many different values"
UNIQUE = "reals, integers that all differ (an index?)"
REPEATED = "reals of few different values"
CLASS, CONDITIONS, LEFT_OUT = "class to condition on", "conditions", "left out"
KINDS = (REALS, MANY, UNIQUE, REPEATED, INTEGERS, NAMES, CLASS, CONDITIONS, LEFT_OUT)
PRINTED_WIDTH, MOST_SHOWN = 78, 4
_SPACE = "\0"  # where no line breaks
Levels = Mapping[str, int | list[str]]  # of columns: their number, or names


def describe(table: pd.DataFrame, levels: Levels, roles: Mapping[str, str]) -> list[str]:
    """Name each column of a table of texts under what it was taken for.

    Arguments:
        table: its cells as they are in the file.
        levels: of the columns that have some.
        roles: of the columns that are not modelled: CLASS, CONDITIONS or LEFT_OUT.
    """
    kinds = {kind: list[str]() for kind in KINDS}
    for name in table.columns:
        kind = roles.get(name) or _taken_for(table[name], levels.get(name))
        kinds[kind].append(name)
    lines = []
    for kind, names in ((kind, kinds[kind]) for kind in KINDS if kinds[kind]):
        lines += _wrapped(kind, [_shown(name, levels.get(name)) for name in names])
        lines += [f"  {change}" for change in _changes(kind, table[names[0]])]
    one = next(name for name in table.columns if name not in roles)
    lines += ["any column:", f"  {_option('conditions', [one])} conditions on it"]
    return [*lines, f"  {_option('drop', [one])} leaves it out"]


def _taken_for(column: pd.Series, levels: int | list[str] | None) -> str:
    """Say what a column that is modelled was taken for."""
    cells = column.dropna()
    is_integer = bool(cells.str.fullmatch(INTEGER).all())
    if levels is not None:
        return INTEGERS if is_integer or isinstance(levels, int) else NAMES
    if cells.nunique() * SHARE < len(cells):
        return REPEATED
    if is_integer:
        return UNIQUE if cells.is_unique else MANY
    return REALS


def _shown(name: str, levels: int | list[str] | None) -> str:
    """Return the name of a column, and its levels or names."""
    if isinstance(levels, list):
        return f"{listed([name])} {len(levels)} ({listed(levels, MOST_SHOWN)})"
    return listed([name]) if levels is None else f"{listed([name])} {levels} (0 to {levels - 1})"


def _changes(kind: str, first: pd.Series) -> list[str]:
    """Say which options change what columns were taken for, for the first of them."""
    changes, name = [], str(first.name)
    if kind == REPEATED:
        changes.append("beware: a density of them has no finite best likelihood")
        values = sorted(first.dropna().unique())
        shown = values if len(values) <= MOST_SHOWN else ["..."]
        changes.append(f"{_option('levels', {name: shown})} makes these values levels")
    if kind in (REALS, MANY, UNIQUE):
        k = _option("levels", {name: "k"})
        changes.append(f"{k} makes whole numbers from 0 to k - 1 levels")
    if kind == INTEGERS:
        changes.append(f"{_option('levels', {name: 0})} makes it real")
    if kind in (INTEGERS, NAMES):
        changes.append(f"{_option('label', name)} makes it a class to condition on")
    return changes


def _option(name: str, value: object) -> str:
    """Write an option for a shell, its value in YAML.

    Example:
        >>> _option("drop", ["0", "a b"]), _option("label", "kind")
        ("'drop=[0, a b]'", 'label=kind')
    """
    text = yaml.safe_dump(value, default_flow_style=True, width=math.inf).partition("\n")[0]
    text = re.sub(r"'(\d+)'", r"\1", text)  # the name of a column may be an integer
    is_plain = not re.search(r'["$`\\!]', text)
    return f'"{name}={text}"' if is_plain and "'" in text else shlex.quote(f"{name}={text}")


def _wrapped(kind: str, shown: Sequence[str]) -> list[str]:
    """List columns of a kind on lines for a terminal of 80 columns, which break between columns."""
    text = f"{kind}: {', '.join(one.replace(' ', _SPACE) for one in shown)}"
    width, indent = PRINTED_WIDTH, " " * 4
    lines = textwrap.wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(_SPACE, " ") for line in lines]
