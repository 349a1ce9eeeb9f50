"""The stages of dvc.yaml, one script each. They import the `src` of their own folder, whichever environment runs them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
