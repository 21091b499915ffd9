"""Runs of a tracking store that a dead process left RUNNING, brought to their end."""

from __future__ import annotations

import time

from recdistill.promotion.registry import open_store
from recdistill.tracking.owner import PID, SEEN, is_dead
from recdistill.train.progress import logger

CLOSED = "recdistill.closed"


def close_dead_runs(uri: str, *, stale_s: float) -> list[str]:
    """End as KILLED every RUNNING run of ours whose process is gone: their ids. The same run again goes on in it.

    A process of another machine is gone after stale_s without a sign; runs that other programs wrote are left alone.
    """
    client = open_store(uri, "").client
    closed: list[str] = []
    experiments = [one.experiment_id for one in client.search_experiments()]
    token: str | None = None
    while experiments:
        page = client.search_runs(experiments, "attributes.status = 'RUNNING'", page_token=token)
        for run in page:
            tags, now = run.data.tags, time.time()
            sign = float(tags.get(SEEN, run.info.start_time / 1000))
            if PID in tags and is_dead(tags, last_sign=sign, now=now, stale_s=stale_s):
                client.set_tag(run.info.run_id, CLOSED, f"its process {tags[PID]} was gone")
                client.set_terminated(run.info.run_id, status="KILLED", end_time=int(sign * 1000))
                logger.info("reconcile: MLflow run %s closed", run.info.run_id)
                closed.append(run.info.run_id)
        token = page.token
        if not token:
            break
    return closed
