"""The servers of a team. They import the `src` of their own folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
