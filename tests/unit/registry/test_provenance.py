import re

import pytest
import yaml

from sentiflow.registry import provenance
from sentiflow.system import dvc_lock
from sentiflow.system.errors import InputError


@pytest.fixture
def lock_file(tmp_path):
    file = tmp_path / "dvc.lock"
    stages = {
        name: {"cmd": f"make {name}", "outs": [{"path": name, "md5": "0" * 32}]} for name in ("split", "train@lstm", "other")
    }
    file.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return file


def test_stage_key_depends_only_on_the_entries_of_the_stages(lock_file):
    key = provenance.stage_key("train@lstm", "split", stages=dvc_lock.read(lock_file))
    assert re.fullmatch("[0-9a-f]{64}", key)
    assert key == provenance.stage_key("split", "train@lstm", stages=dvc_lock.read(lock_file))
    assert key != provenance.stage_key("split", stages=dvc_lock.read(lock_file))
    before = lock_file.read_text()
    lock_file.write_text(before.replace("cmd: make other", "cmd: make"))
    assert key == provenance.stage_key("train@lstm", "split", stages=dvc_lock.read(lock_file))
    lock_file.write_text(before.replace("cmd: make split", "cmd: make"))
    assert key != provenance.stage_key("train@lstm", "split", stages=dvc_lock.read(lock_file))


def test_unknown_stage_is_an_error_that_names_the_existing_ones(lock_file, tmp_path):
    with pytest.raises(InputError, match=r"no stage 'tarin', only: .*split"):
        provenance.stage_entry("tarin", dvc_lock.read(lock_file))
    with pytest.raises(InputError, match="only: none"):
        provenance.stage_entry("split", dvc_lock.read(tmp_path / "elsewhere.lock"))
