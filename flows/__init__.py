"""Prefect flows. They import the library from `src` of their own checkout, whatever is installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
