"""How true probabilities are: log loss, normalised entropy and calibration error, under B weightings of the users."""

from __future__ import annotations

import numpy as np

from recdistill.metrics.rows import Floats, Rows, per_user, ratio

NUM_ECE_BINS = 15


def log_loss(logit: Floats, rows: Rows, weight_BU: Floats) -> Floats:
    """Mean binary cross-entropy in nats, from logits, without clipping. [B]"""
    shifted = rows.shifted(logit)
    loss = np.logaddexp(0.0, shifted) - rows.label * shifted
    return ratio(weight_BU @ per_user(loss, rows), weight_BU @ per_user(np.ones_like(loss), rows))


def normalised_entropy(logit: Floats, rows: Rows, weight_BU: Floats) -> Floats:
    """Log loss over the entropy of the base rate: 1 is a constant guess (He et al., ADKDD 2014, equation 3). [B]"""
    rate = ratio(weight_BU @ per_user(rows.label, rows), weight_BU @ per_user(np.ones_like(rows.label), rows))
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -(rate * np.log(rate) + (1 - rate) * np.log1p(-rate))
    return ratio(log_loss(logit, rows, weight_BU), np.nan_to_num(entropy))


def expected_calibration_error(logit: Floats, rows: Rows, weight_BU: Floats) -> Floats:
    """Mean |predicted - observed rate| over 15 bins of equal numbers of rows, in probability. [B]

    The bins are cut once, on all rows, and kept for every draw. Naeini et al. (AAAI 2015) cut bins of equal width,
    which leaves most of them empty at a low base rate.
    """
    probability = (1 + np.tanh(rows.shifted(logit) / 2)) / 2
    edges = np.quantile(probability, np.linspace(0, 1, NUM_ECE_BINS + 1)[1:-1])
    cell = rows.user * NUM_ECE_BINS + np.searchsorted(edges, probability, side="right")
    gap = np.bincount(cell, probability - rows.label, rows.num_users * NUM_ECE_BINS)
    gap_BC = weight_BU @ gap.reshape(rows.num_users, NUM_ECE_BINS)
    return ratio(np.abs(gap_BC).sum(axis=1), weight_BU @ per_user(np.ones_like(logit), rows))


def predicted_over_observed(logit: Floats, rows: Rows, weight_BU: Floats) -> Floats:
    """Sum of the probabilities over the number of positives: 1 is right, 2 says twice what comes. [B]

    NaN without a positive. Source: He et al., ADKDD 2014, section 3, "calibration".
    """
    probability = (1 + np.tanh(rows.shifted(logit) / 2)) / 2
    return ratio(weight_BU @ per_user(probability, rows), weight_BU @ per_user(rows.label, rows))
