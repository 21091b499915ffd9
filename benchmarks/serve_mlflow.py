"""The bundle as `mlflow models serve` serves it: the same scorer behind MLflow's server, as a model made of code."""

import mlflow
import numpy as np

from recdistill.serve import Scorer


class Served(mlflow.pyfunc.PythonModel):
    """{"user": [10 ids], "items": [C ids]} -> C logits."""

    def load_context(self, context):
        from pathlib import Path

        import pyarrow.parquet as pq

        items = pq.read_table(context.artifacts["items"])
        self.scorer = Scorer(Path(context.artifacts["bundle"]), items=items, item_key="item_id")

    def predict(self, context, model_input, params=None):
        user = {f"user_{number}": int(value) for number, value in enumerate(np.ravel(model_input["user"]))}
        return self.scorer.score(user, items=np.ravel(model_input["items"]).astype(np.int64))


mlflow.models.set_model(Served())
