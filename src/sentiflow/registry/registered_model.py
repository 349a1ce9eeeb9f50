"""What MLflow runs to load the registered model ("models from code"): this file is stored with it as text, nothing is pickled."""

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from sentiflow.models.sentiment_model import SentimentModel


class RegisteredModel(PythonModel):
    """MLflow's face of `SentimentModel`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Reads the bundle that was stored with the model."""
        self.model = SentimentModel.load(Path(context.artifacts["bundle"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Raw texts, in the first column -> `label` and `p_CLASS` for each class."""
        return self.model.predict(model_input.iloc[:, 0].tolist())


mlflow.models.set_model(RegisteredModel())
