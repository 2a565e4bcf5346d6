"""Records: frozen dataclasses that travel as one flat JSON object.

The keys of the object are the fields. A field that is a record itself is flattened: one field here
and several keys there.
"""

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError

from pipeline.core import atomic
from pipeline.core.errors import (
    UserError,
    explained,
    require,
    require_no_pipe,
    shortened,
    unknown_name,
)

T = TypeVar("T")
_LEFT_OUT = "left out of the file"
_SIGNS = {
    "Input should be ": "",
    "Value error, ": "",
    "a valid integer": "an integer",
    "a valid boolean": "true or false",
    "a valid string": "a text",
    "a valid array": "a list",
    "an object": "a mapping",
    "valid ": "",
    "greater than or equal to": ">=",
    "less than or equal to": "<=",
    "greater than": ">",
    "less than": "<",
}


def omit_if_default(default: T) -> T:
    """Declare a field that is not written where it has its default."""
    field: T = dataclasses.field(default=default, metadata={_LEFT_OUT: True})
    return field


@dataclass(frozen=True, kw_only=True)
class Record:
    """Base of records.

    Fields are numbers, texts, truth values, mappings of such, records, or tuples of records.

    Example:
        >>> @dataclass(frozen=True, kw_only=True)
        ... class Outcome(Record):
        ...     name: str
        ...     nats: float
        ...     stderr: float | None = None
        ...     num_folds: int = omit_if_default(1)
        >>> Outcome(name="a", nats=1.5).to_dict()
        {'name': 'a', 'nats': 1.5, 'stderr': None}
        >>> Outcome.from_dict({"name": "a", "nats": "low"}, "a.json")
        Traceback (most recent call last):
        ...
        pipeline.core.errors.UserError: a.json: nats: expected a number, got 'low'
    """

    def to_dict(self) -> dict[str, object]:
        """Return the keys and plain values of the file, in the order of the fields."""
        described: dict[str, object] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata.get(_LEFT_OUT) and value == field.default:
                continue
            if isinstance(value, Record):
                described |= value.to_dict()
            elif _record_in(_hints(type(self))[field.name]) is None:
                described[field.name] = value
            elif value is not None:
                described[field.name] = [one.to_dict() for one in value]
        return described

    @classmethod
    def from_dict(cls, found: Mapping[str, object], where: str) -> Self:
        """Build the record of a file's keys; others are ignored.

        A record inside is there as soon as one of its keys is. A number is no NaN, no truth value
        and no text.
        """
        return validated(cls, cls._nested(found), where)

    @classmethod
    def _nested(cls, found: Mapping[str, object]) -> dict[str, object]:
        given: dict[str, object] = {}
        for name, hint in _hints(cls).items():
            record, value = _record_in(hint), found.get(name)
            if record is not None and typing.get_origin(hint) is not tuple:
                needed = type(None) not in typing.get_args(hint)
                if needed or record.keys() & set(found):
                    given[name] = record._nested(found)
            elif record is not None and isinstance(value, list):
                given[name] = [record._nested(v) if isinstance(v, dict) else v for v in value]
            elif name in found:
                given[name] = value
        return given

    @classmethod
    def keys(cls) -> set[str]:
        """Return every key that the record may have in a file."""
        keys: set[str] = set()
        for name, hint in _hints(cls).items():
            inner = None if typing.get_origin(hint) is tuple else _record_in(hint)
            keys |= {name} if inner is None else inner.keys()
        return keys


_hints = cast("Callable[[Any], dict[str, object]]", functools.cache(typing.get_type_hints))
adapter = cast("Callable[[Any], TypeAdapter[Any]]", functools.cache(TypeAdapter))


def _record_in(hint: object) -> type[Record] | None:
    """Return the kind of record that a field holds, or holds a tuple of; None for anything else."""
    nested = isinstance(hint, types.UnionType) or typing.get_origin(hint) is tuple
    for option in typing.get_args(hint) if nested else (hint,):
        if isinstance(option, type) and issubclass(option, Record):
            return option
    return None


def validated(kind: type[T], given: object, where: str, *, is_path: bool = False) -> T:
    """Return plain data as a type, strictly: no number is a text, a truth value or NaN.

    Errors call it `where`, to which a key is appended: by a dot and with those above it, as a path,
    or alone.
    """
    for name, value in flat(given).items() if isinstance(given, Mapping) else [("", given)]:
        require(value == value, f"{where}: {name.rpartition('.')[2]}", "a number", value)
    try:
        found: T = adapter(kind).validate_json(json.dumps(given, default=str), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        names = [str(part) for part in first["loc"]]
        if first["type"] == "missing":
            raise UserError(f"{where}: missing {names[-1]}") from None
        place = ".".join([where, *names]) if is_path else ": ".join([where, *names[-1:]])
        got = shortened(repr(first["input"]))
        raise UserError(f"{place}: expected {_in_words(first['msg'])}, got {got}") from None
    return found


def _in_words(message: str) -> str:
    for long, short in _SIGNS.items():
        message = message.replace(long, short)
    return message


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the leaves of a nested mapping by their dotted names.

    Example:
        >>> flat({"model": {"name": "made", "hidden": [500]}})
        {'model.name': 'made', 'model.hidden': [500]}
    """
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        inner = flat(value, f"{above}{key}.") if isinstance(value, Mapping) else None
        leaves |= {f"{above}{key}": value} if inner is None else inner
    return leaves


def value_of(found: Mapping[str, object], key: str, kind: type[T], where: str) -> T:
    """Return the value of a key, of a type: int, float, str, bool, dict or list."""
    if key not in found:
        raise UserError(f"{where}: missing {key}")
    if isinstance(found[key], list | dict) and isinstance(found[key], kind):
        return cast(T, found[key])  # whose content the caller checks
    return validated(kind, found[key], f"{where}: {key}")


def require_known(described: Mapping[str, object], known: Collection[str], where: str) -> None:
    """Refuse a mapping that has another key than the known ones."""
    for key in described:
        if key not in known:
            raise unknown_name(f"key of {where}", key, known)


def read_object(path: Path) -> dict[str, object]:
    """Read a JSON object from a file."""
    return parse_object(content_of(path, "JSON"), str(path))


def parse_object(content: bytes | str, where: str) -> dict[str, object]:
    """Read a JSON object from UTF-8; `where` names it in an error."""
    parse = functools.partial(json.loads, object_pairs_hook=_without_twins)
    return as_object(parsed(content, where, "JSON", parse), where)


def content_of(path: Path, kind: str) -> bytes:
    """Read a file, or raise the error that names it."""
    require_no_pipe(path)
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; run the stage that writes it") from error
    except OSError as error:
        raise UserError(f"{path}: expected {kind}, got {error.strerror}") from error


def parsed(content: bytes | str, where: str, kind: str, parse: Callable[[str], object]) -> object:
    """Parse UTF-8, or raise the error that names it."""
    with explained(f"{where}: expected {kind}, got", ValueError, YAMLError, RecursionError):
        return parse(content if isinstance(content, str) else content.decode("utf-8"))


def as_object(found: object, where: str) -> dict[str, object]:
    """Refuse all but a mapping whose keys are texts."""
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UserError(f"{where}: expected an object, got {type(found).__name__}")
    return found


def _without_twins(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    refuse_twins([key for key, _ in pairs])
    return dict(pairs)


def refuse_twins(keys: Sequence[str], where: object = "") -> None:
    """Refuse a key that a mapping has twice."""
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} twice{where}")


def write_object(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON object to a file in one step, indented, with a line feed at its end."""
    atomic.write_text(path, json.dumps(content, indent=2) + "\n")
