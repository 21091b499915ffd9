"""Histograms counted beside Prometheus' own say what it would."""

import asyncio
from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, Histogram

from recdistill.serve import metrics, worker
from recdistill.serve.live import Live
from recdistill.serve.metrics import Tally
from recdistill.serve.settings import Settings

BUCKETS = (0.5, 1.0, 2.0)
VALUES = st.lists(st.one_of(st.sampled_from([*BUCKETS, 0.0, 9.0]), st.floats(0, 3)), min_size=1)
numbers = count()


def samples(histogram):
    (found,) = histogram.collect()
    return {
        (sample.name.rpartition("_")[2], sample.labels.get("le")): sample.value
        for sample in found.samples
        if not sample.name.endswith("_created")
    }


@given(VALUES, VALUES)
def test_a_tally_says_what_the_histogram_would(first, second):
    number = next(numbers)
    tally = Tally(f"tally_{number}", "", BUCKETS)
    other = Histogram(f"histogram_{number}", "", buckets=BUCKETS, registry=None)
    try:
        for values in (first, second):  # what was handed on is not handed on again
            for value in values:
                tally.observe(value)
                other.observe(value)
            tally.flush()
        found, wanted = samples(tally.histogram), samples(other)
        assert found.keys() == wanted.keys()
        assert all(abs(found[name] - wanted[name]) < 1e-9 for name in wanted)
        assert wanted["count", None] == len(first) + len(second)
    finally:
        REGISTRY.unregister(tally.histogram)


def test_a_process_that_nobody_asks_hands_on_what_it_counted(tmp_path):
    """Another process of the server may be the one that is asked for all of them."""
    live = Live(Settings(name="shop", state=str(tmp_path)))

    async def counted():
        before = samples(metrics.SCORING.histogram)["count", None]
        following = asyncio.create_task(worker.follow(live, None))
        metrics.SCORING.observe(0.001)
        await asyncio.sleep(0.05)
        following.cancel()
        return samples(metrics.SCORING.histogram)["count", None] - before

    assert asyncio.run(counted()) == 1


def test_who_asks_is_told_all_that_was_counted_until_then():
    before = samples(metrics.CANDIDATES.histogram)["sum", None]
    metrics.CANDIDATES.observe(7)
    assert f"recdistill_candidates_sum {before + 7}".encode() in metrics.exposition()
