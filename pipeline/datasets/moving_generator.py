"""Clips of digits that move and bounce: the published generator of Moving MNIST.

Each digit starts at a place drawn uniformly from the box in which it fits on the canvas, and goes
in a direction drawn uniformly, 0.1 of the box's side a frame. It steps before a frame is written; a
coordinate that leaves the box is set to the box's edge and turns round. Where digits overlap, the
brighter pixel shows.

Reference:
    Srivastava, Mansimov and Salakhutdinov, "Unsupervised Learning of Video Representations using
    LSTMs", ICML 2015, section 4, and its code.
"""

import numpy as np

SPEED = 0.1
NUM_DIGITS = 2
# of each digit: which one, its place and its direction
NUM_UNIFORMS = 4 * NUM_DIGITS


def trajectories(starts: np.ndarray, angles: np.ndarray, frames: int) -> np.ndarray:
    """Return where digits are in each frame, (N, frames, 2) in [0, 1].

    Arguments:
        starts: (N, 2) in [0, 1], y and x.
        angles: (N,) in radians.

    Example:
        >>> starts, angles = np.array([[0.5, 0.85]]), np.array([0.0])
        >>> trajectories(starts, angles, 3)[0, :, 1].round(2).tolist()  # 0.95, then the edge
        [0.95, 1.0, 0.9]
    """
    place = starts.astype(np.float64)
    velocity = SPEED * np.stack([np.sin(angles), np.cos(angles)], 1)
    places = np.empty((len(place), frames, 2))
    for frame in range(frames):
        place = place + velocity
        outside = (place <= 0) | (place >= 1)
        place = place.clip(0, 1)
        velocity = np.where(outside, -velocity, velocity)
        places[:, frame] = place
    return places


def render(digits: np.ndarray, uniforms: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Draw clips of two digits each, (N, T, 1, H, W) uint8.

    Arguments:
        digits: (M, side, side) uint8 to choose from, with repetition.
        uniforms: (N, 8) numbers in [0, 1), four a digit: which one, y, x and the direction.
        shape: (T, 1, H, W) of a clip.

    Example:
        >>> digits = np.full((1, 2, 2), 255, np.uint8)
        >>> clip = render(digits, np.full((1, 8), 0.5), (3, 1, 8, 8))
        >>> clip.shape, int(clip.sum()) // 255  # both digits at one place
        ((1, 3, 1, 8, 8), 12)

    Raises:
        ValueError: for digits that are larger than the canvas.
    """
    side, (frames, _, height, width) = digits.shape[-1], shape
    if digits.shape[1:] != (side, side) or side > min(height, width):
        raise ValueError(f"digits: expected squares within {shape[2:]}, got {digits.shape[1:]}")
    drawn = uniforms.reshape(len(uniforms), NUM_DIGITS, 4)
    clips = np.zeros((len(uniforms), *shape), np.uint8)
    box = np.array([height - side, width - side])
    for number in range(NUM_DIGITS):
        chosen = digits[(drawn[:, number, 0] * len(digits)).astype(np.int64)]
        places = trajectories(drawn[:, number, 1:3], 2 * np.pi * drawn[:, number, 3], frames)
        corners = (box * places).astype(np.int64)
        for clip, digit, path in zip(clips, chosen, corners.tolist(), strict=True):
            for frame, (top, left) in zip(clip[:, 0], path, strict=True):
                window = frame[top : top + side, left : left + side]
                np.maximum(window, digit, out=window)
    return clips
