"""What training a teacher and a student have in common."""

from __future__ import annotations

from recdistill.sections import Count, Positive, Section


class Training(Section):
    """What training a teacher and a student have in common."""

    epochs: Count = 5
    batch_size: Count = 2048
    learning_rate: Positive
    """Of the dense layers (Adam)."""
    embedding_learning_rate: Positive
    """Of the embedding tables (row-wise Adagrad)."""
    checks_per_epoch: Count = 1
    """How often the validation AUC is taken; the best weights are kept."""
    patience: Count = 1
    """Stop after this many checks in a row without a better validation AUC."""
