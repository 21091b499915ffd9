"""The planted truth of a generated log: who likes what, when items are born, and the exact probability of a click."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recdistill.problems import BadInput, problem

CATEGORIES = ("books", "films", "games", "garden", "kitchen", "music", "sport", "toys", "tools", "travel")
COUNTRIES = ("at", "be", "ch", "de", "dk", "es", "fr", "it", "nl", "pl", "pt", "se")
STEP = 1 / 256  # of the relevance: rounded to it, the truth is a finite table and every ceiling is exact
NUM_CELLS = 8192
_MIDDLE = NUM_CELLS // 2
_OFFSET = -0.35  # keeps about a third of the rows clicked
_POPULARITY_FLAT = 10.0

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The planted truth. Sizes are counts; BadInput with a line for every value out of range.

    A row's relevance z = taste . item + quality + base_drift * (place - 1/2), with place in [0, 1) the time since the
    log's start over its length, is rounded to 1/256. A shown item is clicked when it is examined and liked, and then
    some labels are turned round:

        P(click) = flip + (1 - 2 flip) * position ** -position_bias * E[sigmoid(z + noise * e)],  e standard normal

    (examination model: Richardson, Dominowska & Ragno, Predicting Clicks, WWW 2007; the power law of the position as in
    Joachims, Swaminathan & Schnabel, WSDM 2017, section 6). The noise has no column, so that taking its mean before the
    coin is thrown makes the same log as drawing it.
    """

    num_users: int
    num_items: int
    num_days: int
    seed: int
    width: int = 4
    """How many factors a taste has."""
    candidates: int = 12
    """Rows of a request; positions are drawn without regard to relevance."""
    noise: float = 0.3
    """Deviation of the part of the logit that no column explains."""
    flip: float = 0.0
    """Share of labels that are turned round."""
    position_bias: float = 0.15
    """Exponent of the examination: at position 1 every item is examined, at position k one in k ** position_bias."""
    newborn: float = 0.0
    """Share of items born at the begin of a day after the first; none is shown before."""
    base_drift: float = 0.0
    """How far the logit of all rows moves from the log's start to its end."""

    def __post_init__(self) -> None:
        lines = [
            problem(f"world: {name}", wanted=f"{low:g} to {high:g}", found=repr(value), remedy="mend it")
            for name, (low, high) in _RANGES.items()
            if not low <= (value := getattr(self, name)) <= high
        ]
        if lines:
            raise BadInput(lines)


