"""Every metric against a slow loop, a formula by hand or scikit-learn; weights against repeated rows."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from recdistill.metrics.agreement import correlation
from recdistill.metrics.bootstrap import interval, user_draws
from recdistill.metrics.calibration import NUM_ECE_BINS, expected_calibration_error, log_loss, normalised_entropy
from recdistill.metrics.measure import HIGHER_IS_BETTER, measure
from recdistill.metrics.ranking import auc, gauc, hit_rate, mrr, ndcg, plain_auc
from recdistill.metrics.rows import Rows, numbered

K = 10


def make(seed, *, num_rows=200, num_users=12, ties=False):
    """Rows of a few users and requests with informative logits; every user and request has rows."""
    generator = np.random.default_rng(seed)
    request = np.r_[np.arange(num_users * 2), generator.integers(0, num_users * 2, num_rows - num_users * 2)]
    user = request // 2
    label = (generator.random(num_rows) < 0.3).astype(np.float64)
    label[:2] = 0.0, 1.0
    logit = label + generator.normal(0, 1.5, num_rows)
    return (np.round(logit) if ties else logit), Rows(label=label, user=user, request=request)


def ones(rows, draws=1):
    return np.ones((draws, rows.num_users))


def repeated(logit, rows, weight_U):
    """The same data with every user's rows that many times, each copy of a user with requests of its own."""
    copies = weight_U.astype(int)[rows.user]
    index = np.repeat(np.arange(len(logit)), copies)
    copy = np.concatenate([np.arange(n) for n in copies])
    request = numbered(rows.request[index] * 1000 + copy)
    return logit[index], Rows(label=rows.label[index], user=numbered(rows.user[index]), request=request)


def slow_auc(logit, label):
    pairs = list(itertools.product(logit[label == 1], logit[label == 0]))
    return sum(float(up > down) + (up == down) / 2 for up, down in pairs) / len(pairs) if pairs else float("nan")


def both_classes(label):
    return 0 < label.sum() < len(label)


def slow_ndcg(logit, label):
    """The mean over all orders of the ties, by giving every tied row the mean gain of its tie."""
    order = sorted(range(len(logit)), key=lambda i: -logit[i])
    gains = [np.mean([label[j] for j in order if logit[j] == logit[i]]) for i in order]
    best = sorted(label, reverse=True)
    dcg, ideal = (sum(g / np.log2(place + 2) for place, g in enumerate(values[:K])) for values in (gains, best))
    return dcg / ideal


def slow_first(logit, label, k):
    """(hit rate, mrr) of one request: means over all orders of its rows that its scores allow."""
    orders = [o for o in itertools.permutations(range(len(logit))) if all(np.diff(logit[list(o)]) <= 0)]
    places = [next(place for place, row in enumerate(order) if label[row]) for order in orders]
    return np.mean([p < k for p in places]), np.mean([1 / (p + 1) if p < k else 0.0 for p in places])


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_hit_rate_and_mrr_are_means_over_the_orders_of_ties(seed, k):
    logit, rows = make(seed, num_rows=60, ties=True)
    weight = np.random.default_rng(seed).integers(0, 3, (2, rows.num_users)).astype(float)
    slow, user = [], []
    for r in range(rows.request.max() + 1):
        mine = rows.request == r
        if both_classes(rows.label[mine]):
            slow.append(slow_first(logit[mine], rows.label[mine], k))
            user.append(rows.user[mine][0])
    assert len(slow) >= 5
    hit, reciprocal = np.array(slow).T
    for line, weight_U in enumerate(weight):
        of_requests = weight_U[user]
        assert hit_rate(logit, rows, weight, k=k)[line] == pytest.approx(hit @ of_requests / of_requests.sum())
        assert mrr(logit, rows, weight, k=k)[line] == pytest.approx(reciprocal @ of_requests / of_requests.sum())


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_auc_is_that_of_sklearn_and_weights_are_repeated_rows(seed, ties):
    logit, rows = make(seed, ties=ties)
    weight = np.random.default_rng(seed).integers(0, 4, (3, rows.num_users)).astype(np.float64)
    found = auc(logit, rows, np.concatenate([ones(rows), weight]))
    assert found[0] == pytest.approx(roc_auc_score(rows.label, logit))
    for b, weight_U in enumerate(weight):
        assert found[b + 1] == pytest.approx(roc_auc_score(rows.label, logit, sample_weight=weight_U[rows.user]))
        again, those = repeated(logit, rows, weight_U)
        assert found[b + 1] == pytest.approx(roc_auc_score(those.label, again))


