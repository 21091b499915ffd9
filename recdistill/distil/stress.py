"""What a study of distillation does to the training labels of student and control alike: noise and imbalance."""

from __future__ import annotations

from dataclasses import dataclass, replace

from recdistill.distil.hashed import uniform
from recdistill.types import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Stress:
    """flip: share of the positives whose label becomes 0. keep: share of the positives that are learned from at all.

    Both by a hash of the row, so that a row fares alike in every epoch and arm.
    """

    flip: float = 0.0
    keep: float = 1.0

    def __call__(self, batch: Batch) -> Batch:
        """The batch as it is learned from.

        >>> Stress(flip=1.0)(Batch.example(label=[1.0, 0.0])).label.tolist()
        [0.0, 0.0]
        """
        if not self.flip and self.keep == 1:
            return batch
        positive_N = batch.label > 0.5
        flipped_N = positive_N & (uniform(batch.row_id, 3) < self.flip)
        lost_N = positive_N & (uniform(batch.row_id, 4) >= self.keep)
        return replace(batch, label=batch.label * ~flipped_N, weight=batch.weight * ~lost_N)


UNHARMED = Stress()
