"""A running AUC is the AUC, but for rows whose probabilities fall into one bin."""

import math

import numpy as np
import pytest
import torch

from recdistill.metrics.ranking import plain_auc
from recdistill.train.engine.progressive import Progressive

CPU = torch.device("cpu")


def test_it_is_the_auc_whatever_the_batches():
    generator = np.random.default_rng(5)
    logit = generator.normal(size=5000).astype(np.float32)
    label = (generator.random(5000) < 1 / (1 + np.exp(-logit))).astype(np.float32)
    for size in (5000, 77):
        running = Progressive(CPU)
        for start in range(0, 5000, size):
            running.add(torch.from_numpy(logit[start : start + size]), torch.from_numpy(label[start : start + size]))
        assert running.take() == pytest.approx(plain_auc(logit, label), abs=1e-4)


def test_by_hand_with_a_tie():
    """Pairs: 2 > -1, 2 > 1, 1 = 1 (a half), 1 > -1: 3.5 of 4."""
    running = Progressive(CPU)
    running.add(torch.tensor([2.0, 1.0, -1.0, 1.0]), torch.tensor([1.0, 1.0, 0.0, 0.0]))
    assert running.take() == 3.5 / 4


def test_taking_begins_anew_and_one_class_has_no_auc():
    running = Progressive(CPU)
    running.add(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 0.0]))
    running.take()
    running.add(torch.tensor([2.0]), torch.tensor([1.0]))
    assert math.isnan(running.take())


def test_extreme_logits_are_counted_and_the_counts_there_and_back():
    one, other = Progressive(CPU), Progressive(CPU)
    one.add(torch.tensor([1e30, -1e30, 0.0]), torch.tensor([1.0, 0.0, 1.0]))
    other.load(one.tensors())
    assert other.take() == one.take() == 1.0
