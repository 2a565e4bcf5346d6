"""Score the weights that results/ keeps, and say whether the recorded numbers come out.

Example: python -m stages.rescore mushrooms-nade
"""

from __future__ import annotations

import argparse
import math

from stages import cli

ROUNDING = 1e-6  # relative: two machines may round to either side of a printed digit


def main() -> None:
    """Parse the command line and rescore; none lists what there is."""
    parser = argparse.ArgumentParser(prog="python -m stages.rescore", description=__doc__)
    parser.add_argument(
        "experiments", nargs="*", help="folders of results/ with weights; none lists them"
    )
    parser.add_argument("--all", action="store_true", help="all that results/ has")
    arguments = parser.parse_args()
    from pipeline.core import paths  # here: --help needs no torch
    from pipeline.core.errors import UserError, one_line

    results = paths.results()
    kept = sorted({file.relative_to(results).parts[0] for file in results.rglob("*.safetensors")})
    if arguments.all:
        arguments.experiments = kept
    if not arguments.experiments:
        print("\n".join(kept))
        return
    from pipeline.evaluation import rescoring
    from pipeline.reporting import wording

    failed, different = [], []
    for name in arguments.experiments:
        try:
            found = rescoring.rescore(name)
        except UserError as error:
            failed.append(str(error))
            continue
        except OSError as error:
            failed.append(f"{name}: {one_line(error)}")
            continue
        for split, then, score in found.pairs():
            pairs = [(s.nats, s.nats_stderr) for s in (then, score)]
            recorded, now = (wording.with_error(*pair) for pair in pairs)
            apart = score.nats - then.nats
            what = name if split == "test" else f"{name}, {split}"
            bound = "" if found.record.exact else "at most "
            said = f"recorded {bound}{recorded}, now {bound}{now} nats ({apart:+.1e})"
            print(f"{what}: {said}", flush=True)
            alike = all(math.isclose(*both, rel_tol=ROUNDING) for both in zip(*pairs, strict=True))
            if recorded != now and not alike:
                different.append(what)
    if different:
        failed.append(f"other numbers than recorded: {', '.join(different)}")
    if failed:
        raise UserError("; ".join(failed))


if __name__ == "__main__":
    cli.run(main)
