"""DVC's plots as a page that needs no network."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path("dvc_plots")


def draw() -> Path:
    """Draws the plots of dvc.yaml and gives the page.

    Raises:
        SystemExit: with DVC's exit status if it failed; it has said why.
    """
    import vl_convert  # here: it is a large library that nothing else needs

    command = [sys.executable, "-m", "dvc", "plots", "show", "--html-template", ".dvc/plots/offline.html", "--out", str(FOLDER)]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if ended.returncode:
        sys.exit(ended.returncode)
    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    (FOLDER / "vega.js").write_text(script, encoding="utf-8")
    return FOLDER / "index.html"
