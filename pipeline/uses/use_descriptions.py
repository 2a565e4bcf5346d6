"""The uses by name, for command lines: what each shows and what it needs."""

from typing import NamedTuple

ALL = "all"


class UseDescription(NamedTuple):
    """A use in words: as a heading, what it shows and measures, what it needs of a model."""

    title: str
    shows: str
    needs: str


USES = {
    "inpainting": UseDescription(
        "In-painting",
        "completions of masked test images; nats of the missing pixels given the observed",
        "a single exact model or a pool, of images in levels",
    ),
    "classes": UseDescription(
        "Classes",
        "a row of samples of each class; test images classified by Bayes' rule",
        "a class-conditional model of images",
    ),
    "features": UseDescription(
        "Hidden units as features",
        "accuracy of logistic regression on hidden units with few labels, compared with pixels",
        "unconditional NADE or MADE, on data with labels",
    ),
    "outliers": UseDescription(
        "Real against other images",
        "how well log p separates real images from others, raw and corrected for complexity",
        "an unconditional model of images",
    ),
    "super_resolution": UseDescription(
        "Super-resolution",
        "images drawn given every second or fourth pixel; PSNR and SSIM, compared with bicubic",
        "parallel_multiscale, multiscale_pixelrnn or an orderless model",
    ),
    "denoising": UseDescription(
        "Denoising",
        "images drawn given noisy ones; PSNR and SSIM, compared with a median filter",
        "a single exact model or a pool, of images in levels",
    ),
    "memorisation": UseDescription(
        "Memorisation",
        "the training image nearest to each sample; nats of training and validation images",
        "a model of images in levels",
    ),
    "learned": UseDescription(
        "What it learned",
        "first-layer weights (NADE, MADE, DeepNADE), probabilities of samples, softmax activations",
        "a model of images in levels",
    ),
    "structure": UseDescription(
        "Structure near and far",
        "covariances of near and far pixels in samples, compared with test images",
        "an unconditional model of images in levels",
    ),
    "orderings": UseDescription(
        "Orderings",
        "nats of test rows by ensembles of 1, 2, 4, ... orderings of one network",
        "an orderless model (deep_nade, conv_nade), or MADE with an ordering for each mask",
    ),
    "paired": UseDescription(
        "Paired differences",
        "what a model gains over other experiments on the same test rows, with its error",
        "others=[experiment, ...] of the same data",
    ),
    "noise_levels": UseDescription(
        "Levels of noise",
        "what changes as the noise of one level varies; the KL and the units in use of each",
        "a model of images with latents (pixelvae)",
    ),
    "interpolation": UseDescription(
        "Interpolation",
        "images along the line between the latents, or vectors, of two test images",
        "a vector-conditional model of images, or an unconditional one with latents (pixelvae)",
    ),
    "continuation": UseDescription(
        "Continuation",
        "sounds drawn given their first half, to play; the information of the first half in bits",
        "a model of sounds",
    ),
    "speakers": UseDescription(
        "Speakers",
        "the same text drawn in every voice; the speaker of test sounds by Bayes' rule",
        "a speaker-conditional model of sounds",
    ),
    "video_prediction": UseDescription(
        "Video prediction",
        "clips that go on after their given frames, animated; PSNR and SSIM of each way",
        "a model of clips whose first frames are given",
    ),
}


def text_of() -> str:
    """Return what `python -m stages.use` lists."""
    width = max(map(len, USES))
    lines = ["USE is one of:"]
    for name, use in USES.items():
        lines += [f"  {name:{width}}  {use.shows};", f"  {'':{width}}  needs {use.needs}"]
    lines.append(f"  {ALL:{width}}  the uses that params.yaml lists for the experiment")
    return "\n".join(lines)
