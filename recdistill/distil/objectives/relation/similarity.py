"""Similarity-preserving distillation: rows that excite the teacher alike are to excite the student alike.

    L_i = sum_j (S_ij - S'_ij)^2 / N,    S = H H^T with rows of norm 1, H the [N, H] last hidden layer

Source: Tung & Mori, Similarity-Preserving Knowledge Distillation (ICCV 2019, equations 2 to 4), one of the nine methods
of Sarfraz et al., Knowledge Distillation Beyond Model Compression (ICPR 2020, arXiv 2007.01922). The mean over the rows
is their ||S - S'||_F^2 / N^2. S is never held: see gram.py.

>>> student = Scores(logit=torch.zeros(2), hidden=torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
>>> teacher = Scores(logit=torch.zeros(2), hidden=torch.tensor([[3.0], [4.0]]))  # S' rows (9, 12) / 15, (12, 16) / 20
>>> similarity(student, teacher, Batch.example(label=[1.0, 0.0]))  # (0.4^2 + 0.8^2) / 2, (0.6^2 + 0.2^2) / 2
tensor([0.4000, 0.2000])
"""

from torch import Tensor

from recdistill.distil.gram import products
from recdistill.types import Batch, Scores

NEEDS = {"teacher", "hidden", "batch"}


def similarity(student: Scores, teacher: Scores, batch: Batch) -> Tensor:
    """[N] loss per row."""
    assert student.hidden is not None
    assert teacher.hidden is not None
    own, theirs = ((hidden, hidden) for hidden in (student.hidden, teacher.hidden.to(student.hidden.dtype).detach()))
    own_N, theirs_N = products(own, own), products(theirs, theirs)
    own_safe_N, theirs_safe_N = own_N.clamp_min(1e-24), theirs_N.clamp_min(1e-24)
    both_N = products(own, theirs) / (own_safe_N * theirs_safe_N).sqrt()
    return (own_N / own_safe_N + theirs_N / theirs_safe_N - 2 * both_N).clamp_min(0.0) / len(batch)
