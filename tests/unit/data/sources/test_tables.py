import bz2
import gzip
import io
import json
import lzma
import zipfile

import pandas as pd
import pytest

from sentiflow.data import sources
from sentiflow.data.sources import tables
from sentiflow.system.errors import InputError

ROWS = [(f"review number {n}, all of it", ("negative", "positive")[n % 2]) for n in range(40)]
CSV = "review,sentiment\n" + "".join(f'"{text}",{label}\n' for text, label in ROWS)


def zipped(content, names=("reviews.csv",)):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return buffer.getvalue()


def parquet(**columns):
    buffer = io.BytesIO()
    pd.DataFrame(columns).to_parquet(buffer)
    return buffer.getvalue()


@pytest.fixture
def load(tmp_path, settings, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(content, name="reviews.csv", source="csv", **changes):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return sources.load(settings(source, **({"location": name} | changes)), tmp_path / "partial", seed=7)

    return run


# --- columns ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [5, "5"])
def test_columns_of_a_csv_without_a_header_have_numbers(load, number):
    content = "".join(f'"{4 * (n % 2)}","{n}","a day","@bob, review {n} caf\xe9"\n' for n in range(40)).encode("latin-1")
    labels = {"0": "negative", "4": "positive"}
    found = load(
        content.replace(b'"a day"', b'"a day","x","y"'), encoding="latin-1", header=False, text=number, label=0, labels=labels
    )
    assert found.reviews.text[:2].tolist() == ["@bob, review 0 caf\xe9", "@bob, review 1 caf\xe9"]
    assert found.reviews.label[:2].tolist() == ["negative", "positive"]


def test_a_file_without_a_header_is_recognised_if_header_is_true(load):
    content = "".join(f'"{n % 2}","review {n}"\n' for n in range(40))
    with pytest.raises(InputError, match="the first line looks like a review, so set header: false"):
        load(content, text="1", label="0", labels={"0": "negative", "1": "positive"})


def test_the_cells_of_several_columns_are_joined_to_one_text(load):
    content = "title,body,sentiment\n" + "".join(
        f"Title {n},{'' if n < 2 else 'body'},{label}\n" for n, (_, label) in enumerate(ROWS)
    )
    found = load(content, text=["title", "body"])
    assert found.reviews.text[1:3].tolist() == ["Title 1", "Title 2\nbody"]


def test_white_space_around_labels_and_column_names_is_ignored(load):
    content = CSV.replace("review,sentiment", " review ,\tsentiment").replace(",positive", ", positive ")
    assert len(load(content).reviews) == len(load(content, text=" review").reviews) == 40


def test_a_label_mapped_to_null_is_excluded_and_not_rejected(load):
    content = CSV + "so so,neutral\n" * 30
    found = load(content, labels={"negative": "negative", "neutral": None, "positive": "positive"}, max_rejected=0.0)
    assert found.excluded == {"neutral": 30}
    assert (len(found.reviews), len(found.rejects), found.classes) == (40, 0, ["negative", "positive"])


def test_a_label_in_another_case_gets_a_suggestion(load):
    found = load(CSV + "fine,Positive\n")
    assert found.rejects.reason.tolist() == [
        "unknown label: 'Positive' is not mapped; did you mean 'positive'? mapped are 'negative', 'positive'"
    ]


def test_suggested_labels_that_differ_in_case_have_the_same_class(load):
    with pytest.raises(InputError, match=r'"POSITIVE": "positive"\n      "meh": "meh"'):
        load(CSV + "fine,POSITIVE\n" * 20 + "so so,meh\n", max_rejected=0.0)


def test_common_names_of_splits_are_read(load):
    words = ["train", "Training", "dev", "validation", "TEST"]
    content = "review,sentiment,part\n" + "".join(f"review {n},{label},{words[n % 5]}\n" for n, (_, label) in enumerate(ROWS))
    assert load(content, split="part").reviews.split[:5].tolist() == ["train", "train", "valid", "valid", "test"]
    found = load(content + "fine,positive,holdout\n", split="part")
    assert found.rejects.reason[0].startswith("unknown split: 'holdout'; expected one of train")


def test_a_group_is_read_from_its_column(load):
    content = "review,sentiment,id\n" + "".join(f"review {n},{label},{n // 4}\n" for n, (_, label) in enumerate(ROWS))
    assert load(content, group="id").reviews.group[3:5].tolist() == ["0", "1"]


# --- several files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["data/*.csv", {"train": "data/train.csv", "test": "data/test.csv"}])
def test_files_per_split_set_the_split_of_their_rows(load, tmp_path, location):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/test.csv").write_text("review,sentiment\na test,positive\n")
    found = load(CSV, "data/train.csv", location=location)
    assert found.reviews.split.value_counts().to_dict() == {"train": 40, "test": 1}


def test_files_with_other_names_have_no_split(load, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/monday.csv").write_text(CSV)
    found = load(CSV, "data/tuesday.csv", location="data/*.csv")
    assert (len(found.reviews), found.reviews.split.notna().sum(), found.location) == (80, 0, "data/*.csv")
    assert len(load(CSV, "data/tuesday.csv", location=str(tmp_path / "data/*.csv")).reviews) == 80
    assert found.sha256 == tables.combined(
        [tables.fetching.sha256_of(tmp_path / f"data/{day}.csv") for day in ("monday", "tuesday")]
    )


def test_a_checksum_or_url_with_several_files_is_an_error(load):
    with pytest.raises(InputError, match=r"no file matches the pattern data/\*.tsv"):
        load(CSV, location="data/*.tsv")
    with pytest.raises(InputError, match="set sha256 to null"):
        load(CSV, location={"train": "reviews.csv", "test": "reviews.csv"}, sha256="0" * 64)
    with pytest.raises(InputError, match="one is a URL; download it"):
        load(CSV, location={"train": "reviews.csv", "test": "http://localhost/test.csv"})


# --- formats ------------------------------------------------------------------------------------------------------


def test_escaped_quotes_are_read_as_configured(load):
    content = CSV + '"He said \\"fine\\", and left; C:\\\\new\\n",positive\n'
    found = load(content, escape="\\")
    assert found.reviews.text.iloc[-1] == 'He said "fine", and left; C:\\new\\n'
    assert found.rejects.empty
    assert "set escape if a backslash escapes quotes" in load(content).rejects.reason[0]


def test_a_blank_between_separator_and_quote_does_not_break_the_field(load):
    content = "sentiment, review\n" + "".join(f'{label}, "{text}"\n' for text, label in ROWS)
    assert load(content).reviews.text[0] == "review number 0, all of it"


def test_lines_before_the_header_and_the_separator_line_of_excel_are_skipped(load):
    assert len(load("sep=,\n" + CSV).reviews) == 40
    assert len(load("An export\nof today\n" + CSV, skip_rows=2).reviews) == 40
    with pytest.raises(InputError, match="separated by ';' according to its line 'sep=;'"):
        load("sep=;\n" + CSV)


def test_a_stray_quote_does_not_swallow_rows(load):
    lines = [f"review {n} of all,{label}\n" for n, (_, label) in enumerate(ROWS)]
    lines[3] = '"' + lines[3]
    lines[30] = lines[30].replace(",", '",')
    found = load("review,sentiment\n" + "".join(lines))
    assert [(row.line, row.reason) for row in found.rejects.itertuples()] == [
        (5, "quotes do not match: unclosed quote, and the lines after it are separate rows")
    ]
    assert len(found.reviews) == 39


def test_a_review_of_several_lines_does_not_count_as_swallowed_rows(load):
    found = load(CSV + '"one,\ntwo, three\nfour",positive\n')
    assert found.reviews.text.iloc[-1] == "one,\ntwo, three\nfour"


def test_texts_cut_at_separators_in_quotes_are_an_error(load):
    content = "".join(f'"{n % 2}","a, {n}"\n' for n in range(40))
    labels = {'"0"': "negative", '"1"': "positive"}
    with pytest.raises(InputError, match=r"40 of 40 texts start with an unclosed quote, .* set download.tsv.quote"):
        load(content, source="tsv", separator=",", header=False, text=1, label=0, labels=labels)


# --- formats -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pack"), [("r.csv.gz", gzip.compress), ("r.csv.bz2", bz2.compress), ("r.csv.xz", lzma.compress), ("r.zip", zipped)]
)
def test_compressed_files_are_read_and_damage_is_reported(load, name, pack):
    packed = pack(CSV.encode())
    assert load(packed, name).reviews.text.tolist() == [text for text, _ in ROWS]
    with pytest.raises(InputError, match=f"{name} is damaged"):
        load(packed[:-30], name)


@pytest.mark.parametrize("name", ["r.csv.gz", "r.jsonl.gz"])
def test_the_unpacked_size_of_a_compressed_file_is_limited(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(b'{"review": "fine"}\n' * 100_000))
    with pytest.raises(InputError, match="is too large: expected at most 1,000,000 characters"):
        tables.read(tmp_path / name, tables.PLAIN, most=1_000_000)


def test_a_zip_file_of_several_files_is_an_error(load):
    with pytest.raises(InputError, match="contains 2 files, expected one"):
        load(zipped(CSV, ("a.csv", "b.csv")))


def test_json_lines_are_read_and_invalid_lines_rejected(load):
    lines = [json.dumps({"review": text, "stars": 5.0 if label == "positive" else 1}) for text, label in ROWS]
    lines += ["{not json", "[1, 2]", json.dumps({"review": "no stars"}), json.dumps({"stars": 5.0, "review": None, "more": [1]})]
    found = load("\n".join(lines), "r.jsonl", label="stars", labels={"1": "negative", "5.0": "positive"})
    assert len(found.reviews) == 40
    assert [row.reason for row in found.rejects.itertuples()] == ["not a JSON object"] * 2 + ["missing label", "empty text"]
    with pytest.raises(InputError, match="is not JSON lines"):
        load("[]\n", "r.jsonl")


def test_a_list_of_json_objects_is_read(load):
    content = json.dumps([{"review": text, "sentiment": label} for text, label in ROWS] + ["no object"], indent=1)
    found = load(content, "r.json")
    assert found.reviews.text.tolist() == [text for text, _ in ROWS]
    assert found.rejects.reason.tolist() == ["not a JSON object"]


def test_a_label_that_is_the_same_number_gets_a_suggestion(load):
    found = load(CSV + "fine,5.0\n", labels={"negative": "negative", "positive": "positive", "5": "positive"})
    assert "did you mean '5'?" in found.rejects.reason[0]


def test_parquet_is_read(load):
    content = parquet(review=[text for text, _ in ROWS], sentiment=[int(label == "positive") for _, label in ROWS])
    found = load(content, "r.parquet", labels={"0": "negative", "1": "positive"})
    assert found.reviews.text.tolist() == [text for text, _ in ROWS]
    with pytest.raises(InputError, match="not a Parquet file, or is damaged"):
        load(content[:-9], "r.parquet", labels={"0": "negative", "1": "positive"})


def test_a_spreadsheet_or_binary_file_is_an_error_that_does_not_mention_encodings(load):
    for content in (zipped("", ("[Content_Types].xml", "xl/workbook.xml")), b"\xd0\xcf\x11\xe0" + bytes(100)):
        with pytest.raises(InputError, match="is a spreadsheet; save it as CSV") as refused:
            load(content, "r.xlsx")
        assert "encoding" not in str(refused.value)
    with pytest.raises(InputError, match="is not a text file") as refused:
        load(b"\x7fELF\x00\x01" * 50, "r.csv")
    assert "encoding" not in str(refused.value)


# --- tables from elsewhere ------------------------------------------------------------------------------------------------------


def test_a_table_in_the_configured_format_is_recognised_by_its_columns_or_labels(settings):
    section = settings("csv", separator=";", encoding="cp1252", text="Kommentar", label="Label").csv
    as_configured = tables.dialect_of("Kommentar;Label\ncafé;positive\n".encode("cp1252"), section, ["Kommentar"])
    assert as_configured.dialect == section
    assert tables.dialect_of("Kommentar;Label\ncafé;positive\n".encode(), section, ["Kommentar"]).dialect.encoding == "utf-8"
    assert tables.dialect_of(b"text,id\nfine,1\n", section, ["Kommentar"]) is None
    bare = settings("csv", header=False, text=1, label=0).csv
    assert tables.dialect_of(b"positive,fine\n", bare, bare.texts).dialect == bare
    assert tables.dialect_of(b"text,id\nfine,1\n", bare, bare.texts) is None
