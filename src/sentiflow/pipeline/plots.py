"""DVC's plots as a page that works offline."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path("dvc_plots")


def draw() -> Path:
    """Draws the plots of dvc.yaml; returns the path of the page.

    Raises:
        SystemExit: with DVC's exit status if it failed, after DVC's message.
    """
    import vl_convert  # here, because it is large and needed for nothing else

    command = [sys.executable, "-m", "dvc", "plots", "show", "--html-template", ".dvc/plots/offline.html", "--out", str(FOLDER)]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if ended.returncode:
        sys.exit(ended.returncode)
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    (FOLDER / "vega.js").write_text(script, encoding="utf-8")
    return FOLDER / "index.html"
