"""Every metric of one model at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from recdistill.metrics.agreement import correlation, overlap
from recdistill.metrics.calibration import expected_calibration_error, log_loss, normalised_entropy
from recdistill.metrics.ranking import auc, gauc, hit_rate, mrr, ndcg
from recdistill.metrics.rows import Floats, Rows

HIGHER_IS_BETTER = {
    "auc": True,
    "gauc": True,
    "ndcg_at_10": True,
    "hit_rate_at_10": True,
    "mrr_at_10": True,
    "log_loss": False,
    "ne": False,
    "ece": False,
    "teacher_correlation": True,
    "teacher_overlap_at_10": True,
}

RANKING: dict[str, Callable[[Floats, Rows, Floats], Floats]] = {
    "auc": auc,
    "gauc": gauc,
    "ndcg_at_10": partial(ndcg, k=10),
}
"""What gates compare: (logit [N], rows, weights [B, U]) -> [B]."""


def measure(logit: Floats, rows: Rows, weight_BU: Floats, teacher: Floats | None = None) -> dict[str, Floats]:
    """Every metric of one model under B weightings of the U users: name -> [B].

    logit: [N] before the sigmoid. teacher: [N] logits to agree with; None leaves the two agreement metrics out.
    """
    measured = {
        "auc": auc(logit, rows, weight_BU),
        "gauc": gauc(logit, rows, weight_BU),
        "ndcg_at_10": ndcg(logit, rows, weight_BU, k=10),
        "hit_rate_at_10": hit_rate(logit, rows, weight_BU, k=10),
        "mrr_at_10": mrr(logit, rows, weight_BU, k=10),
        "log_loss": log_loss(logit, rows, weight_BU),
        "ne": normalised_entropy(logit, rows, weight_BU),
        "ece": expected_calibration_error(logit, rows, weight_BU),
    }
    if teacher is not None:
        measured["teacher_correlation"] = correlation(logit, teacher, rows, weight_BU)
        measured["teacher_overlap_at_10"] = overlap(logit, teacher, rows, weight_BU, k=10)
    return measured
