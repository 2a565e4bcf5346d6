"""Piano rolls harmonised: what sounds under the highest voice, drawn given all of that voice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from arcore.inference.posterior import observation, posterior
from pipeline.data import sound_batches
from pipeline.datasets.base import Sound
from pipeline.datasets.read_transforms import choose_rows
from pipeline.evaluation import audio_figures
from pipeline.uses import pictures
from pipeline.uses.use_base import Use, mean_of, setting
from pipeline.uses.use_context import UseContext
from pipeline.uses.use_records import Shown, UseOutcome


@dataclass(frozen=True)
class HarmonisedPiece:
    """A test piece: what its parts cost in nats/frame, and rolls (T, keys) with their titles."""

    highest: float
    others: float
    agreeing: float
    rolls: list[tuple[str, Tensor]]


def highest_voice(roll: Tensor) -> Tensor:
    """Return what the highest voice tells of a roll (T, keys), bool of its shape.

    It is the highest key of each step, and that no key above it sounds: in a silent step, none.

    Example:
        >>> highest_voice(torch.tensor([[1, 1, 0], [0, 0, 0]])).tolist()
        [[False, True, True], [True, True, True]]
    """
    above = roll.flip(1).cumsum(1).flip(1)  # keys that sound from each one up
    return (above == 0) | ((above == 1) & (roll == 1))


@dataclass(frozen=True, kw_only=True)
class Harmonisation(Use):
    """Draw the lower voices of test pieces given the highest, and score the real ones."""

    num_pieces: int = setting(3, "random test pieces", least=1)
    num_steps: int = setting(48, "first steps of each that are harmonised", least=1)
    num_draws: int = setting(2, "harmonies that are drawn for each", least=1)
    num_particles: int = setting(64, "of the particle filter", least=1)

    def _run(self, context: UseContext, folder: Path) -> UseOutcome:
        sound, split = context.manifest.sound, context.stored("test").whole()
        if sound is None or not sound.is_roll or context.unconditional_model is None:
            raise context.unfit_event("piano rolls")
        rows = choose_rows(len(split), self.num_pieces, self.seed)
        pieces = [
            self._harmonise(context, torch.from_numpy(x[: min(length, self.num_steps)]), row)
            for row, x, length in zip(
                rows.tolist(), split.x[rows], sound_batches.lengths(split)[rows], strict=True
            )
        ]
        numbers = [
            mean_of("the highest voice", numbers_of(pieces, "highest"), "nats/frame", "~"),
            mean_of("the others given all of it", numbers_of(pieces, "others"), "nats/frame", "~"),
            mean_of("agreement of drawn lower notes with the real", numbers_of(pieces, "agreeing")),
        ]
        panels = [[(title, roll.numpy()) for title, roll in piece.rolls] for piece in pieces]
        caption = "The highest voice, harmonies drawn under it, and the real one"
        figure = audio_figures.rolls(panels, sound)
        shown = [pictures.show(figure, folder / "harmonies.png", caption)]
        for number, piece in enumerate(pieces, 1):
            shown += _play(number, piece, folder, sound)
        notes = (
            f"{len(pieces)} random test pieces, the first {self.num_steps} steps of each. A "
            f"particle filter of {self.num_particles} particles draws given the highest voice of "
            "all steps, later ones too. Its evidence is the cost of that voice, and the others "
            "cost what is left of -ln p. Agreement is the share of lower notes of either that both "
            "have. A MIDI file lies beside each sound."
        )
        return UseOutcome(numbers, shown, notes)

    @torch.no_grad()
    def _harmonise(self, context: UseContext, bits: Tensor, row: int) -> HarmonisedPiece:
        roll, generator = bits.long(), context.generator(self.seed * 1_000 + row)
        given, twin = highest_voice(roll), context.single_model.of_length(len(roll))
        found = posterior(
            twin, observation(roll[None], given, 2), self.num_particles,
            generator=generator, progress=context.progress,
        )  # fmt: skip
        real = -float(twin.log_prob(roll[None].to(twin.device)))
        highest = -float(found.log_evidence)
        drawn = [found.draw(generator)[0].cpu() for _ in range(self.num_draws)]
        titles = [f"drawn {number}" for number in range(1, len(drawn) + 1)]
        return HarmonisedPiece(
            highest=highest / len(roll),
            others=(real - highest) / len(roll),
            agreeing=sum(agreement(one, roll, given) for one in drawn) / len(drawn),
            rolls=[("given", roll * given), *zip(titles, drawn, strict=True), ("real", roll)],
        )


def numbers_of(pieces: Sequence[HarmonisedPiece], name: str) -> Tensor:
    """Return a number of each piece, (pieces,) float64."""
    return torch.tensor([getattr(piece, name) for piece in pieces], dtype=torch.float64)


def agreement(drawn: Tensor, real: Tensor, given: Tensor) -> float:
    """Return hits / (hits + misses + false notes) of what was not given; 1 where none sounds."""
    ours, theirs = (drawn == 1) & ~given, (real == 1) & ~given
    either = int((ours | theirs).sum())
    return int((ours & theirs).sum()) / either if either else 1.0


def _play(number: int, piece: HarmonisedPiece, folder: Path, sound: Sound) -> Iterator[Shown]:
    for title, roll in piece.rolls:
        path = folder / f"{number}-{title.replace(' ', '-')}.wav"
        audio_figures.write_roll(path, roll.numpy(), sound)
        yield Shown(file=path.name, caption=f"piece {number}: {title}")
