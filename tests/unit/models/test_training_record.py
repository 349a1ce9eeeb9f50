import time

from sentiflow.models import training_record
from sentiflow.models.training_record import Record
from sentiflow.system import system_metrics


def model_dir(folder, weights):
    folder.mkdir()
    (folder / "weights.npz").write_bytes(weights)
    return folder


def test_every_model_that_was_trained_here_has_a_record(tmp_path):
    records = tmp_path / "cache"
    one, other = model_dir(tmp_path / "one", b"1"), model_dir(tmp_path / "other", b"2")
    training_record.write(records, one, Record([1.23456, 2.0], [{"time": 1.0}]))
    training_record.write(records, other, Record([3.0], []))
    assert training_record.read(records, one) == Record([1.235, 2.0], [{"time": 1.0}])
    assert training_record.read(records, other) == Record([3.0], [])
    assert {file.suffix for file in records.iterdir()} == {".json"}


def test_model_that_was_not_trained_here_has_no_record(tmp_path):
    training_record.write(tmp_path, model_dir(tmp_path / "one", b"1"), Record([1.0], []))
    assert training_record.read(tmp_path, model_dir(tmp_path / "other", b"2")) is None


def test_machine_load_is_sampled_during_the_block_and_at_its_end():
    with system_metrics.watching(interval=0.05) as samples:
        time.sleep(0.2)
        assert samples
    ended = len(samples)
    time.sleep(0.1)
    assert len(samples) == ended
    assert samples[-1]["time"] >= samples[0]["time"]
    for sample in samples:
        assert 0 <= sample["system/cpu_utilization_percentage"] <= 100
        assert sample["system/process_memory_usage_megabytes"] > 1
