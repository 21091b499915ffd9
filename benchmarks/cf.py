"""Speed and memory of the shape of pairs, as one JSON line: an epoch of BPR over a million pairs, and full ranking.

python benchmarks/cf.py [--users 30000 --items 40000 --pairs 1000000 --width 200 --threads 2]: random pairs and vectors,
as speed hangs on their number alone. Seconds are of the wall; cpu_s beside them is what this process computed, which a
busy machine does not stretch.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from recdistill.config.pairs import PairModel
from recdistill.distil.facts import Facts
from recdistill.distil.lesson import Lesson
from recdistill.metrics.full_ranking import Judged, full_ranking
from recdistill.pairs.draws import labelled
from recdistill.pairs.lists import top_of
from recdistill.pairs.models import fresh
from recdistill.pairs.store import Acts, acts
from recdistill.pairs.teacher import labels_alone
from recdistill.pairs.terms import label_terms
from recdistill.types import FIRST_KNOWN

HELD_OUT = 5  # items of each user that are to be found
AT = [10, 50]


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in (("users", 30_000), ("items", 40_000), ("pairs", 1_000_000), ("width", 200), ("threads", 2)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--batch-size", type=int, default=16_384)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    generator = np.random.default_rng(0)
    sides = [generator.integers(FIRST_KNOWN, size, given.pairs) for size in (given.users, given.items)]
    world = acts(*sides, num_users=given.users, num_items=given.items)
    users, items = (torch.randn((size, given.width)) for size in (given.users, given.items))
    held = tuple(side[-given.users * HELD_OUT :] for side in sides)
    print(
        json.dumps(
            {
                "settings": vars(given),
                "bpr_epoch": timed(lambda: epoch(world, given.width, given.batch_size)),
                "full_ranking": timed(lambda: full_ranking(users, items, judged(world, held), AT)),
                "top_lists_500": timed(lambda: top_of(users, items, world, 500)),
            }
        )
    )


def epoch(world: Acts, width: int, batch_size: int) -> None:
    """One pass over all pairs: the model, loss, draws and optimiser of a training, without the checks of its loop."""
    spec = PairModel()
    model = fresh(spec, width, world)
    lesson = Lesson(label_terms(labels_alone(), spec), Facts(), student=model)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    order = np.random.default_rng(1).permutation(len(world.keys))
    user, item, generator = world.user, world.item, np.random.default_rng(2)
    for start in range(0, len(order), batch_size):
        index = order[start : start + batch_size]
        optimiser.zero_grad(set_to_none=True)
        lesson.losses(labelled(world, user[index], item[index], 1, generator), 0.0)["loss"].backward()
        optimiser.step()


def judged(world: Acts, held: tuple[np.ndarray, ...]) -> Judged:
    """Every user, what it acted on as seen, and some pairs as what is to be found."""
    keys = np.unique(held[0] * world.num_items + held[1])
    seen = np.setdiff1d(world.keys, keys)
    pairs = [(of // world.num_items, of % world.num_items) for of in (keys, seen)]
    popular = np.arange(world.num_items) % 2 == 0
    return Judged(user=np.arange(world.num_users), relevant=pairs[0], seen=pairs[1], popular=popular)


def timed(work: Callable[[], Any]) -> dict[str, float]:
    """Seconds of the wall and of the processor, and the most memory of this process so far."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "most_gb": round(most, 2),
    }


if __name__ == "__main__":
    main()
