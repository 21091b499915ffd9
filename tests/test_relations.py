"""Relations between the rows of a batch: what is computed by shorter ways is what the formulas say."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize

from recdistill.distil.facts import Facts, Widths
from recdistill.distil.objectives.relation.distance import distance
from recdistill.distil.objectives.relation.hierarchical_topology import HierarchicalTopology
from recdistill.distil.objectives.relation.similarity import similarity
from recdistill.distil.objectives.relation.topology import Topology
from recdistill.types import Batch, Scores

N = 300
GENERATOR = torch.Generator().manual_seed(7)
OWN, THEIRS = (torch.randn(N, width, generator=GENERATOR, dtype=torch.float64) for width in (5, 9))
BATCH = Batch.example(label=[0.0] * N)


def scores(hidden):
    return Scores(logit=torch.zeros(len(hidden), dtype=hidden.dtype), hidden=hidden)


ONE = Widths(fields=(), field=0, pooled=1, blocks=(1,), hidden=1)
FACTS_OF_ONE = Facts(student=ONE, teacher=ONE)


def facts():
    own, theirs = (Widths(fields=(), field=0, pooled=n, blocks=(n,), hidden=n) for n in (OWN.shape[1], THEIRS.shape[1]))
    return Facts(student=own, teacher=theirs)


def test_topology_is_that_of_all_pairs():
    own, theirs = normalize(OWN, dim=1), normalize(THEIRS, dim=1)
    wanted = (own @ own.T - theirs @ theirs.T).square().sum(dim=1) / (N - 1)
    assert torch.allclose(Topology(facts())(scores(OWN), scores(THEIRS), BATCH), wanted, rtol=1e-12)


def test_topology_leaves_a_row_with_itself_out():
    own, theirs = (scores(torch.tensor([[length], [1.0]])) for length in (0.0, 1.0))
    loss = Topology(FACTS_OF_ONE)(own, theirs, Batch.example(label=[0.0, 0.0]))
    assert loss.tolist() == [1.0, 1.0], "cosines of the two rows: 0 and 1"


def test_similarity_is_that_of_all_pairs():
    own, theirs = (normalize(hidden @ hidden.T, dim=1) for hidden in (OWN, THEIRS))
    wanted = (own - theirs).square().sum(dim=1) / N
    assert torch.allclose(similarity(scores(OWN), scores(THEIRS), BATCH), wanted, rtol=1e-12)


def test_hierarchical_topology_is_that_of_all_pairs_inside_groups():
    loss = HierarchicalTopology(facts(), groups=4, alpha=1.0).double().eval()
    group = torch.unique(loss.sides[0].selector(THEIRS).argmax(dim=1), return_inverse=True)[1]
    assert int(group.max()) > 0, "one group alone would show nothing"
    wanted = torch.zeros(N, dtype=torch.float64)
    own, theirs = normalize(OWN, dim=1), normalize(THEIRS, dim=1)
    centres = [[h[group == g].sum(dim=0) for g in range(int(group.max()) + 1)] for h in (OWN, THEIRS)]
    own_centre, theirs_centre = (normalize(torch.stack(found), dim=1) for found in centres)
    for row in range(N):
        mates = group == group[row]
        gap = (own[mates] @ own[row] - theirs[mates] @ theirs[row]).square().sum()
        gap += (own_centre @ own[row] - theirs_centre @ theirs[row]).square().sum()
        wanted[row] = gap / (mates.sum() + len(own_centre))
    assert torch.allclose(loss(scores(OWN), scores(THEIRS), BATCH).detach(), wanted, rtol=1e-12)


def test_groups_of_the_hierarchy_do_not_hang_on_the_noise_of_its_experts():
    """A batch that comes again stands in the same groups, and with it its loss."""
    loss = HierarchicalTopology(facts(), groups=4, alpha=1.0).double().train()
    first, again = (loss(scores(OWN), scores(THEIRS), BATCH).detach() for _ in range(2))
    assert torch.equal(first, again)


def test_users_and_items_have_groups_of_their_own():
    """With one group a side, a user's mates are the users, and the two centres are theirs and the items'."""
    width = Widths(fields=("user", "item"), field=2, pooled=4, blocks=(), hidden=4)
    loss = HierarchicalTopology(Facts(student=width, teacher=width), groups=1, alpha=1.0).eval()
    rows = Batch.example(label=[0.0, 0.0])
    rows = replace(rows, ids=torch.tensor([[7, 8], [9, 8]]))  # two users, one item
    own = torch.tensor([[1.0, 0.0, 1.0, 0.0], [1.0, 0.0, 1.0, 0.0]])
    theirs = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]])
    found = loss(scores(own), scores(theirs), rows).detach()
    half = 0.5**0.5  # cosine of each user with the users' centre, as the teacher has it; the student's are all 1
    first = (1.0 + (1 - half) ** 2 + 0.0) / 4  # of the other user, the users' centre, the item
    second = (1.0 + (1 - half) ** 2 + 1.0) / 4
    item = ((1 - half) ** 2 + 0.0) / 3
    assert torch.allclose(found, torch.tensor([(first + item) / 2, (second + item) / 2]), atol=1e-6)


@pytest.mark.parametrize("among", [N, 128, 7])
def test_distances_are_between_rows_that_meet(among):
    found = distance(scores(OWN), scores(THEIRS), BATCH, among=among)
    num = -(-N // among)
    for first in range(num):
        own, theirs = OWN[first::num], THEIRS[first::num]
        alone = distance(scores(own), scores(theirs), Batch.example(label=[0.0] * len(own)), among=N)
        assert torch.allclose(found[first::num], alone, rtol=1e-12)


def test_rows_without_a_vector_have_a_gradient():
    own = OWN.clone()
    own[3] = 0.0
    own.requires_grad_()
    loss = similarity(scores(own), scores(THEIRS), BATCH) + Topology(facts())(scores(own), scores(THEIRS), BATCH)
    loss.sum().backward()
    assert torch.isfinite(own.grad).all()
