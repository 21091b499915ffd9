"""What a server counts and times, for Prometheus; the sums over all its processes."""

from __future__ import annotations

import os
from bisect import bisect_left

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)
_LOGITS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 1.0, 2.0, 5.0)
_SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_SIZES = (0, 1, 10, 50, 100, 200, 500, 1000, 2000, 5000)


class Tally:
    """A histogram that is counted here and handed on a few times a second, by the one thread that counts.

    Prometheus' own takes a lock, two system calls and two writes to a file for each value.
    """

    def __init__(self, name: str, text: str, buckets: tuple[float, ...]) -> None:
        self.histogram = Histogram(name, text, buckets=buckets)
        self.bounds = self.histogram._upper_bounds
        self.counts, self.sum = [0] * len(self.bounds), 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def flush(self) -> None:
        """Hand on what was counted."""
        for bucket, count in zip(self.histogram._buckets, self.counts, strict=True):
            if count:
                bucket.inc(count)
        self.histogram._sum.inc(self.sum)
        self.counts, self.sum = [0] * len(self.bounds), 0.0


REQUESTS = Counter("recdistill_requests", "Requests by form and status", ["form", "status"])
LATENCY = Tally("recdistill_seconds", "From the whole request to its answer", _SECONDS)
SCORING = Tally("recdistill_scoring_seconds", "In the scorer", _SECONDS)
CANDIDATES = Tally("recdistill_candidates", "Candidates of a request", _SIZES)
NOT_FINITE = Counter("recdistill_not_finite", "Requests for which the model had no number")
SWAPS = Counter("recdistill_swaps", "Models that came into service")
REFUSED = Counter("recdistill_swaps_refused", "Models that failed to load or failed their golden requests")
SERVING = Gauge("recdistill_serving_since_seconds", "When the model in service came", multiprocess_mode="max")
LOGGED = Counter("recdistill_logged_requests", "Scored requests that are in the log")
LOG_DROPPED = Counter("recdistill_logged_dropped", "Scored requests that the log had no place for")
SHADOWED = Counter("recdistill_shadow_requests", "Requests that the challenger scored too")
SHADOW_FAILED = Counter("recdistill_shadow_failures", "Requests that the challenger could not score")
SHADOW_SECONDS = Histogram("recdistill_shadow_scoring_seconds", "In the challenger's scorer", buckets=_SECONDS)
SHADOW_GAP = Histogram("recdistill_shadow_difference", "Largest difference of logits in a request", buckets=_LOGITS)
SHADOW_TOP = Histogram("recdistill_shadow_overlap", "Share of the ten best that both agree on", buckets=_SHARES)


def flush() -> None:
    """Hand on what this process has counted, for any of the server's processes to tell."""
    for tally in (LATENCY, SCORING, CANDIDATES):
        tally.flush()


def exposition() -> bytes:
    """All of it in Prometheus' text format."""
    flush()
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)
