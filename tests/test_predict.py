"""A model's logits of a window in its order and in any passes, and weights that come back only as they were written."""

import numpy as np
import pytest
import torch
from torch import nn

from recdistill.data.store import open_rows
from recdistill.files import whole_folder
from recdistill.metrics.ranking import plain_auc
from recdistill.problems import BadInput
from recdistill.train import predict as module
from recdistill.train.predict import auc_on, load_weights, predict, save_weights
from recdistill.types import Scores

CPU = torch.device("cpu")


class Noisy(nn.Module):
    """The scaled price, and noise where it is training."""

    def forward(self, ids, dense):
        assert not torch.is_grad_enabled()
        return Scores(logit=dense[:, 0].double() + (torch.randn(len(dense)) if self.training else 0.0))


@pytest.fixture
def rows(tiny_prepared):
    return open_rows(tiny_prepared, "valid")


@pytest.mark.parametrize("rows_per_pass", [10**6, 100, 7])
def test_logits_come_in_the_order_of_the_store_with_dropout_off(rows, monkeypatch, rows_per_pass):
    monkeypatch.setattr(module, "ROWS_PER_PASS", rows_per_pass)
    found = predict(Noisy().train(), rows, CPU)
    assert (found == rows["dense"][:, 0]).all()
    assert found.dtype == np.float32


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_put_back(rows, training):
    model = Noisy().train(training)
    predict(model, rows, CPU)
    assert model.training == training


def test_the_auc_on_a_window_is_that_of_its_logits(rows):
    assert auc_on(Noisy(), rows, CPU)() == plain_auc(np.array(rows["dense"][:, 0]), rows["label"])


def test_weights_come_back_to_the_bit_even_where_they_are_views(tmp_path):
    weights = {"a": torch.randn(3, 4).T, "b": torch.tensor([float("inf"), -0.0]), "c": torch.arange(3)}
    with whole_folder(tmp_path / "step", {}) as out:
        save_weights(weights, out / "weights-0.safetensors")
    again = load_weights(tmp_path / "step")
    assert set(again) == set(weights)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_weights_that_changed_or_were_never_finished_are_refused(tmp_path):
    with whole_folder(tmp_path / "step", {}) as out:
        save_weights({"a": torch.zeros(3)}, out / "weights-0.safetensors")
    save_weights({"a": torch.ones(3)}, tmp_path / "step/weights-0.safetensors")
    save_weights({"a": torch.ones(3)}, tmp_path / "weights-0.safetensors")
    for folder in (tmp_path / "step", tmp_path):
        with pytest.raises(
            BadInput, match=r"weights-0\.safetensors: wanted the weights that were written, found others"
        ):
            load_weights(folder)