_RANGES: dict[str, tuple[float, float]] = {
    "num_users": (1, 1e9),
    "num_items": (1, 1e9),
    "num_days": (1, 36_500),
    "seed": (0, 2**63 - 1),
    "width": (1, 1024),
    "candidates": (1, 1000),
    "noise": (0, 20),
    "flip": (0, 0.49),
    "position_bias": (0, 3),
    "newborn": (0, 0.99),
    "base_drift": (-10, 10),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """Users and items with what is theirs, and the table of click probabilities."""

    taste: Floats  # [width, users], in the middle of the log's time
    drift: Floats  # [width, users], by which a taste moves over all days
    item: Floats  # [width, items]
    quality: Floats  # [items]
    birth: NDArray[np.int32]  # [items], the day from which on it is shown
    by_popularity: NDArray[np.int32]  # [items], most popular first
    category: NDArray[np.int8]  # [items, 2]
    price: NDArray[np.float64]  # [items]
    country: NDArray[np.int8]  # [users]
    probability: NDArray[np.float64]  # [cells, positions]

    def shelf(self, day: int) -> NDArray[np.int32]:
        """[live items] born by that day, most popular first."""
        return self.by_popularity[self.birth[self.by_popularity] <= day]


def plant(world: World) -> Planted:
    """The truth of a world, from its seed alone."""
    generator = np.random.default_rng([world.seed, 0])
    width, scale = world.width, world.width**-0.25
    category = generator.integers(0, len(CATEGORIES), (2, world.num_items), dtype=np.int8)
    centre = generator.normal(0, scale, (width, len(CATEGORIES))).astype(np.float32)
    country = generator.integers(0, len(COUNTRIES), world.num_users, dtype=np.int8)
    lean = generator.normal(0, 0.4 * scale, (width, len(COUNTRIES))).astype(np.float32)
    item = np.float32(0.5) * (centre[:, category[0]] + centre[:, category[1]])
    birth = np.zeros(world.num_items, dtype=np.int32)
    if world.num_days > 1:
        late = generator.permutation(world.num_items)[: int(world.newborn * world.num_items)]
        birth[late] = generator.integers(1, world.num_days, len(late))
    return Planted(
        taste=lean[:, country] + _normal(generator, 2.0 * scale, (width, world.num_users)),
        drift=_normal(generator, 1.5 * scale, (width, world.num_users)),
        item=item + _normal(generator, 0.5 * scale, (width, world.num_items)),
        quality=_normal(generator, 0.75, (world.num_items,)) + np.float32(_OFFSET),
        birth=birth,
        by_popularity=generator.permutation(world.num_items).astype(np.int32),
        category=np.ascontiguousarray(category.T),
        price=np.exp(generator.normal(3, 1, world.num_items)),
        country=country,
        probability=probability(world),
    )


def _normal(generator: np.random.Generator, scale: float, shape: tuple[int, ...]) -> Floats:
    return generator.standard_normal(shape, dtype=np.float32) * np.float32(scale)


def relevance_of(cell: NDArray[np.integer]) -> NDArray[np.float64]:
    """The relevance z that a cell stands for.

    >>> relevance_of(cells(np.array([0.5, -0.25, 99.0], dtype=np.float32))).tolist()
    [0.5, -0.25, 15.99609375]
    """
    return (cell.astype(np.float64) - _MIDDLE) * STEP


def cells(relevance: Floats) -> NDArray[np.int32]:
    """[n] cells of the nearest multiples of 1/256 within [-16, 16)."""
    scaled = relevance * np.float32(1 / STEP)
    scaled += np.float32(_MIDDLE + 0.5)  # truncation then rounds to the nearest
    np.clip(scaled, 0, NUM_CELLS - 1, out=scaled)
    return scaled.astype(np.int32)


def probability(world: World) -> NDArray[np.float64]:
    """[cells, positions] click probabilities, as World says; the mean over the noise by the trapezoid rule.

    >>> table = probability(World(num_users=1, num_items=1, num_days=1, seed=0, noise=0.0, flip=0.1, position_bias=1.0))
    >>> [round(p, 6) for p in table[4096, :2].tolist()]  # 0.1 + 0.8 / 2, 0.1 + 0.8 / 2 / 2
    [0.5, 0.3]
    """
    relevance = relevance_of(np.arange(NUM_CELLS))
    nodes = np.linspace(-6, 6, 201) if world.noise else np.zeros(1)
    weights = np.exp(-(nodes**2) / 2)
    liked = np.zeros(NUM_CELLS)
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        liked += weight / (1 + np.exp(-(relevance + world.noise * node)))
    examined = np.arange(1, world.candidates + 1) ** -world.position_bias
    return world.flip + (1 - 2 * world.flip) * liked[:, None] * examined


def popular(uniform: NDArray[np.float64], num_items: int) -> Ints:
    """[n] ranks from 0, drawn with probability about proportional to 1 / (rank + 10.5), from uniform draws in [0, 1).

    The inverse of the distribution in closed form: (num_items + 10) ** u * 10 ** (1 - u) - 10, so that the size of the
    catalogue costs nothing.

    >>> popular(np.array([0.0, 0.5, 0.999999]), 990).tolist()  # 100 - 10 in the middle
    [0, 90, 989]
    """
    rank = uniform * np.log(num_items / _POPULARITY_FLAT + 1)
    np.exp(rank, out=rank)
    rank -= 1
    rank *= _POPULARITY_FLAT
    return np.minimum(rank.astype(np.int64), num_items - 1)
