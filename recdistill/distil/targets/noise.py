"""Noise on the teacher's logits, the same for a row whenever it comes: a stress test, not a method.

    t_i <- t_i + sigma std(t) n_i,    n_i standard normal, fixed by row and seed;    std over the batch

Source: the noisy-teacher test of Ramesh et al., On the Generalization vs Fidelity Paradox in Knowledge Distillation
(Findings of ACL 2025, arXiv 2505.15442): sigma 1 is mild, 5 a collapse. Differs: sigma is in standard deviations of the
logits, and a row keeps its noise from epoch to epoch, as a worse teacher would.

>>> rows = Batch.example(label=[1.0, 0.0])
>>> teacher = Scores(logit=torch.tensor([2.0, -4.0]))
>>> torch.equal(noise(teacher, rows, sigma=0.5).logit, noise(teacher, rows, sigma=0.5).logit)
True
>>> noise(teacher, rows, sigma=0.0).logit
tensor([ 2., -4.])
"""

from dataclasses import replace
from typing import Annotated

from pydantic import Field

from recdistill.distil.hashed import normal
from recdistill.types import Batch, Scores


def noise(
    teacher: Scores,
    batch: Batch,
    *,
    sigma: Annotated[float, Field(ge=0)] = 1.0,
    seed: Annotated[int, Field(ge=0)] = 0,
) -> Scores:
    """The teacher's scores with noisy logits."""
    spread = teacher.logit.std(correction=0)
    return replace(teacher, logit=teacher.logit + sigma * spread * normal(batch.row_id, seed).to(teacher.logit.dtype))
