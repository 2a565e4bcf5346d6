"""Settings in YAML 1.2, as DVC reads it: of files, and of `dotted.key=value` arguments."""

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml
from yaml.resolver import BaseResolver

from pipeline.core.errors import require
from pipeline.core.records import as_object, content_of, parsed, refuse_twins

MOST_NODES, DEEPEST = 100_000, 50  # of a text whose aliases are expanded


def read_yaml(path: Path) -> dict[str, object]:
    """Read a YAML mapping from a file, as `parse_yaml` does."""
    return as_object(parse_yaml(content_of(path, "YAML"), str(path)), str(path))


def parse_yaml(content: bytes | str, where: str) -> object:
    """Read YAML 1.2: 017 is 17, 1:30 and yes are texts; no aliases or nesting without bound."""
    return parsed(content, where, "YAML", _from_yaml)


def _from_yaml(text: str) -> object:
    loader = _Loader(text)
    node = loader.get_single_node()
    _require_bounded(node)
    return None if node is None else loader.construct_document(node)


def _require_bounded(node: yaml.Node | None) -> None:
    """Refuse what would be too much with its aliases expanded, which they are not yet."""
    left, count = [(node, 1)], 0
    while left:
        one, depth = left.pop()
        count += 1
        if count > MOST_NODES or depth > DEEPEST:
            raise ValueError(f"more than {MOST_NODES:,} values, or more than {DEEPEST} levels")
        if isinstance(one, yaml.CollectionNode):
            inner = [part if isinstance(part, tuple) else (part,) for part in one.value]
            left += [(part, depth + 1) for parts in inner for part in parts]


class _Scalars(BaseResolver):
    """The scalars of YAML 1.2."""


class _Dumper(_Scalars, yaml.SafeDumper):
    """Quotes texts that would be read as something else."""


if TYPE_CHECKING or not yaml.__with_libyaml__:
    _Parser = yaml.SafeLoader
else:  # libyaml's takes a tenth of the time
    _Parser = yaml.CSafeLoader


class _Loader(_Scalars, _Parser):
    """Takes no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        refuse_twins(keys, node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = str(node.value)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


_Scalars.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
):
    _Scalars.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), list(_first)
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def dump_yaml(content: object) -> str:
    """Return the YAML that `parse_yaml` reads as these plain values, short lists on one line."""
    dump = functools.partial(yaml.dump, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return str(dump(content, default_flow_style=None))


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a nested mapping over another.

    Example:
        >>> overlaid({"sizes": [8], "batch": {"rows": 2, "seed": 1}}, {"batch": {"rows": 4}})
        {'sizes': [8], 'batch': {'rows': 4, 'seed': 1}}
    """
    merged = dict(below)
    for key, value in above.items():
        under = below.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[key] = overlaid(cast("Mapping[str, Any]", under), value) if both else value
    return merged


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted names as a nested mapping; a later one lies over an earlier one."""
    tree: dict[str, Any] = {}
    for name, value in values.items():
        for part in reversed(name.split(".")):
            value = {part: value}
        tree = overlaid(tree, value)
    return tree


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Return settings `dotted.key=value` as a nested mapping, a value being YAML.

    Example:
        >>> parse_overrides(["batch.rows=4", "sizes=[8, 16]"])
        {'batch': {'rows': 4}, 'sizes': [8, 16]}
    """
    tree: dict[str, Any] = {}
    for override in overrides:
        key, separator, text = override.partition("=")
        require(bool(key and separator), "override", "key=value", override)
        tree = overlaid(tree, nested({key: parse_yaml(text, key)}))
    return tree
