"""Full ranking against a slow one by hand, and its bounds."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from recdistill.metrics import full_ranking as module
from recdistill.metrics.full_ranking import Judged, full_ranking, top_items, weighted

AT = [1, 3, 5]


def world(seed, num_users=7, num_items=12):
    """Random vectors; every pair is relevant, seen or neither; the first user has nothing to be found."""
    generator = np.random.default_rng(seed)
    kind = generator.choice([0, 1, 2], (num_users, num_items), p=[0.6, 0.2, 0.2])
    kind[0][kind[0] == 1] = 0
    users, items = (torch.from_numpy(generator.normal(size=(n, 4)).astype(np.float32)) for n in (num_users, num_items))
    popular = generator.random(num_items) < 0.5
    pairs = {k: tuple(part.astype(np.int64) for part in np.nonzero(kind == k)) for k in (1, 2)}
    judged = Judged(user=np.arange(num_users), relevant=pairs[1], seen=pairs[2], popular=popular)
    return users, items, judged, kind


def by_hand(score, kind, popular, k):
    """recall, its two groups, ndcg, hit rate and mrr of one user, item by item."""
    order = [item for item in np.argsort(-score) if kind[item] != 2]
    wanted = {item for item in order if kind[item] == 1}
    first = order[:k]

    def recall(group):
        among = [item for item in wanted if group[item]]
        return sum(item in first for item in among) / len(among) if among else np.nan

    if not wanted:
        return dict.fromkeys(("recall", "popular", "unpopular", "ndcg", "hit", "mrr"), np.nan)
    gained = sum(1 / np.log2(place + 2) for place, item in enumerate(first) if item in wanted)
    best = sum(1 / np.log2(place + 2) for place in range(min(k, len(wanted))))
    place = next(place for place, item in enumerate(order, 1) if item in wanted)
    everything = np.ones(len(score), dtype=bool)
    return {
        "recall": recall(everything),
        "popular": recall(popular),
        "unpopular": recall(~popular),
        "ndcg": gained / best,
        "hit": float(any(item in wanted for item in first)),
        "mrr": 1 / place,
    }


@given(seed=st.integers(0, 10_000))
def test_it_is_what_one_would_count_by_hand(seed):
    users, items, judged, kind = world(seed)
    found, score = full_ranking(users, items, judged, AT), (users @ items.T).numpy()
    for k in AT:
        names = {"recall": f"recall_at_{k}", "ndcg": f"ndcg_at_{k}", "hit": f"hit_rate_at_{k}", "mrr": "mrr"}
        names |= {group: f"recall_at_{k}_{group}" for group in ("popular", "unpopular")}
        wanted = [by_hand(score[user], kind[user], judged.popular, k) for user in range(len(users))]
        for key, name in names.items():
            np.testing.assert_allclose(found[name], [one[key] for one in wanted], atol=1e-6, err_msg=name)


def test_the_size_of_a_block_changes_nothing(monkeypatch):
    users, items, judged, _ = world(5)
    whole = full_ranking(users, items, judged, AT)
    monkeypatch.setattr(module, "BLOCK", 2 * len(items))
    parts = full_ranking(users, items, judged, AT)
    assert whole.keys() == parts.keys()
    for name in whole:
        np.testing.assert_array_equal(whole[name], parts[name])


def test_what_was_seen_is_not_in_a_top_list():
    users, items, judged, kind = world(3)
    place, logit = top_items(users, items, judged.user, judged.seen, k=12)
    for user in range(len(users)):
        seen = set(np.flatnonzero(kind[user] == 2))
        assert seen == set(place[user][np.isneginf(logit[user])])
        kept = logit[user][np.isfinite(logit[user])]
        assert (np.diff(kept) <= 0).all()


def test_only_the_candidates_are_ranked_where_they_are_given():
    users, items = torch.tensor([[1.0]]), torch.tensor([[5.0], [4.0], [3.0], [2.0]])
    one, none = (np.array([0]), np.array([2])), (np.zeros(0, np.int64), np.zeros(0, np.int64))
    only = (np.array([0, 0]), np.array([2, 3]))
    judged = Judged(user=np.array([0]), relevant=one, seen=none, popular=np.ones(4, dtype=bool), only=only)
    assert full_ranking(users, items, judged, [1])["mrr"] == 1.0


def test_means_are_over_users_that_have_a_value():
    found = weighted({"recall": np.array([0.5, np.nan, 1.0])}, np.array([[1.0, 1.0, 1.0], [3.0, 9.0, 1.0]]))
    assert found["recall"].tolist() == [0.75, (3 * 0.5 + 1.0) / 4]
