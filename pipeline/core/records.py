"""Records: frozen dataclasses that travel as one flat JSON object, whose keys are their fields.

A field that is a record itself is flattened, so that values that come together are one field here
and several keys there.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, cast

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    TypeAdapter,
    ValidationError,
    create_model,
    field_validator,
)

from pipeline.core import atomic
from pipeline.core.errors import UserError, one_line, require, require_no_pipe, unknown_name

T = TypeVar("T")
_LEFT_OUT = "left out of the file"
_WORDS: Mapping[object, str] = {
    int: "an integer",
    float: "a number",
    str: "a text",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
}
_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, protected_namespaces=())


def left_out(default: T) -> T:
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
        ...     num_folds: int = left_out(1)
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
            value, hint = self.__dict__[field.name], _hints(type(self))[field.name]
            if field.metadata.get(_LEFT_OUT) and value == field.default:
                continue
            if _record_of(hint) is not None:
                described |= {} if value is None else value.to_dict()
            elif _element_of(hint) is not None:
                described[field.name] = [one.to_dict() for one in value]
            else:
                described[field.name] = value
        return described

    @classmethod
    def from_dict(cls, found: Mapping[str, object], where: str) -> Self:
        """Build the record of a file's keys; others are ignored.

        A record inside is there as soon as one of its keys is. A number is no NaN, no truth value
        and no text; values are kept as they are.

        Arguments:
            found: keys and values.
            where: what to call them in an error, e.g. the file's path.

        Raises:
            UserError: naming `where` and the key that is missing or of another type.
        """
        given: dict[str, object] = {}
        for name, hint in _hints(cls).items():
            inner, element = _record_of(hint), _element_of(hint)
            if inner is not None:
                if type(None) not in _options(hint) or inner.keys() & set(found):
                    given[name] = inner.from_dict(found, where)
            elif element is not None and isinstance(found.get(name), list):
                given[name] = _elements(element, found[name], f"{where}: {name}", where)
            elif name in found:
                given[name] = found[name]
        validate(cls, given, where)
        return cls(**given)

    @classmethod
    def keys(cls) -> set[str]:
        """Return every key that the record may have in a file."""
        keys: set[str] = set()
        for name, hint in _hints(cls).items():
            inner = _record_of(hint)
            keys |= {name} if inner is None else inner.keys()
        return keys


def validate(cls: type[object], given: Mapping[str, object], where: str) -> None:
    """Check the values of a dataclass's fields by their types, strictly.

    Raises:
        UserError: naming `where` and the first field that is missing or of another type.
    """
    try:
        _model(cast("Hashable", cls)).model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        if first["type"] == "missing":
            raise UserError(f"{where}: missing {name}") from None
        require(False, f"{where}: {name}", _wanted(_hints(cls)[name]), given[name])


@functools.cache
def _model(cls: Any) -> type[BaseModel]:
    """Return the model by which pydantic checks the fields of a dataclass."""
    hints, fields = _hints(cls), {}
    for field in dataclasses.fields(cls):
        needed = field.default is field.default_factory is dataclasses.MISSING
        fields[field.name] = (hints[field.name], ... if needed else None)
    return create_model(
        cls.__name__,
        __config__=_STRICT,
        __validators__={"is_number": cast(Any, field_validator("*")(_refuse_nan))},
        **cast(Any, fields),
    )


def _refuse_nan(value: object) -> object:
    for one in value.values() if isinstance(value, Mapping) else [value]:
        if isinstance(one, float) and math.isnan(one):
            raise ValueError("not a number")
    return value


def _hints(cls: type[object]) -> dict[str, object]:
    return _evaluated(cast("Hashable", cls))


@functools.cache
def _evaluated(cls: Any) -> dict[str, object]:
    return dict(typing.get_type_hints(cls))


def _options(hint: object) -> tuple[object, ...]:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _record_of(hint: object) -> type[Record] | None:
    """Return the kind of record that a field holds, None for anything else."""
    for option in _options(hint):
        if isinstance(option, type) and issubclass(option, Record):
            return option
    return None


def _element_of(hint: object) -> type[Record] | None:
    """Return the kind of records that a field is a tuple of, None for anything else."""
    return _record_of(typing.get_args(hint)[0]) if typing.get_origin(hint) is tuple else None


def _elements(element: type[Record], found: object, name: str, where: str) -> tuple[Record, ...]:
    entries = cast("list[Mapping[str, object]]", found)
    fits = all(isinstance(one, Mapping) for one in entries)
    require(fits, name, "a list of objects", found)
    return tuple(element.from_dict(one, where) for one in entries)


def _wanted(hint: object) -> str:
    """Return what a field holds, in words."""
    kinds = [kind for kind in _options(hint) if kind is not type(None)]
    nullable = " or null" if type(None) in _options(hint) else ""
    if _element_of(hint) is not None:
        return f"a list of objects{nullable}"
    return (
        " or ".join(_WORDS.get(typing.get_origin(kind) or kind, "a mapping") for kind in kinds)
        + nullable
    )


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
    """Return the value of a key, of a type: int, float, str, bool, dict or list.

    Raises:
        UserError: naming `where` and the key that is missing or of another type.

    Example:
        >>> value_of({"epochs": "3"}, "epochs", int, "a.json")
        Traceback (most recent call last):
        ...
        pipeline.core.errors.UserError: a.json: epochs: expected an integer, got '3'
    """
    if key not in found:
        raise UserError(f"{where}: missing {key}")
    value = found[key]
    try:
        _adapter(cast("Hashable", kind)).validate_python(value)
    except ValidationError:
        require(False, f"{where}: {key}", _WORDS[kind], value)
    return cast(T, value)


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[object]:
    kind = dict[str, Any] if kind is dict else kind
    return TypeAdapter(Annotated[kind, AfterValidator(_refuse_nan)], config=_STRICT)


def require_known(described: Mapping[str, object], known: Collection[str], where: str) -> None:
    """Refuse a mapping that has another key than the known ones.

    Raises:
        UserError: naming `where`, the key and the known ones.
    """
    for key in described:
        if key not in known:
            raise unknown_name(f"key of {where}", key, known)


def read_object(path: Path) -> dict[str, object]:
    """Read a JSON object from a file.

    Raises:
        UserError: naming the file, if it is missing or malformed, or has a key twice.
    """
    return parse_object(_content(path, "JSON"), str(path))


def parse_object(content: bytes | str, where: str) -> dict[str, object]:
    """Read a JSON object from a file's content.

    Arguments:
        content: UTF-8.
        where: what to call it in an error, e.g. the file's path.

    Raises:
        UserError: naming `where`, if it is malformed, or has a key twice.
    """
    return _parsed(content, where, "JSON", _from_json)


def read_yaml(path: Path) -> dict[str, object]:
    """Read a YAML mapping from a file, by the safe loader.

    Raises:
        UserError: naming the file, if it is missing or malformed, or has a key twice.
    """
    return _parsed(_content(path, "YAML"), str(path), "YAML", _from_yaml)


def _content(path: Path, kind: str) -> bytes:
    require_no_pipe(path)
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing; run the stage that writes it") from error
    except OSError as error:
        raise UserError(f"{path}: expected {kind}, got {error.strerror}") from error


def _parsed(
    content: bytes | str, where: str, kind: str, parse: Callable[[str], object]
) -> dict[str, object]:
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        found = parse(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{where}: expected {kind}, got {one_line(error)}") from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise UserError(f"{where}: expected an object, got {type(found).__name__}")
    return found


def _from_json(text: str) -> object:
    return json.loads(text, object_pairs_hook=_without_twins)


def _without_twins(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} twice")
    return found


def _from_yaml(text: str) -> object:
    return yaml.load(text, Loader=_Loader)  # noqa: S506


class _Loader(yaml.SafeLoader):
    """The safe loader, which takes the last of several equal keys unless it is told not to."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        plain = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [(key.tag, key.value) for key in plain if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"the key {key[1]!r} twice{node.start_mark}")
        return super().construct_mapping(node, deep)


def write_object(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON object to a file in one step, indented, with a line feed at its end."""
    atomic.write_text(path, json.dumps(content, indent=2) + "\n")