def test_auc_is_exact_at_a_low_base_rate():
    """A binned AUC with 200 thresholds cannot tell these apart: all predictions lie below 1/200."""
    label = np.r_[np.zeros(1000), np.ones(3)]
    logit = np.r_[np.linspace(-9, -8, 1000), -7.9, -8.5, -9.5]
    assert plain_auc(logit, label) == pytest.approx(slow_auc(logit, label))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_gauc_is_the_mean_of_users_aucs_by_rows(seed, ties):
    logit, rows = make(seed, ties=ties)
    weight = np.r_[ones(rows), np.random.default_rng(seed).integers(0, 3, (2, rows.num_users)).astype(np.float64)]
    for weight_U, found in zip(weight, gauc(logit, rows, weight), strict=True):
        above = below = 0.0
        for u in range(rows.num_users):
            mine = rows.user == u
            if both_classes(rows.label[mine]):
                above += weight_U[u] * mine.sum() * slow_auc(logit[mine], rows.label[mine])
                below += weight_U[u] * mine.sum()
        assert found == pytest.approx(above / below)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_ndcg_is_the_mean_of_requests_with_ties_averaged(seed, ties):
    logit, rows = make(seed, num_rows=400, ties=ties)
    slow = {}
    for r in range(rows.request.max() + 1):
        mine = rows.request == r
        if both_classes(rows.label[mine]):
            slow[r] = slow_ndcg(logit[mine].tolist(), rows.label[mine].tolist())
            if not ties:
                assert slow[r] == pytest.approx(ndcg_score([rows.label[mine]], [logit[mine]], k=K))
    assert len(slow) > 5
    weight = np.r_[ones(rows), np.random.default_rng(seed).integers(0, 3, (2, rows.num_users)).astype(np.float64)]
    for weight_U, found in zip(weight, ndcg(logit, rows, weight, k=K), strict=True):
        weights = [weight_U[r // 2] for r in slow]
        assert found == pytest.approx(np.average(list(slow.values()), weights=weights))


def test_a_tie_costs_what_its_orders_cost_on_average():
    rows = Rows(label=np.array([1.0, 0.0, 0.0]), user=np.zeros(3, int), request=np.zeros(3, int))
    found = ndcg(np.array([2.0, 2.0, 1.0]), rows, ones(rows), k=K)[0]
    assert found == pytest.approx((1 / np.log2(2) + 1 / np.log2(3)) / 2)


def by_hand():
    """Two users: p = 1/2, 3/4 with labels 1, 0, and p = 3/4 with label 1."""
    logit = np.array([0.0, np.log(3), np.log(3)])
    return logit, Rows(label=np.array([1.0, 0, 1]), user=np.array([0, 0, 1]), request=np.zeros(3, int))


def test_log_loss_and_ne_by_hand():
    logit, rows = by_hand()
    weight = np.array([[1.0, 1.0], [2.0, 1.0]])
    once, twice = np.log(2) + np.log(4), -np.log(0.75)
    wanted = [(once + twice) / 3, (2 * once + twice) / 5]
    assert log_loss(logit, rows, weight).tolist() == pytest.approx(wanted)
    entropy = [-(p * np.log(p) + (1 - p) * np.log(1 - p)) for p in (2 / 3, 3 / 5)]
    found = normalised_entropy(logit, rows, weight)
    assert found.tolist() == pytest.approx([w / e for w, e in zip(wanted, entropy, strict=True)])


def test_a_constant_guess_of_the_base_rate_has_ne_one_and_no_calibration_error():
    _, rows = make(0)
    rate = rows.label.mean()
    constant = np.full(len(rows.label), np.log(rate / (1 - rate)))
    assert normalised_entropy(constant, rows, ones(rows))[0] == pytest.approx(1.0)
    assert expected_calibration_error(constant, rows, ones(rows))[0] == pytest.approx(0.0, abs=1e-12)


def test_ece_is_the_mean_gap_of_bins_of_equal_size():
    """15 bins of 4 rows each; the gap of a bin is |p - positives / 4|."""
    num = NUM_ECE_BINS
    p = np.repeat(np.linspace(0.1, 0.9, num), 4)
    positives = np.arange(num) % 5
    label = np.concatenate([np.r_[np.ones(k), np.zeros(4 - k)] for k in positives])
    rows = Rows(label=label, user=np.arange(4 * num), request=np.zeros(4 * num, int))
    wanted = np.abs(np.linspace(0.1, 0.9, num) - positives / 4).mean()
    assert expected_calibration_error(np.log(p / (1 - p)), rows, ones(rows))[0] == pytest.approx(wanted)


def test_ece_sees_a_shift_that_auc_does_not():
    logit, rows = make(1)
    shifted = logit + 3
    assert auc(shifted, rows, ones(rows)) == auc(logit, rows, ones(rows))
    before, after = (expected_calibration_error(v, rows, ones(rows))[0] for v in (logit - 1.5, shifted))
    assert after > before + 0.3


def test_agreement_with_a_teacher_by_numpy_and_by_sets():
    logit, rows = make(2, num_rows=600)
    teacher = logit + np.random.default_rng(0).normal(0, 1, len(logit))
    found = measure(logit, rows, ones(rows), teacher)
    assert found["teacher_correlation"][0] == pytest.approx(np.corrcoef(logit, teacher)[0, 1])
    shares = []
    for r in range(rows.request.max() + 1):
        mine = np.flatnonzero(rows.request == r)
        if len(mine) > K:
            tops = [set(mine[np.argsort(-scores[mine])[:K]]) for scores in (logit, teacher)]
            shares.append(len(tops[0] & tops[1]) / K)
    assert len(shares) > 5
    assert found["teacher_overlap_at_10"][0] == pytest.approx(np.mean(shares))


def test_a_model_agrees_with_itself_wholly_and_with_its_opposite_least():
    logit, rows = make(3, num_rows=600)
    same = measure(logit, rows, ones(rows), logit)
    assert same["teacher_correlation"][0] == pytest.approx(1.0)
    assert same["teacher_overlap_at_10"][0] == 1.0
    opposite = measure(-logit, rows, ones(rows), logit)
    assert opposite["teacher_correlation"][0] == pytest.approx(-1.0)


def test_correlation_of_weighted_users_is_that_of_repeated_rows():
    logit, rows = make(4)
    teacher = np.sin(logit) + rows.label
    weight_U = np.arange(rows.num_users) % 3
    index = np.repeat(np.arange(len(logit)), weight_U[rows.user])
    found = correlation(logit, teacher, rows, weight_U[None, :].astype(np.float64))[0]
    assert found == pytest.approx(np.corrcoef(logit[index], teacher[index])[0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_any_weighting_of_users_is_their_rows_repeated(seed):
    """All metrics at once but ECE and overlap's ties: ECE keeps the bins of the unweighted rows."""
    logit, rows = make(seed)
    weight_U = np.random.default_rng(seed).integers(0, 3, rows.num_users).astype(np.float64)
    again, those = repeated(logit, rows, weight_U)
    one = measure(logit, rows, weight_U[None, :], logit * 2)
    other = measure(again, those, ones(those), again * 2)
    assert set(one) == set(HIGHER_IS_BETTER)
    for name in set(one) - {"ece"}:
        assert one[name][0] == pytest.approx(other[name][0], nan_ok=True), name


def test_the_first_draw_is_the_point_and_every_draw_holds_as_many_users():
    draws = user_draws(7, 20, np.random.default_rng(0))
    assert draws.shape == (21, 7)
    assert (draws[0] == 1).all()
    assert (draws.sum(axis=1) == 7).all()
    assert len(np.unique(draws, axis=0)) > 10
    logit, rows = make(0)
    point = measure(logit, rows, ones(rows), logit)
    drawn = measure(logit, rows, user_draws(rows.num_users, 5, np.random.default_rng(1)), logit)
    for name, value in point.items():
        assert drawn[name][0] == pytest.approx(value[0], rel=1e-12), name


def test_intervals_are_ordered_and_grow_narrower_with_more_users():
    widths = []
    for num_users in (20, 200):
        logit, rows = make(0, num_rows=20 * num_users, num_users=num_users)
        draws = user_draws(num_users, 200, np.random.default_rng(0))
        for name, value in measure(logit, rows, draws).items():
            found = interval(value)
            assert found.low <= found.high, name
            assert found.low - 0.05 < found.value < found.high + 0.05, name
        found = interval(auc(logit, rows, draws))
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 2


def test_an_interval_is_the_value_and_two_quantiles_without_what_is_missing():
    draws = np.r_[0.7, np.arange(101.0), np.nan]
    found = interval(draws)
    assert (found.value, found.low, found.high) == (0.7, 2.5, 97.5)
    assert interval(np.full(3, np.nan)).to_json() == [None, None, None]


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_has_no_ranking_metric(label):
    logit, rows = make(0)
    rows = Rows(label=np.full(len(logit), label), user=rows.user, request=rows.request)
    found = measure(logit, rows, ones(rows))
    for name in ("auc", "gauc", "ndcg_at_10", "ne"):
        assert np.isnan(found[name][0]), name
    assert np.isfinite(found["log_loss"][0])
    assert np.isnan(plain_auc(logit, rows.label))


def test_a_draw_without_a_positive_is_missing_and_the_others_are_not():
    rows = Rows(label=np.array([1.0, 0, 0, 0]), user=np.array([0, 0, 1, 1]), request=np.array([0, 0, 1, 1]))
    found = auc(np.array([2.0, 1, 3, 0]), rows, np.array([[1.0, 1], [0, 2]]))
    assert found[0] == pytest.approx(2 / 3)
    assert np.isnan(found[1])


def test_extreme_logits_of_a_saturated_model_stay_finite():
    logit, rows = make(0)
    found = measure(np.sign(logit) * 40, rows, ones(rows), logit)
    assert all(np.isfinite(value).all() for value in found.values())
    wanted = np.mean(np.where((logit > 0) == (rows.label == 1), np.log1p(np.exp(-40.0)), 40.0))
    assert found["log_loss"][0] == pytest.approx(wanted)


def test_the_order_of_the_rows_does_not_matter():
    logit, rows = make(5, ties=True)
    order = np.random.default_rng(0).permutation(len(logit))
    mixed = Rows(label=rows.label[order], user=rows.user[order], request=rows.request[order])
    one, other = measure(logit, rows, ones(rows)), measure(logit[order], mixed, ones(rows))
    for name in one:
        assert one[name][0] == pytest.approx(other[name][0]), name


def test_numbered_keys_keep_their_order():
    assert numbered(np.array([2**62, -5, 2**62, 0])).tolist() == [2, 0, 2, 1]


scores = st.lists(st.tuples(st.integers(-8, 8), st.booleans()), min_size=2, max_size=40)


@given(scores)
def test_auc_knows_the_order_only(pairs):
    """Small integers, so that none of the transforms makes or breaks a tie by rounding."""
    logit, label = np.array([float(s) for s, _ in pairs]), np.array([float(y) for _, y in pairs])
    auc = plain_auc(logit, label)
    if not both_classes(label):
        assert np.isnan(auc)
        return
    assert auc == pytest.approx(slow_auc(logit, label))
    assert plain_auc(-logit, label) == pytest.approx(1 - auc)
    assert plain_auc(logit, 1 - label) == pytest.approx(1 - auc)
    for rises in (np.exp, np.tanh, lambda x: x**3, lambda x: 5 * x - 2):
        assert plain_auc(rises(logit / 4), label) == auc


@given(scores, st.integers(2, 5))
def test_gauc_and_ndcg_know_the_order_inside_a_user_only(pairs, num_users):
    logit, label = np.array([float(s) for s, _ in pairs]), np.array([float(y) for _, y in pairs])
    user = numbered(np.arange(len(pairs)) % num_users)
    rows = Rows(label=label, user=user, request=user)
    shifted = np.tanh(logit / 8) + 100 * user
    for metric in (gauc, lambda *a: ndcg(*a, k=K)):
        one, other = metric(logit, rows, ones(rows))[0], metric(shifted, rows, ones(rows))[0]
        assert one == pytest.approx(other, nan_ok=True)
        assert np.isnan(one) or 0 <= one <= 1 + 1e-12


@given(scores)
def test_one_user_alone_has_a_gauc_of_the_auc(pairs):
    logit, label = np.array([float(s) for s, _ in pairs]), np.array([float(y) for _, y in pairs])
    nobody = np.zeros(len(pairs), int)
    rows = Rows(label=label, user=nobody, request=nobody)
    assert gauc(logit, rows, ones(rows))[0] == pytest.approx(plain_auc(logit, label), nan_ok=True)


def test_a_score_that_is_not_a_number_stays_visible():
    """A diverged model must not get an AUC."""
    label = np.array([0.0, 1, 0, 1])
    assert np.isnan(plain_auc(np.array([1.0, np.nan, 0.0, 2.0]), label))
    assert np.isnan(plain_auc(np.full(4, np.nan), label))


def test_logits_of_any_size_are_measured_without_a_warning():
    logit, rows = make(0)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = measure(logit * 1e4, rows, ones(rows))
    assert all(np.isfinite(value).all() for value in found.values())
