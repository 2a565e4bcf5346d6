"""The model that CONTRIBUTING.md adds step by step: its blocks of code, as they stand there."""

import dataclasses
import re
import sys
import types

from arcore.model import AutoregressiveModel
from tests.places import ROOT
from tests.support.cases import Case

MODEL = "arcore/models/markov_chain.py"
ROWS = "tests/arcore/cases/markov_chain.py"


def code_of(path: str) -> str:
    """The block of CONTRIBUTING.md that is the file at a path: its first line says so."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"^```python\n# {re.escape(path)}\n(.*?)^```$", text, re.DOTALL | re.M)
    return str(code)


def _module(path: str) -> types.ModuleType:
    module = types.ModuleType(f"worked_example.{path.removesuffix('.py').replace('/', '_')}")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(code_of(path), path, "exec"), module.__dict__)
    return module


def model_class() -> type[AutoregressiveModel]:
    """The class of its model, which stands in no folder that the zoo looks in."""
    kind: type[AutoregressiveModel] = _module(MODEL).MarkovChain
    return kind


def cases() -> list[Case]:
    kind = model_class()
    return [dataclasses.replace(case, defined=kind) for case in _module(ROWS).CASES]
