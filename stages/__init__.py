"""The stages of dvc.yaml, one script each. They import `src` of their own folder in any environment."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
