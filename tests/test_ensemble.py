"""Several teachers: each trained and kept, averaged or gated as one ranker, with the variance between them."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from recdistill.config.load import load
from recdistill.data.store import open_rows
from recdistill.files import read_json, whole_folder
from recdistill.problems import BadInput
from recdistill.train.predict import load_weights, predict, weights_name
from recdistill.train.teachers import teacher as module
from recdistill.train.teachers.ensemble import Ensemble, combined, gate
from recdistill.train.teachers.teacher import check_finite, members, open_teacher, train_teacher
from recdistill.types import Scores

CPU = torch.device("cpu")


class Fixed(nn.Module):
    """A logit of `scale` times the first number, and hidden vectors of some width."""

    def __init__(self, scale, width):
        super().__init__()
        self.scale, self.width = scale, width

    def forward(self, ids, dense):
        hidden = dense[:, :1].repeat(1, self.width)
        return Scores(
            logit=dense[:, 0] * self.scale, hidden=hidden, tasks=dense[:, :1] * torch.tensor([self.scale, 1.0])
        )


def test_an_ensemble_is_the_mean_with_the_variance_between_its_members():
    dense = torch.tensor([[1.0], [-2.0]])
    scores = Ensemble([Fixed(1.0, 2), Fixed(3.0, 1)])(torch.zeros((2, 0)), dense)
    assert scores.logit.tolist() == [2.0, -4.0]
    assert scores.members.tolist() == [[1.0, 3.0], [-2.0, -6.0]]
    assert scores.variance.tolist() == [((1 - 2) ** 2 + (3 - 2) ** 2) / 2, ((-2 + 4) ** 2 + (-6 + 4) ** 2) / 2]
    assert scores.hidden.tolist() == [[1.0, 1.0, 1.0], [-2.0, -2.0, -2.0]]
    assert scores.tasks.tolist() == [[2.0, 1.0], [-4.0, -2.0]]


def test_members_without_hidden_vectors_give_none():
    scores = [Scores(logit=torch.ones(2), hidden=torch.ones(2, 1)), Scores(logit=torch.ones(2))]
    assert combined(scores, [0.5, 0.5]).hidden is None


def test_the_gate_leans_on_the_member_that_knows_and_never_does_worse_than_the_mean():
    generator = torch.Generator().manual_seed(1)
    truth = torch.randn(4000, generator=generator) * 2
    label = (torch.rand(4000, generator=generator) < torch.sigmoid(truth + 0.5)).float()
    noise = torch.randn(4000, generator=generator) * 2
    logits, offset = torch.stack([noise, truth, truth * 0.9], dim=1), torch.full((4000,), 0.5)
    weights = gate(logits, label, offset)
    assert sum(weights) == pytest.approx(1)
    assert weights[0] < 0.02

    def loss(shares):
        mixed = logits @ torch.tensor(shares, dtype=torch.float32) + offset
        return nn.functional.binary_cross_entropy_with_logits(mixed, label).item()

    assert loss(weights) < loss([1 / 3] * 3)
    others = [loss([abs(w) for w in np.random.default_rng(n).dirichlet([1, 1, 1])]) for n in range(50)]
    assert loss(weights) <= min(others) + 1e-6


def test_the_members_are_seeds_of_every_kind(tiny_run):
    run = tiny_run(teacher={"members": 2, "ensemble": [{"width": 4}, {"interaction": "mlp"}]})
    found = [(m.number, m.seed, m.settings.width, m.settings.interaction.use) for m in members(run)]
    assert found == [(0, 1, 4, "dcnv2"), (1, 2, 4, "dcnv2"), (2, 1, 8, "mlp"), (3, 2, 8, "mlp")]
    assert {path.stem for path in run.teacher.files} >= {"dcnv2", "mlp"}
    assert [(m.number, m.seed) for m in members(tiny_run())] == [(0, 1)]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"members": 3}, "found members; set them for all"),
        ({"wdth": 3}, "wdth: Extra inputs"),
        ({"width": 0}, "width"),
    ],
)
def test_an_override_that_is_no_teacher_is_refused(tmp_path, tiny_run, override, words):
    run = tiny_run().model_dump(mode="json")
    run["teacher"]["ensemble"] = [override]
    path = tmp_path / "run.yaml"
    path.write_text(str(run).replace("None", "null").replace("True", "true").replace("False", "false"))
    with pytest.raises(BadInput, match=words):
        load(path, [])


@pytest.fixture
def trained(tiny_run, tiny_prepared, tmp_path):
    """(run, folder) of a teacher of four members."""
    run = tiny_run(teacher={"members": 2, "ensemble": [{}, {"width": 4}], "combine": "gated"})
    with whole_folder(tmp_path / "train", {"key": "t"}) as out:
        train_teacher(run, {"prepare": tiny_prepared}, out)
    return run, tmp_path / "train"


def test_every_member_is_trained_kept_and_part_of_the_mean(trained, tiny_prepared):
    run, folder = trained
    about = read_json(folder / "teacher.json")
    assert len(about["members"]) == len(about["weights"]) == 4
    assert sum(about["weights"]) == pytest.approx(1)
    assert about["parameters"] == sum(member["parameters"] for member in about["members"])
    assert len({str(member["curve"]) for member in about["members"]}) == 4
    assert all(member["plan"] for member in about["members"])
    assert not (folder.parent / "run/members").exists()
    rows = open_rows(tiny_prepared, "valid")
    ids, dense = (torch.from_numpy(of(np.arange(40))) for of in (rows.ids, rows.dense))
    with open_teacher(run, rows.layout, folder) as model, torch.no_grad():
        scores = model(ids, dense)
        whole = predict(model, rows, CPU)
    assert len({tuple(column.tolist()) for column in scores.members.T}) == 4
    assert torch.allclose(scores.logit, scores.members @ torch.tensor(about["weights"]), atol=1e-5)
    assert np.allclose(whole[:40], scores.logit.numpy(), atol=1e-5)
    assert (scores.variance > 0).all()


def test_members_that_were_finished_before_a_death_are_not_trained_again(
    tiny_run, tiny_prepared, tmp_path, monkeypatch
):
    run = tiny_run(teacher={"members": 2})
    told = []

    def dying(title, *rest, **named):
        told.append(title)
        if len(told) == 2:
            raise KeyboardInterrupt
        return fit(title, *rest, **named)

    fit = module.fit_teacher
    monkeypatch.setattr(module, "fit_teacher", dying)
    for _ in range(2):
        try:
            with whole_folder(tmp_path / "train", {"key": "t"}) as out:
                train_teacher(run, {"prepare": tiny_prepared}, out)
        except KeyboardInterrupt:
            assert not (tmp_path / "train").exists()
    assert told == ["teacher 0", "teacher 1", "teacher 1"]
    assert [len(load_weights(tmp_path / "train", weights_name(n))) > 3 for n in (0, 1)] == [True, True]


def test_a_weight_that_is_not_finite_is_named_with_its_row(tmp_path):
    good = {"dense": torch.ones(3, 2), "one": torch.tensor(1.0), "none": torch.empty(0, 4)}
    check_finite(tmp_path / "weights", good)
    table = torch.ones(50, 4)
    table[7, 2], table[9, 0] = math.nan, math.inf
    with pytest.raises(BadInput) as told:
        check_finite(tmp_path / "weights", {**good, "table": table, "bias": torch.tensor([1.0, -math.inf])})
    assert [line.split(": ", 1)[1] for line in told.value.problems] == [
        f"{name}: wanted finite numbers, found others in {found}; lower the teacher's learning rates and train again"
        for name, found in (("table", "2 of 50 rows, first in row 7"), ("bias", "1 of 2 rows, first in row 1"))
    ]


def test_scores_move_and_detach_whole():
    scores = dataclasses.replace(Fixed(1.0, 1)(None, torch.ones(2, 1, requires_grad=True)), variance=torch.ones(2))
    assert scores.logit.requires_grad
    cut = scores.detach().to(CPU)
    assert not cut.logit.requires_grad
    assert not cut.hidden.requires_grad
    assert torch.equal(cut.variance, scores.variance)
    assert cut.members is None
