"""Delta-KD: the student's own past score, moved as the teacher's score moved between two trainings.

    t_i <- s'_i + alpha (t_i - t'_i),    s', t' the earlier student's and teacher's logits of the row

What is off in the teacher's level (another base rate, another definition of the label) cancels in the difference.
Source: Cao et al., Delta Knowledge Distillation for Large Language Models (2025, arXiv 2509.14526), "parallelogram"
target; in log space, for one logit, and without renormalising, as a logit needs none. A row that the earlier training
never scored keeps the teacher's logit.

>>> def of(*logit):
...     return RowLogits(row_id=torch.tensor([0, 1]), logit=torch.tensor(logit))
>>> facts = Facts(others={"previous_student": of(1.0, -1.0), "previous_teacher": of(2.0, 0.0)})
>>> rows = Batch.example(label=[1.0, 0.0, 0.0])
>>> Delta(facts, alpha=0.5)(Scores(logit=torch.tensor([3.0, 0.0, 7.0])), rows).logit
tensor([ 1.5000, -1.0000,  7.0000])
"""

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field

from recdistill.distil.facts import Facts
from recdistill.types import Batch, Scores

NEEDS = {"previous"}


class Delta:
    """alpha: how much of the teacher's move the student is to make."""

    def __init__(self, facts: Facts, *, alpha: Annotated[float, Field(ge=0)] = 1.0) -> None:
        self.student, self.teacher = facts.others["previous_student"], facts.others["previous_teacher"]
        self.alpha = alpha

    def __call__(self, teacher: Scores, batch: Batch) -> Scores:
        """The moved scores of the earlier student."""
        student_N, known_N = self.student.of(batch.row_id)
        past_N, also_N = self.teacher.of(batch.row_id)
        moved_N = student_N + self.alpha * (teacher.logit - past_N)
        return replace(teacher, logit=torch.where(known_N & also_N, moved_N, teacher.logit).to(teacher.logit.dtype))
