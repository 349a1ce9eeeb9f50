"""When stages run, what is retried and who is notified. The flows import the `src` of their own folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
