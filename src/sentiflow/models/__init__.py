"""Networks and linear models: training, loading, explanation, and the model that takes raw text."""
