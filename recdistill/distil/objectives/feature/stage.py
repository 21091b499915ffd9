"""One layer of the student mimics the teacher's layer of the same depth; the schedule says which.

    L_i = ||W_k h_i^k + c_k - h'_i^m||^2 / H_m,    k = 0 the pooled embeddings, k >= 1 the k-th hidden layer
    m = 0 for k = 0, else round(k M / K) of the teacher's M hidden layers, at least 1

Source: Kulkarni et al., Data Efficient Stagewise Knowledge Distillation (2019, arXiv 1911.06786) and Gao et al., An
Embarrassingly Simple Approach for Knowledge Distillation (2018, arXiv 1812.01819): one stage after the other, by
schedules/stagewise.py. Differs: student and teacher have other widths, hence W_k; divided by the width. `block` not
given: the last layer.

>>> own, theirs = (Widths(fields=("a",), field=1, pooled=1, blocks=(n,), hidden=n) for n in (1, 2))
>>> loss = Stage(Facts(student=own, teacher=theirs))
>>> _ = torch.nn.init.ones_(loss.to_teacher[1].weight), torch.nn.init.zeros_(loss.to_teacher[1].bias)
>>> live = SimpleNamespace(blocks=lambda batch: (torch.tensor([[1.0, 2.0]]),))
>>> inside = Inside(pooled=torch.zeros(1, 1), blocks=(torch.tensor([[3.0]]),), from_pooled=None, teacher=live)
>>> loss(None, None, Batch.example(label=[1.0]), inside).detach()  # (2^2 + 1^2) / 2
tensor([2.5000])
"""

from torch import Tensor, nn

from recdistill.distil.facts import Facts
from recdistill.distil.inside import Inside
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "live_teacher", "blocks", "pooled"}


class Stage(nn.Module):
    """A linear map a layer."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        student, teacher = facts.student, facts.teacher
        assert student is not None
        assert teacher is not None
        self.match = [round(k * len(teacher.blocks) / len(student.blocks)) for k in range(1, len(student.blocks) + 1)]
        self.match = [max(1, m) for m in self.match]
        theirs = [len(teacher.fields) * teacher.field, *(teacher.blocks[m - 1] for m in self.match)]
        pairs = zip([student.pooled, *student.blocks], theirs, strict=True)
        self.to_teacher = nn.ModuleList(nn.Linear(own, other) for own, other in pairs)

    def forward(
        self, student: Scores, teacher: Scores, batch: Batch, inside: Inside, *, block: int | None = None
    ) -> Tensor:
        """[N] loss per row."""
        assert inside.teacher is not None
        k = len(self.to_teacher) - 1 if block is None else block
        own_NH = inside.pooled if k == 0 else inside.blocks[k - 1]
        if k == 0:
            other_NH = inside.teacher.pooled(batch).flatten(1)
        else:
            other_NH = inside.teacher.blocks(batch)[self.match[k - 1] - 1]
        mapped_NH = self.to_teacher[k](own_NH)
        return (mapped_NH - other_NH.to(mapped_NH.dtype)).square().mean(dim=1)
