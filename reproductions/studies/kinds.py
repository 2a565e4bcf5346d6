"""The kinds of studies by name: what each compares and what it computes with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of study in words.

    Attributes:
        title: as a heading.
        compares: what is compared.
        needs: of its entry.
    """

    title: str
    compares: str
    needs: str


KINDS = {
    "receptive_fields": Kind(
        "Receptive fields",
        "which pixels change what networks with random weights say of the middle one",
        "networks by name, and binary images",
    ),
    "sampling_time": Kind(
        "Time of sampling",
        "network evaluations and seconds of drawing images of growing sizes",
        "models, and images",
    ),
    "step_time": Kind(
        "Time of a training step",
        "milliseconds of a training step on images of growing sizes",
        "models, and images",
    ),
    "num_masks": Kind(
        "Number of masks",
        "nats of one member and of the mixture of networks with more and more masks or orderings",
        "an experiment with MADE, which is trained once for each number",
    ),
    "context_frames": Kind(
        "Given frames",
        "nats a frame after more and more given frames, by networks that learn what comes after",
        "experiments with clips, which are trained once for each number",
    ),
    "train_rows": Kind(
        "Rows learned from",
        "test bits/dim of networks over the size of the training set, steps being equal",
        "experiments with images, which are trained once for each size",
    ),
    "race": Kind(
        "Time to the same nats",
        "seconds of training until validation is as low as the slowest network's best",
        "experiments, which are trained one after the other",
    ),
    "simple_models": Kind(
        "Simple models of images",
        "bits/dim of uniform levels, of each colour's histogram, and of a multivariate Gaussian",
        "images",
    ),
}


def text_of() -> str:
    """Return what the help of `python -m reproductions.study` lists."""
    width = max(map(len, KINDS))
    lines = ["the kinds of studies, of which an entry names one:"]
    for name, kind in KINDS.items():
        lines += [f"  {name:{width}}  {kind.compares};", f"  {'':{width}}  needs {kind.needs}"]
    return "\n".join(lines)
