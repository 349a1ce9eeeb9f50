"""Tracked text files use plain technical English."""

import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
PHRASES = {  # a regular expression: what to write instead
    "told": "reported, logged, configured",
    "anew": "again",
    "whoever": "anyone who",
    "hands? over": "uploads, passes",
    "handed over": "uploaded, passed",
    "brings": "downloads, restores",
    "earned that": "passes every rule",
    "stands? (?:in|there|twice|beside|between|before|under|above|below)(?! for)": "is in",
    "lets? in": "authenticates, accepts",
    "at work": "running",
    "in each other's way": "only one run at a time",
    "beside": "next to, alongside",
    "as it stands": "as is, current",
    "(?:file|word|stage|review|row|step|line) an? (?:source|stage|step|label|class|review|row|epoch)": "per",
    "learn(?:s|ed)? by heart": "overfits",
    "what becomes of": "what happens to",
    "comes? of it|came of it": "results",
}
# Data, and quotations of published documents.
ALLOWED = (
    "tests/cases/",
    "examples/",
    "src/sentiflow/data/nltk_data/",
    "metrics/",
    "reports/",
    ".dvc/plots/",
    "requirements.lock",
    "LICENSE",
)
ALLOWED_FILES = {"dvc.lock", "src/sentiflow/pipeline/recipes.yaml", "tests/project/test_wording.py"}


def tracked_texts():
    if not (TOP / ".git").exists():
        pytest.skip("this copy has no .git, so tracked files are unknown")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if name in ALLOWED_FILES or name.startswith(ALLOWED) or not (TOP / name).is_file():
            continue
        content = (TOP / name).read_bytes()
        if b"\0" not in content:
            yield name, content.decode("utf-8", errors="replace")


def test_no_text_has_a_phrase_to_avoid():
    pattern = re.compile(rf"\b(?:{'|'.join(PHRASES)})\b", re.IGNORECASE)
    found = [
        f"{name}:{number}: {hit[0]}: {line.strip()[:100]}"
        for name, text in tracked_texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if (hit := pattern.search(line))
    ]
    assert found == [], "\n".join(found)
