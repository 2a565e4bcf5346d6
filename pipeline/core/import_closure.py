"""Which files of a checkout a module needs: what it imports, what that imports, data they name.

Found in the source, nothing is imported. Followed are

- imports anywhere in a module, in functions too, but for those under `if TYPE_CHECKING:`;
- `import_module(f"package.{name}")`: the modules of that package that are chosen, or else all;
- a string that is the name of a file beside the module, as in `with_name("split.json")`.

Modules of other packages are followed where `Checkout.add` has found them. Files without code, as
most `__init__` are, decide nothing and are passed over.

A package whose submodule alone is imported takes part with its own `__init__`, not with what that
imports for others (`import arcore.events` runs `arcore/__init__.py`, which loads `arcore/model.py`,
but nothing of it is used); importing a module changes nothing else here, which makes this sound.
"""

import ast
import functools
import hashlib
import importlib.util
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import UserError

IMPORTERS = ("import_module", "__import__")
FILE_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")


@dataclass(frozen=True)
class Needs:
    """What one module asks for: modules, packages whose modules are named, data files."""

    modules: set[str] = field(default_factory=set)
    by_name: set[str] = field(default_factory=set)
    data: set[str] = field(default_factory=set)


class Checkout:
    """The modules of a checkout's packages.

    Attributes:
        modules: the file of each module, relative to the root, or to the folder of its package.
    """

    def __init__(self, root: Path, packages: Iterable[str]) -> None:
        self.root = root
        self.modules: dict[str, str] = {}
        self._roots: dict[str, Path] = {}
        for package in packages:
            self._find(package, root)
        self.needs = functools.cache(self._needs)
        self._hash = functools.cache(lambda file: file_hash(self._path(file)))

    def add(self, module: str) -> None:
        """Follow the package of a module too, which is installed or on Python's path.

        Nothing is imported, and one that is not there is not added.
        """
        package = module.partition(".")[0]
        if package in self._roots:
            return
        if (self.root / package).is_dir():
            self._find(package, self.root)
        elif (spec := importlib.util.find_spec(package)) is not None:
            places = [*(spec.submodule_search_locations or []), *filter(None, [spec.origin])]
            self._find(package, Path(places[0]).parent)

    def _find(self, package: str, root: Path) -> None:
        self._roots[package] = root
        files = [root / f"{package}.py", *(root / package).rglob("*.py")]
        for path in files:
            if path.is_file():
                file = path.relative_to(root).as_posix()
                self.modules[module_name(file)] = file

    def _path(self, file: str) -> Path:
        return self._roots[file.partition("/")[0].removesuffix(".py")] / file

    def hashes(
        self, *modules: str, chosen: Mapping[str, Collection[str]] | None = None
    ) -> dict[str, str]:
        """Return the files of `closure`, each with its hash, but those without code."""
        each = ((file, self._hash(file)) for file in self.closure(*modules, chosen=chosen))
        return {file: digits for file, digits in each if digits != NO_CODE}

    def closure(
        self, *modules: str, chosen: Mapping[str, Collection[str]] | None = None
    ) -> list[str]:
        """Return the files that modules need, themselves with them, as `modules` has them, sorted.

        Arguments:
            modules: where to begin, e.g. "stages.train".
            chosen: of packages whose modules are imported by name, those that will be,
                e.g. {"arcore.models": ["made"]}; of others, all may be.
        """
        chosen = chosen or {}
        left = [*modules, *(f"{one}.{name}" for one, names in chosen.items() for name in names)]
        seen: set[str] = set()
        files: set[str] = set()
        while left:
            module = left.pop()
            if module in seen:
                continue
            if module not in self.modules:
                raise UserError(f"{module}: expected a module in {self.root}, found none")
            seen.add(module)
            needs = self.needs(module)
            left += needs.modules
            for package in needs.by_name - set(chosen):
                left += [name for name in self.modules if name.startswith(f"{package}.")]
            files |= needs.data
        named = seen | {parent for module in seen for parent in _parents(module)}
        files |= {self.modules[module] for module in named if module in self.modules}
        return sorted(files)

    def _needs(self, module: str) -> Needs:
        file, found = self.modules[module], Needs()
        for node in _running(_parsed(self._path(file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant):
                if isinstance(node.value, str):
                    self._add_file(file, node.value, found)
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    found.modules.add(alias.name)
                    if alias.asname is None:  # binds the first name, whose attributes follow
                        found.modules.update(_parents(alias.name))
            elif isinstance(node, ast.ImportFrom):
                if node.level or node.module is None:
                    raise UserError(f"{file}:{node.lineno}: expected an absolute import")
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    found.modules.add(inner if inner in self.modules else node.module)
            elif isinstance(node, ast.Call) and _last_name(node.func) in IMPORTERS:
                found.by_name.add(_package_of_import(node, file))
        ours = self.modules.keys()
        return Needs(found.modules & ours, found.by_name & ours, found.data)

    def _add_file(self, file: str, name: str, found: Needs) -> None:
        beside = file.rpartition("/")[0] + f"/{name}"
        if FILE_NAME.fullmatch(name) and self._path(beside).is_file():
            if name.endswith(".py"):
                found.modules.add(module_name(beside))
            else:
                found.data.add(beside)


def module_name(file: str) -> str:
    """Return the name of the module that a file holds, a path relative to the root."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a tree, without what stands under `if TYPE_CHECKING:`."""
    left = [tree]
    while left:
        node = left.pop()
        yield node
        if isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING":
            left += node.orelse
        else:
            left += ast.iter_child_nodes(node)


def _last_name(node: ast.expr) -> str:
    """The name that an expression ends in: `b` of `b` and of `a.b`; nothing of any other."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _package_of_import(node: ast.Call, file: str) -> str:
    """The package of `import_module(f"package.{name}")`."""
    asked = node.args[0] if node.args else None
    if isinstance(asked, ast.JoinedStr) and isinstance(asked.values[0], ast.Constant):
        package, dot, rest = str(asked.values[0].value).rpartition(".")
        if dot and not rest:
            return package
    raise UserError(
        f'{file}:{node.lineno}: expected import_module(f"package.{{name}}"), '
        f"got {ast.unparse(node)}"
    )


@functools.cache
def code_hash(source: str) -> str:
    """Hash the syntax of a module without comments and docstrings: 16 hexadecimal digits.

    The hash is the same under every version of Python that can read the module.

    Raises:
        SyntaxError: for no Python.
    """
    return hashlib.sha256(repr(_syntax(_parsed(source))).encode()).hexdigest()[:16]


@functools.cache
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _syntax(node: object) -> object:
    """Return a tree as plain values, without what only some versions of Python have."""
    if isinstance(node, list):
        return [_syntax(one) for one in node if not _is_text(one)]
    if not isinstance(node, ast.AST):
        return node
    found: list[object] = [type(node).__name__]
    for name in node._fields:  # by a loop, since thousands of nodes are met at each start
        value = _syntax(getattr(node, name, None))
        if value is not None and value != []:
            found.append((name, value))
    return tuple(found)


def _is_text(node: object) -> bool:
    """Tell whether a statement is a text alone, as a docstring is, which does nothing."""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def file_hash(path: Path) -> str:
    """Hash a file: the code of a Python module, the content of any other; 16 hexadecimal digits."""
    if path.suffix == ".py":
        return code_hash(path.read_text(encoding="utf-8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


NO_CODE = code_hash("")
