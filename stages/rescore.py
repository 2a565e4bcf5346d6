"""Score the weights that results/ keeps, and say whether the recorded numbers come out.

Example: python -m stages.rescore mushrooms-nade
"""

import argparse

from stages import cli


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
    asked = kept if arguments.all else arguments.experiments
    if not asked:
        print("\n".join(kept))
        return
    failed, different = [], []
    for name in asked:
        try:
            different += _differing(name)
        except UserError as error:
            failed.append(str(error))
        except OSError as error:
            failed.append(f"{name}: {one_line(error)}")
    if different:
        failed.append(f"other numbers than recorded: {', '.join(different)}")
    if failed:
        raise UserError("; ".join(failed))


def _differing(name: str) -> list[str]:
    """Print what was recorded and what comes out now; return the splits that differ."""
    from pipeline.evaluation import rescoring
    from pipeline.reporting import wording

    different = []
    for found in rescoring.rescore(name):
        pairs = [(score.nats, score.nats_stderr) for score in (found.recorded, found.now)]
        recorded, now = (wording.with_error(*pair) for pair in pairs)
        what = name if found.split == "test" else f"{name}, {found.split}"
        bound = "" if found.exact else "at most "
        apart = found.now.nats - found.recorded.nats
        said = f"recorded {bound}{recorded}, now {bound}{now} nats ({apart:+.1e})"
        print(f"{what}: {said}", flush=True)
        if not found.same:
            different.append(what)
    return different


if __name__ == "__main__":
    cli.run(main)
