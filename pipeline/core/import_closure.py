"""Which files of a checkout a module is built on: of its folder, and of all that it imports.

The rule is of folders: `pipeline.training` counts whole, with the data files in it, and so does
each package that one of its modules imports. A module that is in no such folder counts alone
(`arcore/events.py`, `stages/train.py`, `pipeline/datasets/base.py`).

What is asked for by a name counts where it is asked for: a module of `arcore.models`, a folder of
datasets. An import of it from elsewhere is not followed, one by its siblings is.

Imports are found in the source, in functions too; nothing is imported.
"""

import ast
import functools
import hashlib
import importlib.util
import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.core.errors import UserError

MODELS = "arcore.models"
ALONE = ("pipeline.datasets",)  # packages whose modules and folders count one by one
BY_NAME = re.compile(
    r"arcore\.models\.\w+|pipeline\.datasets\.(clips|embedded|images|sounds|tables|user)\b"
)


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
        self.imports = functools.cache(self._imports)
        self._files = functools.cache(self._files_of)
        self._followed = functools.cache(self._imports_of)

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
        for path in (root / f"{package}.py", *(root / package).rglob("*.py")):
            if path.is_file():
                file = path.relative_to(root).as_posix()
                self.modules[
                    file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                ] = file

    def _imports(self, module: str) -> set[str]:
        """The modules of the checkout that one imports."""
        file = self.modules[module]
        found: set[str] = set()
        for node in ast.walk(_parsed(self._path(file).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                if node.level or node.module is None:
                    raise UserError(f"{file}:{node.lineno}: expected an absolute import")
                inside = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= {one if one in self.modules else node.module for one in inside}
        return found & self.modules.keys()

    def hashes(self, *modules: str) -> dict[str, str]:
        """Return the files that modules are built on, sorted, each with its hash.

        Files without code, as most `__init__` are, decide nothing and are passed over.

        Arguments:
            modules: where to begin, e.g. "stages.train".
        """
        left, units = list(modules), set[str]()
        files: dict[str, str] = {}
        while left:
            module = left.pop()
            if module not in self.modules:
                raise UserError(f"{module}: expected a module in {self.root}, found none")
            unit = self._unit(module)
            if unit not in units:
                units.add(unit)
                files |= self._files(unit)
                left += self._followed(unit)
        return {file: digits for file, digits in sorted(files.items()) if digits != NO_CODE}

    def _unit(self, module: str) -> str:
        """What a module counts with: a folder, or itself."""
        if named := BY_NAME.match(module):
            return named[0]
        parts = module.split(".")
        unit = ".".join(parts[: 3 if ".".join(parts[:2]) in ALONE else 2])
        return unit if unit in self.modules else module

    def _imports_of(self, unit: str) -> list[str]:
        inside = [module for module in self.modules if self._unit(module) == unit]
        found = {name for module in inside for name in self.imports(module)}
        home = unit.split(".")[:2]
        return [one for one in found if not BY_NAME.match(one) or one.split(".")[:2] == home]

    def _files_of(self, unit: str) -> dict[str, str]:
        path = self._path(self.modules[unit])
        whole = path.name == "__init__.py" and unit.count(".") and unit not in (*ALONE, MODELS)
        inside = path.parent.rglob("*") if whole else [path]
        above = [self.modules[package] for package in _parents(unit) if package in self.modules]
        files = [one for one in inside if one.is_file() and one.suffix != ".pyc"]
        root = self._roots[unit.partition(".")[0].removesuffix(".py")]
        found = [*files, *(root / file for file in above)]
        return {one.relative_to(root).as_posix(): _file_hash(one) for one in found}

    def _path(self, file: str) -> Path:
        return self._roots[file.partition("/")[0].removesuffix(".py")] / file


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


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


def _file_hash(path: Path) -> str:
    """Hash a file: the code of a Python module, the content of any other; 16 hexadecimal digits."""
    if path.suffix == ".py":
        return code_hash(path.read_text(encoding="utf-8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


NO_CODE = code_hash("")
