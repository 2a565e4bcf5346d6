"""The stages of dvc.yaml that mix experiments, written from params.yaml.

DVC's `foreach` cannot give each entry as many dependencies as it has members, so that these stages
stand in dvc.yaml one by one, between two comments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.core.errors import UserError, require

BEGIN = "  # Of `mixtures` in params.yaml, written by python -m stages.params; not by hand."
END = "  # The end of these."


def completed(text: str, mixtures: Mapping[str, Any]) -> str:
    """Return dvc.yaml with the stages of these mixtures between the comments.

    Arguments:
        text: of dvc.yaml.
        mixtures: the section of params.yaml.

    Raises:
        UserError: if there are mixtures and no such place, or for an entry that is none.
    """
    before, begin, rest = text.partition(BEGIN + "\n")
    _, end, after = rest.partition(END + "\n")
    if not begin or not end:
        if mixtures:
            raise UserError(f"dvc.yaml: expected the lines {BEGIN.strip()!r} and {END.strip()!r}")
        return text
    stages = "\n".join(_stages(name, entry) for name, entry in mixtures.items())
    return f"{before}{BEGIN}\n{stages}{END}\n{after}"


def _stages(name: str, entry: Any) -> str:
    where = f"mixtures.{name}"
    require(isinstance(entry, Mapping), where, "a mapping", entry)
    dataset, members = entry.get("dataset"), entry.get("mixture")
    require(isinstance(dataset, str), f"{where}.dataset", "a name", dataset)
    require(isinstance(members, list), f"{where}.mixture", "a list of experiments", members)
    params = [f"mixtures.{name}.dataset", f"mixtures.{name}.mixture"]
    params += [f"experiments.{member}.evaluation" for member in members]
    return f"""\
  mix-{name}:
    cmd: python -m stages.mix {name}
    params:
{_items(params)}
    deps:
{_items(f"models/{member}" for member in members)}
      - data/shards/{dataset}
      - dependencies/mix.txt
      - pipeline/conf/dataset/{dataset}.yaml
    outs:
      - models/{name}

  evaluate-{name}:
    cmd: python -m stages.evaluate {name}
    params:
      - mixtures.{name}
    deps:
      - data/shards/{dataset}
      - models/{name}
      - dependencies/evaluate.txt
      - pipeline/conf/dataset/{dataset}.yaml
    outs:
      - evaluation/{dataset}/{name}
    metrics:
      - metrics/{name}.json
"""


def _items(values: Any) -> str:
    return "\n".join(f"      - {value}" for value in values)
