"""A hint: a linear map of the student's last hidden layer is to be the teacher's.

    L_i = ||W h_i + c - h'_i||^2 / H',    h' the teacher's hidden layer, H' wide

Source: Romero et al., FitNets: Hints for Thin Deep Nets (ICLR 2015, equation 3), on the last hidden layer and together
with the task instead of before it. Differs: divided by the width, so that the weight does not hang on it. W is dropped
at export.

>>> hint = Hint(Facts(student=Widths(fields=(), field=0, pooled=1, blocks=(1,), hidden=1),
...                   teacher=Widths(fields=(), field=0, pooled=1, blocks=(2,), hidden=2)))
>>> _ = torch.nn.init.ones_(hint.to_teacher.weight), torch.nn.init.zeros_(hint.to_teacher.bias)
>>> student = Scores(logit=torch.zeros(1), hidden=torch.tensor([[3.0]]))
>>> teacher = Scores(logit=torch.zeros(1), hidden=torch.tensor([[1.0, 2.0]]))
>>> hint(student, teacher, Batch.example(label=[1.0])).detach()  # (2^2 + 1^2) / 2
tensor([2.5000])
"""

from torch import Tensor, nn

from recdistill.distil.facts import Facts
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "hidden"}


class Hint(nn.Module):
    """One linear map."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        assert facts.student is not None
        assert facts.teacher is not None
        self.to_teacher = nn.Linear(facts.student.hidden, facts.teacher.hidden)

    def forward(self, student: Scores, teacher: Scores, batch: Batch) -> Tensor:
        """[N] loss per row."""
        assert student.hidden is not None
        assert teacher.hidden is not None
        mapped_NH = self.to_teacher(student.hidden)
        return (mapped_NH - teacher.hidden.to(mapped_NH.dtype)).square().mean(dim=1)
