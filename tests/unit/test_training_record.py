from sentiflow import training_record


def model_dir(folder, weights):
    folder.mkdir()
    (folder / "weights.npz").write_bytes(weights)
    return folder


def test_seconds_of_the_model_that_was_trained_here_are_known(tmp_path):
    model = model_dir(tmp_path / "model", b"1")
    training_record.write(tmp_path / "cache/lstm.json", model, [1.23456, 2.0])
    assert training_record.read(tmp_path / "cache/lstm.json", model) == [1.235, 2.0]
    assert [file.name for file in (tmp_path / "cache").iterdir()] == ["lstm.json"]


def test_seconds_of_another_model_of_that_name_are_not_taken_for_its_own(tmp_path):
    training_record.write(tmp_path / "lstm.json", model_dir(tmp_path / "one", b"1"), [1.0])
    assert training_record.read(tmp_path / "lstm.json", model_dir(tmp_path / "other", b"2")) is None


def test_model_without_a_record_has_no_seconds(tmp_path):
    assert training_record.read(tmp_path / "lstm.json", model_dir(tmp_path / "model", b"1")) is None
