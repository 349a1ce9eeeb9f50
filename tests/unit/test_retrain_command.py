"""Arguments that `sentiflow retrain` refuses before it starts Prefect; tests/flows runs the flow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["gru", "no_such"])
def test_unknown_model_is_a_one_line_error_before_a_server_starts(tmp_path, name):
    shutil.copy(TOP / "params.yaml", tmp_path)
    own = {"PREFECT_HOME": str(tmp_path / "prefect"), "PYTHONPATH": f"{TOP}:{TOP / 'src'}"}
    command = [sys.executable, "-m", "sentiflow", "retrain", "--", "lstm", name]
    refused = subprocess.run(command, cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, timeout=300)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: received {name}, which is not in `run:` of params.yaml; expected some")
    assert refused.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.db"))
