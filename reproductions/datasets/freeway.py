"""Clips of the game Freeway with the actions of its player, by the Arcade Learning Environment.

A chicken crosses a road of ten lanes. A frame is every third row and every second column of the
screen's middle, so that its 15 gray levels stay what they are. The traffic is a function of time
and of the game's mode alone; so games are cut by time, and the second test set, `novel`, is of
modes whose traffic is in no other split. The player moves at random, and holds an action for some
steps. The optional extra `games` (ale-py, GPL-2.0) brings the game; it is not in this repository.

Reference:
    Oh, Guo, Lee, Lewis and Singh, "Action-Conditional Video Prediction using Deep Networks in Atari
    Games", NIPS 2015 (other games and policies).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from tqdm import tqdm

from arcore.events import Levels
from pipeline.core.errors import UserError
from pipeline.datasets.base import Dataset, SplitData, joined
from pipeline.datasets.options import Options, between, parse_options
from reproductions.datasets.stand_ins import check_content, installed_version

NAME = "freeway"
NOVEL = "novel"
NUM_FRAMES, CONTEXT_FRAMES, SIDE = 20, 4, 64
ROWS, COLUMNS = slice(15, 15 + 3 * SIDE, 3), slice(8, 8 + 2 * SIDE, 2)  # of the screen, 210 x 160
GRAYS = (0, 41, 68, 90, 95, 104, 110, 142, 146, 157, 170, 193, 203, 214, 233)
SKIP = 4  # frames of the game a step, of which the last is seen
STEPS = 2048  # of a game, two minutes and a quarter
SEEN_MODES, NOVEL_MODES = tuple(range(6)), (6, 7)
# Of each game's clips, in the order of time.
CLIPS = {
    "train": slice(0, 71),
    "valid": slice(71, 81),
    "test": slice(81, STEPS // NUM_FRAMES),
}
WAIT, UP, DOWN = range(3)
SHARES, TURNS = (0.2, 0.6, 0.2), 0.25  # probabilities of the actions, and of a new draw at a step
MISSING = (
    "expected the package ale-py, which plays the game, got none: python -m pip install -e "
    "'.[games]'"
)
# Of train, valid, test and novel, by (seed, games of a mode).
CONTENT_SHA256: dict[tuple[int, int], str] = {
    (0, 2): "32210c528ea5be62d1d37bae02c5c50bcc7cc85a565e36931d9579b4171b1bb3",
}


@dataclass(frozen=True, kw_only=True)
class FreewayOptions(Options):
    """Options of freeway.

    Arguments:
        seed: of the player.
        games: of each of the eight modes.
        any_rendering: accept clips other than those on record, which another ale-py may make.
    """

    rows_per_shard: int = 1024
    seed: Annotated[int, between(0, 2**31)] = 0
    games: Annotated[int, between(1, 1000)] = 2
    any_rendering: bool = False


@dataclass(frozen=True, kw_only=True)
class Freeway(Dataset):
    """The clips of some games, which are played when they are decoded."""

    def decode(self, raw_dir: Path) -> dict[str, SplitData]:
        """Play the games, cut them into clips and check these; `raw_dir` is not read."""
        options = self.options
        assert isinstance(options, FreewayOptions)
        found: dict[str, list[SplitData]] = {split: [] for split in self.splits}
        games = [(mode, number) for mode in range(8) for number in range(options.games)]
        for mode, number in tqdm(games, desc="playing", unit="game", leave=False, disable=None):
            screens, actions = play((options.seed, mode, number), mode)
            for split, part in CLIPS.items():
                if mode in SEEN_MODES:
                    found[split].append(cut(screens, actions, part))
                elif split == "test":
                    found[NOVEL].append(cut(screens, actions, part))
        splits = {split: joined(parts) for split, parts in found.items()}
        expected = CONTENT_SHA256.get((options.seed, options.games))
        if expected is not None and not options.any_rendering:
            by = (
                f"ale-py {installed_version('ale-py')}, numpy {np.__version__}; to go on with "
                "these, though kept results may be of other clips: any_rendering=true"
            )
            check_content(NAME, splits.values(), expected, by)
        return splits


def play(seed: tuple[int, int, int], mode: int) -> tuple[np.ndarray, np.ndarray]:
    """Play a game; return screens (steps, rows, columns) in grays, and the action before each.

    The seed, non-negative integers, decides the actions; the mode, 0 to 7, the traffic.
    """
    try:
        from ale_py import Action, ALEInterface, LoggerMode, roms
    except ImportError:
        raise UserError(f"{NAME}: {MISSING}") from None
    ALEInterface.setLoggerMode(LoggerMode.Error)
    game = ALEInterface()
    game.setInt("random_seed", 0)
    game.setFloat("repeat_action_probability", 0.0)
    game.loadROM(str(roms.get_rom_path(NAME)))
    game.setMode(mode)
    game.reset_game()
    actions = choose_actions(np.random.default_rng(seed))
    screens = np.empty((STEPS, 210, 160), np.uint8)
    names = (Action.NOOP, Action.UP, Action.DOWN)
    for step, action in enumerate(actions):
        for _ in range(SKIP):
            game.act(names[action])
        game.getScreenGrayscale(screens[step])
    return screens, actions


def choose_actions(random: np.random.Generator) -> np.ndarray:
    """Draw the actions of a game, (steps,), each held for some steps."""
    drawn = random.choice(3, STEPS, p=SHARES)
    turns = random.random(STEPS) < TURNS
    turns[0] = True
    kept: np.ndarray = drawn[np.maximum.accumulate(np.where(turns, np.arange(STEPS), 0))]
    return kept


def cut(screens: np.ndarray, actions: np.ndarray, clips: slice) -> SplitData:
    """Cut a game, screens (steps, 210, 160), into clips of levels with the actions before each."""
    whole = len(screens) // NUM_FRAMES * NUM_FRAMES
    frames = screens[:whole, ROWS, COLUMNS].reshape(-1, NUM_FRAMES, 1, SIDE, SIDE)[clips]
    level_of = np.full(256, len(GRAYS), np.uint8)
    level_of[list(GRAYS)] = np.arange(len(GRAYS))
    levels = level_of[frames]
    if (levels == len(GRAYS)).any():
        gray = frames[levels == len(GRAYS)][0]
        raise UserError(f"{NAME}: expected grays {', '.join(map(str, GRAYS))}, got {gray}")
    given = np.eye(3, dtype="<f4")[actions[:whole].reshape(-1, NUM_FRAMES)[clips]]
    return SplitData(levels, given)


def build(settings: Mapping[str, object]) -> Dataset:
    """Build the dataset freeway."""
    options = parse_options(FreewayOptions, NAME, settings)
    return Freeway(
        name=NAME,
        event=Levels(len(GRAYS), (NUM_FRAMES, 1, SIDE, SIDE)),
        unit="nats_per_frame",
        provenance=(
            f"Freeway, played by ale-py at random with seed {options.seed}, {options.games} games "
            f"of each mode, {SKIP} frames of the game a step; {SIDE} x {SIDE} of the screen in its "
            f"{len(GRAYS)} grays; modes {SEEN_MODES[0]} to {SEEN_MODES[-1]} cut by time into "
            f"train, valid and test, novel of the last clips of modes {NOVEL_MODES[0]} and "
            f"{NOVEL_MODES[1]}; the first {CONTEXT_FRAMES} frames are given; each frame comes with "
            "the action before it"
        ),
        options=options,
        context_frames=CONTEXT_FRAMES,
        condition_sequence=(NUM_FRAMES, 3),
        extra_test_splits=(NOVEL,),
    )
