"""Clips of a simulated arm that pushes objects on a plane: physics and pictures by pybullet.

The arm is pybullet_data's KUKA LBR iiwa, flange down; the objects are of its `random_urdfs`. The
flange moves at a constant height. Its way is random: three times out of four towards an object and
on through it, else to any place, with a new goal on arrival and now and then before. At each frame
the place of the next one is commanded, the joints follow for a tenth of a second, and TinyRenderer
draws what a camera in front of the arm sees. No graphics card or display takes part.

pybullet is the optional extra `pushing`, imported when the first clip is rendered.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.core.errors import UserError
from pipeline.datasets.clips.robotic_pushing import NUM_FRAMES, SIDE, PushingClip

CENTRE, HALF = np.array([0.55, 0.0]), np.array([0.15, 0.22])  # of the flange's field, in metres
HEIGHT = 0.055  # of the last link's middle, at which its edge moves close above the plane
APART = 0.13  # metres between the middles of objects, and of flange and objects
NUM_OBJECTS = 3
STEPS = 24  # of physics a frame, 1/240 s each
JOINTS, FLANGE = range(7), 6
REST = (0.0, 0.6, 0.0, -1.6, 0.0, 0.9, 0.0)  # bent elbow, where inverse kinematics begins
FORCE = 300.0  # the most that a joint's motor has, in newton metres
SLOWEST, FASTEST = 0.02, 0.05  # metres a frame
TOWARDS_OBJECT, TURNS = 0.75, 0.12  # probabilities
BEYOND = 0.12  # metres that a goal lies behind an object
EYE, LOOKED_AT, FIELD_OF_VIEW = (1.25, 0.0, 0.7), (0.52, 0.0, 0.05), 42.0
LIGHT = (1.0, 0.6, 2.0)
MISSING = (
    "expected the package pybullet, which simulates arm and objects, got none: python -m pip "
    "install -e '.[pushing]'"
)


class Simulator:
    """A simulation without graphics, in which one clip after the other is made.

    A clip depends on what is asked for it alone, not on those before.
    """

    def __init__(self) -> None:
        try:
            with _output_discarded():  # it prints the time of its build
                import pybullet
                import pybullet_data
        except ImportError:
            raise UserError(f"simulated pushing: {MISSING}") from None
        self.bullet: Any = pybullet
        self.data: str = pybullet_data.getDataPath()
        self.client: int = self.bullet.connect(self.bullet.DIRECT)
        self.view = self.bullet.computeViewMatrix(EYE, LOOKED_AT, (0, 0, 1))
        self.projection = self.bullet.computeProjectionMatrixFOV(FIELD_OF_VIEW, 1.0, 0.1, 3.0)

    def close(self) -> None:
        """End the simulation."""
        self.bullet.disconnect(self.client)

    def clip(self, seed: Sequence[int], names: Sequence[str]) -> PushingClip:
        """Make a clip.

        Arguments:
            seed: non-negative integers, which decide everything.
            names: of the objects to draw from, such as "017", at least three.

        Returns:
            20 frames of RGB; actions are the places (x, y) of the flange that are commanded at each
            frame for the next one, states those where it is, both from -1 to 1 over its field.
        """
        random = np.random.default_rng(seed)
        scene = self._scene(random, names)
        way = _Way(random, scene.start)
        frames, actions, states = [], [], []
        for _ in range(NUM_FRAMES):
            frames.append(self._picture())
            states.append(self._link(scene.arm))
            actions.append(way.next([self._middle(one) for one in scene.objects]))
            self._move(scene.arm, actions[-1], STEPS)
        scaled = ((np.array(places) - CENTRE) / HALF for places in (actions, states))
        return PushingClip(np.stack(frames), *(places.astype(np.float32) for places in scaled))

    def _scene(self, random: np.random.Generator, names: Sequence[str]) -> _Scene:
        p = self.bullet
        p.resetSimulation()
        p.setGravity(0, 0, -9.8)
        p.loadURDF(f"{self.data}/plane.urdf")
        arm: int = p.loadURDF(f"{self.data}/kuka_iiwa/model.urdf", useFixedBase=True)
        start, *places = _places(random)
        chosen = random.choice(len(names), NUM_OBJECTS, replace=False)
        objects = [self._put(names[i], at, random) for i, at in zip(chosen, places, strict=True)]
        for joint, angle in zip(JOINTS, REST, strict=True):
            p.resetJointState(arm, joint, angle)
        for _ in range(5):  # each from where the last one ended
            for joint, angle in zip(JOINTS, self._angles(arm, start), strict=True):
                p.resetJointState(arm, joint, angle)
        self._move(arm, start, 2 * STEPS)  # objects come to rest
        return _Scene(arm, objects, start)

    def _put(self, name: str, place: np.ndarray, random: np.random.Generator) -> int:
        """Load an object and lay it on the plane, its middle at a place, turned at random."""
        p = self.bullet
        one: int = p.loadURDF(f"{self.data}/random_urdfs/{name}/{name}.urdf")
        turned = p.getQuaternionFromEuler((0, 0, random.uniform(0, 2 * math.pi)))
        p.resetBasePositionAndOrientation(one, (*place, 0.1), turned)
        lowest = p.getAABB(one)[0][2]
        shifted = 2 * place - self._middle(one)
        p.resetBasePositionAndOrientation(one, (*shifted, 0.1 + 0.003 - lowest), turned)
        return one

    def _middle(self, one: int) -> np.ndarray:
        low, high = np.array(self.bullet.getAABB(one))
        middle: np.ndarray = (low + high)[:2] / 2
        return middle

    def _link(self, arm: int) -> np.ndarray:
        return np.array(self.bullet.getLinkState(arm, FLANGE)[0][:2])

    def _angles(self, arm: int, place: np.ndarray) -> Sequence[float]:
        p = self.bullet
        down = p.getQuaternionFromEuler((0, math.pi, 0))
        found: Sequence[float] = p.calculateInverseKinematics(
            arm, FLANGE, (*place, HEIGHT), down, maxNumIterations=50, residualThreshold=1e-4
        )
        return found

    def _move(self, arm: int, place: np.ndarray, steps: int) -> None:
        p = self.bullet
        angles = self._angles(arm, place)
        p.setJointMotorControlArray(
            arm, JOINTS, p.POSITION_CONTROL, angles, forces=[FORCE] * len(JOINTS)
        )
        for _ in range(steps):
            p.stepSimulation()

    def _picture(self) -> np.ndarray:
        """Draw what the camera sees, (3, 64, 64) uint8."""
        p = self.bullet
        seen = p.getCameraImage(
            SIDE, SIDE, self.view, self.projection, shadow=0, lightDirection=LIGHT,
            renderer=p.ER_TINY_RENDERER, flags=p.ER_NO_SEGMENTATION_MASK,
        )  # fmt: skip
        pixels = np.asarray(seen[2], np.uint8).reshape(SIDE, SIDE, 4)
        return pixels[..., :3].transpose(2, 0, 1)


@dataclass(frozen=True)
class _Scene:
    arm: int
    objects: list[int]
    start: np.ndarray


@dataclass
class _Way:
    """Where the flange goes from the `place` where it is commanded to be."""

    random: np.random.Generator
    place: np.ndarray
    goal: np.ndarray = field(init=False)
    speed: float = field(init=False)

    def __post_init__(self) -> None:
        self.goal = self.place  # reached, so that the first step looks for one

    def next(self, objects: Sequence[np.ndarray]) -> np.ndarray:
        """Return the place of the next frame, given where objects are."""
        reached = _length(self.goal - self.place) < SLOWEST
        if reached or self.random.random() < TURNS:
            self.goal, self.speed = self._goal(objects), self.random.uniform(SLOWEST, FASTEST)
        left = self.goal - self.place
        self.place = self.place + left * min(1.0, self.speed / max(_length(left), 1e-6))
        return self.place

    def _goal(self, objects: Sequence[np.ndarray]) -> np.ndarray:
        if self.random.random() >= TOWARDS_OBJECT:
            return _anywhere(self.random)
        middle = objects[int(self.random.integers(len(objects)))]
        ahead = middle - self.place
        goal = middle + BEYOND * ahead / max(_length(ahead), 1e-6)
        inside: np.ndarray = np.clip(goal, CENTRE - HALF, CENTRE + HALF)
        return inside


def _length(way: np.ndarray) -> float:
    return math.sqrt(way[0] * way[0] + way[1] * way[1])


def _anywhere(random: np.random.Generator) -> np.ndarray:
    return CENTRE + HALF * random.uniform(-1, 1, 2)


def _places(random: np.random.Generator) -> list[np.ndarray]:
    """Draw places of flange and objects in the field, apart from each other."""
    places: list[np.ndarray] = []
    while len(places) < 1 + NUM_OBJECTS:
        place = _anywhere(random)
        if all(_length(place - other) > APART for other in places):
            places.append(place)
    return places


@contextmanager
def _output_discarded() -> Iterator[None]:
    """Discard what a compiled module prints to the standard output and error."""
    kept = [os.dup(1), os.dup(2)]
    with open(os.devnull, "wb") as nowhere:
        try:
            for stream in (1, 2):
                os.dup2(nowhere.fileno(), stream)
            yield
        finally:
            for stream, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, stream)
                os.close(copy)
