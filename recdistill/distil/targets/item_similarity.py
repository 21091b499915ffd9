"""KD-sim: a soft label by how close each candidate's item vector is to that of what was clicked.

    t_j <- cos(E[j], mean of E[c] over the request's clicked rows c) / tau

E is the teacher's table of the candidate; the teacher itself is not asked. With list.softmax_kl at temperature 1 the
target is q_j ~ exp(cos / tau). Source: Tang et al., Understanding and Improving Knowledge Distillation (2020, arXiv
2002.03532), where the classes' vectors are those of the teacher's last layer. Differs: several clicked rows are
averaged; a request without a click has cosine 0 everywhere: an even list. Label-dependent, so for list terms only.

>>> rows = replace(Batch.example(label=[1.0, 0.0], request=[3, 3]), ids=torch.tensor([[2], [3]]))
>>> popularity = Popularity(column=0, counts=torch.ones(4))
>>> vectors = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0], [4.0, 3.0]])
>>> similar = ItemSimilarity(Facts(popularity=popularity, item_vectors=vectors), tau=0.5)
>>> similar(Scores(logit=torch.zeros(2)), rows).logit  # cosines 1 and 4/5
tensor([2.0000, 1.6000])
"""

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch.nn.functional import cosine_similarity

from recdistill.distil.facts import Facts
from recdistill.types import Batch, Scores

NEEDS = {"requests", "labels", "item_vectors", "item_popularity"}


class ItemSimilarity:
    """tau: how sharply the soft label falls with the cosine."""

    def __init__(self, facts: Facts, *, tau: Annotated[float, Field(gt=0)] = 0.2) -> None:
        assert facts.item_vectors is not None
        assert facts.popularity is not None
        self.vectors, self.column, self.tau = facts.item_vectors, facts.popularity.column, tau

    def __call__(self, teacher: Scores, batch: Batch) -> Scores:
        """Cosines over tau instead of the teacher's logits."""
        vector_NE = self.vectors.to(batch.ids.device)[batch.ids[:, self.column]]
        line_N = torch.unique(batch.request, return_inverse=True)[1]
        clicked_NE = vector_NE * batch.label.to(vector_NE.dtype).unsqueeze(1)
        total_GE = torch.zeros((int(line_N.max()) + 1, vector_NE.shape[1]), dtype=vector_NE.dtype, device=line_N.device)
        total_GE = total_GE.index_add(0, line_N, clicked_NE)
        cosine_N = cosine_similarity(vector_NE, total_GE[line_N], dim=1)
        return replace(teacher, logit=(cosine_N / self.tau).to(teacher.logit.dtype))
