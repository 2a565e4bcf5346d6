"""The formulas stay what they are: kept log-probabilities of every case.

A scorer and a decoder that share code change together. Running this module (`python -m`) writes the
values again; a change of a value is a change of a model, for which kept weights are void.
"""

import json
from pathlib import Path

import torch
from torch.testing import assert_close

from tests.arcore.cases import CASES, cases_where
from tests.support.cases import Case

KEPT = Path(__file__).with_name("golden.json")


def scored(case: Case) -> list[float]:
    """The log-probabilities of three rows, by a function of the case alone."""
    found = case.build_exact().log_prob(case.values(3), case.condition(3))
    return [float(value) for value in found.detach()]


@cases_where(lambda case: True, tiny=True)
def test_log_probabilities_are_those_on_record(case: Case) -> None:
    expected = json.loads(KEPT.read_text(encoding="utf-8"))[case.name]
    assert_close(torch.tensor(scored(case)), torch.tensor(expected), rtol=1e-5, atol=1e-6)


def test_the_record_has_no_other_cases() -> None:
    assert list(json.loads(KEPT.read_text(encoding="utf-8"))) == sorted(map(str, CASES))


def main() -> None:
    values = {case.name: [float(f"{one:.8g}") for one in scored(case)] for case in CASES}
    lines = [f"  {json.dumps(name)}: {json.dumps(values[name])}" for name in sorted(values)]
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
