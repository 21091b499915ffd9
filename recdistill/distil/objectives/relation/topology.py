"""Full topology distillation: the cosine between any two rows is to be that of the teacher.

    L_i = 1/(N - 1) sum_{j != i} (cos(h_i, h_j) - cos(h'_i, h'_j))^2

Source: Kang et al., Topology Distillation for Recommender System (KDD 2021, arXiv 2106.08700), section 4.1 (FTD).
Differs: the last hidden layers of the batch's rows, where theirs are the vectors of its users and items; the mean over
the other rows instead of their sum, so that the weight does not hang on the batch. Unlike relation.similarity, rows are
normed before they are compared, so that long vectors count no more than short ones. N^2 numbers are held: fine for
batches of up to 4,096.

>>> student = Scores(logit=torch.zeros(3), hidden=torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]))
>>> teacher = Scores(logit=torch.zeros(3), hidden=torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.6, 0.8]]))
>>> topology(student, teacher, Batch.example(label=[1.0, 0.0, 0.0]))  # cosines 0, 1, 0 and 0.6, 0.6, 1
tensor([0.2600, 0.6800, 0.5800])
"""

from torch import Tensor
from torch.nn.functional import normalize

from recdistill.types import Batch, Scores

NEEDS = {"teacher", "hidden", "batch"}


def topology(student: Scores, teacher: Scores, batch: Batch) -> Tensor:
    """[N] loss per row; 0 for a batch of one."""
    assert student.hidden is not None
    assert teacher.hidden is not None
    own_NH, theirs_NH = (normalize(hidden, dim=1) for hidden in (student.hidden, teacher.hidden.to(student.hidden)))
    gap_NN = own_NH @ own_NH.T - theirs_NH @ theirs_NH.T
    return gap_NN.square().fill_diagonal_(0.0).sum(dim=1) / max(1, len(batch) - 1)
