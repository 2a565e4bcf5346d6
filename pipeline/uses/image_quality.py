"""How near images and clips are to others: PSNR and SSIM; and simple filters to compare with."""

import math
from collections.abc import Mapping

import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from arcore.events import Levels
from pipeline.uses.use_base import mean_of
from pipeline.uses.use_records import Number

WINDOW = 7
NOTE = "PSNR is of the mean squared error over all images; SSIM has windows of 7 x 7 pixels."


def shades(levels: Tensor, event: Levels) -> Tensor:
    """Return levels, or reals between them, as shades in [0, 1], float64 on the CPU."""
    return levels.double().cpu() / (event.num_levels - 1)


def quality(truth: Tensor, made: Mapping[str, Tensor], what: str = "") -> list[Number]:
    """Return PSNR and, of images of 7 x 7 pixels or more, SSIM of each kind of images or clips.

    All are (N, C, H, W) or (N, T, C, H, W) in [0, 1]; `what` begins the numbers' names. Images that
    are all met exactly have no PSNR: JSON knows no infinity.
    """
    begin = f"{what}: " if what else ""
    images, true = {name: x.flatten(0, -4) for name, x in made.items()}, truth.flatten(0, -4)
    numbers = [
        Number(name=f"{begin}PSNR, {name}", value=decibels, unit="dB")
        for name, x in images.items()
        if math.isfinite(decibels := psnr(true, x))
    ]
    if min(truth.shape[-2:]) >= WINDOW:
        for name, x in images.items():
            by_row = ssim(true, x).view(len(truth), -1).mean(1)
            numbers.append(mean_of(f"{begin}SSIM, {name}", by_row))
    return numbers


def psnr(truth: Tensor, other: Tensor) -> float:
    """Return the peak signal-to-noise ratio of images in [0, 1] in decibels, -10 log10(error).

    The mean squared error is over all images, so that one that is met exactly is no infinity.
    """
    error = float(((truth.double() - other.double()) ** 2).mean())
    return -10 * math.log10(error) if error > 0 else math.inf


def ssim(truth: Tensor, other: Tensor) -> Tensor:
    """Return the structural similarity of images (N, C, H, W) in [0, 1], (N,).

        (2 m_x m_y + c_1)(2 s_xy + c_2) / ((m_x^2 + m_y^2 + c_1)(s_x^2 + s_y^2 + c_2)),

    averaged over all windows of 7 x 7 pixels inside the image, and colours; the variances are
    unbiased, c_1 = 0.01^2, c_2 = 0.03^2. That is what scikit-image computes by default.

    Reference:
        Wang, Bovik, Sheikh and Simoncelli, "Image Quality Assessment: From Error Visibility to
        Structural Similarity", IEEE TIP 2004.
    """
    x, y = truth.double(), other.double()
    mean_x, mean_y = avg_pool2d(x, WINDOW, 1), avg_pool2d(y, WINDOW, 1)
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    variance_x = unbiased * (avg_pool2d(x * x, WINDOW, 1) - mean_x**2)
    variance_y = unbiased * (avg_pool2d(y * y, WINDOW, 1) - mean_y**2)
    covariance = unbiased * (avg_pool2d(x * y, WINDOW, 1) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    similar = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similar = similar / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))
    return similar.flatten(1).mean(1)


def median_filter(images: Tensor) -> Tensor:
    """Return each pixel's median over its 3 x 3 neighbourhood in (N, C, H, W), edges repeated."""
    return torch.from_numpy(ndimage.median_filter(images.numpy(), (1, 1, 3, 3), mode="nearest"))


def enlarge(small: Tensor, factor: int, size: tuple[int, int], mode: str) -> Tensor:
    """Enlarge images (N, C, h, w) whose pixels are every f-th of a larger one's, x[::f, ::f].

    Bicubic or nearest interpolation is between these places themselves, not between the centres of
    blocks of pixels; beyond the last ones the edge is repeated, and the result is cut to [0, 1].
    """
    if mode == "nearest":
        rows, columns = (
            ((torch.arange(extent) + (factor - 1) // 2) // factor).clamp(max=count - 1)
            for extent, count in zip(size, small.shape[-2:], strict=True)
        )
        return small[..., rows.to(small.device)[:, None], columns.to(small.device)]
    places = [
        (2 * (torch.arange(extent, dtype=small.dtype) / factor) + 1) / count - 1
        for extent, count in zip(size, small.shape[-2:], strict=True)
    ]
    y, x = torch.meshgrid(*places, indexing="ij")
    grid = torch.stack([x, y], -1).to(small.device).expand(len(small), -1, -1, -1)
    large = grid_sample(small, grid, mode=mode, padding_mode="border", align_corners=False)
    return large.clamp(0, 1)
