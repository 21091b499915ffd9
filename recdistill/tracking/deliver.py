"""What waits in a spool, sent to the tracking server: in order, each point once."""

from __future__ import annotations

from pathlib import Path

from recdistill.promotion.registry import Registry, open_store
from recdistill.tracking.early import Session, open_early, unfinished
from recdistill.tracking.spool import NAME, Entry, Spool

_SHARE = 50  # entries between two acknowledgements


def deliver(folder: Path) -> int:
    """Send what the server does not have yet; how many entries that were.

    A point's time is that of its check, so that one sent again after a death, before it was acknowledged, is the same
    point to MLflow, which keeps it once. OSError, MlflowException or BadInput where the server does not answer.
    """
    spool = Spool(folder=folder)
    if not spool.path.is_file():
        return 0
    with spool.delivery() as sent:
        entries = spool.entries()
        _Sender(entries[:sent]).send(spool, entries, sent)
        return len(entries) - sent


def deliver_all(root: Path) -> int:
    """Of every run's folder under `root`."""
    return sum(deliver(path.parent) for path in sorted(root.glob(f"*/{NAME}")))


class _Sender:
    """Goes through entries with the session they belong to, and the runs that it has opened."""

    def __init__(self, before: list[Entry | None]) -> None:
        self.about: Session | None = None
        self.registry: Registry | None = None
        self.runs: dict[str | None, str] = {}
        for entry in before:
            if entry is not None and "begin" in entry:
                self.about = Session(**entry["begin"])

    def send(self, spool: Spool, entries: list[Entry | None], sent: int) -> None:
        for start in range(sent, len(entries), _SHARE):
            share = entries[start : start + _SHARE]
            for entry in share:
                if entry is not None:
                    self._send_one(entry)
            spool.acknowledge(start + len(share))

    def _send_one(self, entry: Entry) -> None:
        if "begin" in entry:
            self.about, self.registry, self.runs = Session(**entry["begin"]), None, {}
        elif self.about is not None and "end" in entry:
            self._end(self.about, entry["end"])
        elif self.about is not None:
            self._points(self.about, entry)

    def _points(self, about: Session, entry: Entry) -> None:
        from mlflow.entities import Metric

        run_id = self._run(about, entry["child"])
        at, step = entry["at"], entry["step"]
        metrics = [Metric(name, value, timestamp=at, step=step) for name, value in entry["metrics"].items()]
        self._opened(about).client.log_batch(run_id, metrics=metrics)

    def _run(self, about: Session, child: str | None) -> str:
        if child not in self.runs:
            parent = None if child is None else self._run(about, None)
            self.runs[child] = open_early(self._opened(about), about, child, parent).info.run_id
        return self.runs[child]

    def _end(self, about: Session, status: str) -> None:
        """Of runs that no record has adopted: an adopted one has the end that its record gave it."""
        client = self._opened(about).client
        found = client.get_experiment_by_name(about.experiment)
        if found is None:
            return
        for live in (about.live, *(f"{about.live}-{child}" for child in ("teacher", "student", "control"))):
            run = unfinished(self._opened(about), found.experiment_id, live)
            if run is not None and run.info.status == "RUNNING":
                client.set_terminated(run.info.run_id, status=status)

    def _opened(self, about: Session) -> Registry:
        if self.registry is None:
            self.registry = open_store(about.uri, "")
        return self.registry
