"""The registered model for MLflow's loaders ("models from code"): MLflow stores this file and pickles nothing."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from sentiflow.models.sentiment_model import SentimentModel


class RegisteredModel(PythonModel):
    """`SentimentModel` as a pyfunc model."""

    def load_context(self, context: PythonModelContext) -> None:
        """Loads the bundle."""
        self.model = SentimentModel.load(Path(context.artifacts["bundle"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """`label` and `p_CLASS` for each raw text in the first column."""
        return self.model.predict(model_input.iloc[:, 0].tolist())


mlflow.models.set_model(RegisteredModel())
