"""The scorer's health from outside: what its /metrics and /about say, since the last look, against the registry."""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from recdistill.config.run import Run
from recdistill.config.sections import epoch_us
from recdistill.files import read_json, write_json
from recdistill.monitor.drifted import champion
from recdistill.problems import BadInput, problem

_TIMEOUT_S = 10.0
Samples = dict[str, float]  # a sample as Prometheus writes it -> its value


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the table. value: None where nothing was asked since the last look, which is fine."""

    name: str
    value: float | str | None
    limit: float | str
    fine: bool


def watch_health(run: Run, url: str, now: datetime, token: str | None = None) -> dict[str, Any]:
    """Look at a server of `recdistill serve`: {requests, checks}; counters count since the last look of this run.

    now: the clock, for ages. Checks: share of 5xx, p99 of the answers, requests without a number, refused models,
    whether it serves the champion, and how long ago the champion's data ends. BadInput where it does not answer.
    """
    found = _samples(_get(url, "/metrics", token).decode())
    about = json.loads(_get(url, "/about", token))
    kept = Path(run.folder) / "monitor" / "scorer.json"
    before: Samples = read_json(kept).get(url, {}) if kept.is_file() else {}
    version = champion(run)
    checks = [*_counted(run, since(found, before)), *_stale(run, about, version.tags, now)]
    kept.parent.mkdir(parents=True, exist_ok=True)
    write_json(kept, {**(read_json(kept) if kept.is_file() else {}), url: found})
    requests = sum(
        value for name, value in since(found, before).items() if name.startswith("recdistill_requests_total")
    )
    return {"url": url, "requests": requests, "checks": [asdict(check) for check in checks]}


def _get(url: str, path: str, token: str | None) -> bytes:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    try:
        request = urllib.request.Request(url.rstrip("/") + path, headers=headers)
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            found: bytes = answer.read()
            return found
    except (OSError, ValueError) as error:
        remedy = "start the server, mend --server, or set RECDISTILL_TOKEN"
        found_text = str(error).splitlines()[0][:200]
        raise BadInput(problem(url + path, wanted="a server's answer", found=found_text, remedy=remedy)) from None


def _samples(text: str) -> Samples:
    """The samples that only ever grow, those of counters and histograms, by name and labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        if family.type in ("counter", "histogram") and family.name.startswith("recdistill"):
            for sample in family.samples:
                labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def since(found: Samples, before: Samples) -> Samples:
    """How much each grew; one that shrank was begun anew.

    >>> since({"a": 5.0, "b": 2.0, "c": 1.0}, {"a": 3.0, "b": 9.0})
    {'a': 2.0, 'b': 2.0, 'c': 1.0}
    """
    return {
        name: value - before.get(name, 0.0) if value >= before.get(name, 0.0) else value
        for name, value in found.items()
    }


def _counted(run: Run, grown: Samples) -> list[Check]:
    answered = {name: value for name, value in grown.items() if name.startswith("recdistill_requests_total{form=")}
    answered = {name: value for name, value in answered.items() if "form=other" not in name}
    total, failed = sum(answered.values()), sum(value for name, value in answered.items() if "status=5" in name)
    share = failed / total if total else None
    p99 = quantile(grown, "recdistill_seconds", 0.99)
    p99_ms = None if p99 is None else p99 * 1e3
    settings = run.monitor
    return [
        Check(
            name="errors",
            value=share,
            limit=settings.max_error_share,
            fine=share is None or share <= settings.max_error_share,
        ),
        Check(
            name="p99_ms", value=p99_ms, limit=settings.max_p99_ms, fine=p99_ms is None or p99_ms <= settings.max_p99_ms
        ),
        _none(grown, "not_finite", "recdistill_not_finite_total"),
        _none(grown, "refused_models", "recdistill_swaps_refused_total"),
    ]


def _none(grown: Samples, name: str, counter: str) -> Check:
    value = sum(value for sample, value in grown.items() if sample.startswith(counter + "{"))
    return Check(name=name, value=value, limit=0, fine=value == 0)


def quantile(grown: Samples, histogram: str, share: float) -> float | None:
    """A quantile of a histogram, linear within its bucket as Prometheus' histogram_quantile; None without entries.

    Where it lies beyond the last finite edge it is that edge.

    >>> quantile({"h_bucket{le=1.0}": 90.0, "h_bucket{le=2.0}": 100.0, "h_bucket{le=+Inf}": 100.0}, "h", 0.95)
    1.5
    """
    start = f"{histogram}_bucket{{le="
    buckets = sorted((float(name[len(start) : -1]), value) for name, value in grown.items() if name.startswith(start))
    if not buckets or not buckets[-1][1]:
        return None
    rank, below, counted = share * buckets[-1][1], 0.0, 0.0
    for edge, upto in buckets:
        if upto >= rank:
            return below if math.isinf(edge) else below + (edge - below) * (rank - counted) / (upto - counted)
        below, counted = edge, upto
    return None


def _stale(run: Run, about: Mapping[str, Any], tags: Mapping[str, str], now: datetime) -> list[Check]:
    served, wanted = str(about["digest"])[:12], tags.get("bundle_sha256", "")[:12]
    age_s = (epoch_us(now) - int(tags.get("window_end", "0"))) / 1e6
    most_s = run.monitor.max_age / timedelta(seconds=1)
    return [
        Check(name="serves_champion", value=served, limit=wanted, fine=served == wanted),
        Check(name="data_age_s", value=age_s, limit=most_s, fine=age_s <= most_s),
    ]


def clock() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)
