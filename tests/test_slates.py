"""Flat rows to padded requests and back, against loops over the requests."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.slates import log_softmax, ranks, slates

some = st.lists(st.integers(-3, 3), min_size=1, max_size=30)
requests = st.one_of(some, some.map(sorted))


@given(requests)
def test_pad_and_flat_are_inverse_and_the_mask_marks_the_rows(request):
    view = slates(torch.tensor(request))
    values = torch.arange(1.0, len(request) + 1)
    padded = view.pad(values, fill=-7.0)
    assert torch.equal(view.flat(padded), values)
    assert torch.equal(padded != -7.0, view.mask)
    assert view.request.tolist() == sorted(set(request))
    assert view.sizes.tolist() == [request.count(r) for r in sorted(set(request))]


@given(requests)
def test_rows_keep_their_order_inside_a_request(request):
    view = slates(torch.tensor(request))
    padded = view.pad(torch.arange(len(request)))
    for line, r in enumerate(view.request.tolist()):
        assert padded[line][view.mask[line]].tolist() == [i for i, own in enumerate(request) if own == r]


@given(requests, st.integers(0, 10_000))
def test_log_softmax_is_that_of_each_request_alone(request, seed):
    key = torch.tensor(request)
    logit = torch.randn(len(request), generator=torch.Generator().manual_seed(seed)) * 10
    view = slates(key)
    found = view.flat(log_softmax(view.pad(logit), view.mask))
    for r in set(request):
        assert torch.allclose(found[key == r], torch.log_softmax(logit[key == r], dim=0), atol=1e-5)


def test_padding_is_zero_and_takes_no_gradient_even_beside_extremes():
    logit = torch.tensor([40.0, -40.0, 3.0], requires_grad=True)
    view = slates(torch.tensor([5, 5, 2]))
    found = log_softmax(view.pad(logit), view.mask)
    assert found[~view.mask].tolist() == [0.0]
    found.sum().backward()
    assert torch.isfinite(logit.grad).all()
    assert logit.grad[2] == 0  # alone in its request: probability 1 whatever its logit


def test_what_stands_in_the_padding_does_not_matter():
    mask = torch.tensor([[True, True, False]])
    one = log_softmax(torch.tensor([[1.0, 2.0, 99.0]]), mask)
    other = log_softmax(torch.tensor([[1.0, 2.0, -99.0]]), mask)
    assert torch.equal(one, other)


def test_no_rows_make_no_requests():
    view = slates(torch.zeros(0, dtype=torch.int64))
    assert view.mask.shape[0] == 0
    assert view.flat(view.pad(torch.zeros(0))).shape == (0,)


@given(requests, st.integers(0, 10_000))
def test_ranks_count_the_rows_above_and_the_earlier_ones_that_tie(request, seed):
    key = torch.tensor(request)
    score = torch.randint(0, 3, (len(request),), generator=torch.Generator().manual_seed(seed)).float()
    view = slates(key)
    found = view.flat(ranks(view.pad(score), view.mask)).tolist()
    for i, r in enumerate(request):
        others = [j for j, own in enumerate(request) if own == r]
        assert found[i] == sum(score[j] > score[i] or (score[j] == score[i] and j < i) for j in others)


def test_padding_ranks_below_every_row():
    view = slates(torch.tensor([1, 1, 1, 2]))
    place = ranks(view.pad(torch.tensor([-9.0, -5.0, -7.0, -8.0])), view.mask)
    assert place.tolist() == [[2, 0, 1], [0, 1, 2]]
