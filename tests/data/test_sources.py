"""Every row of a file is read or reported with its place, whatever is wrong with it."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from lorasum.config import Columns, DataConfig
from lorasum.data.sources import open_sources
from lorasum.data.validate import Row
from lorasum.errors import DataError


def read(path: Path, columns: Columns | None = None) -> list[Any]:
    source = open_sources(DataConfig(train=str(path), test=str(path), columns=columns or Columns()))["train"]
    return [(where, row if isinstance(row, dict) else str(row)) for where, row in source.rows(lambda share: None)]


def row(number: int) -> Row:
    return {"dialogue": f"A: {number}", "summary": f"S{number}"}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_jsonl_reports_broken_lines_by_number_and_reads_the_others(tmp_path: Path) -> None:
    lines = [
        b"\xef\xbb\xbf" + json.dumps(row(1)).encode(),  # a byte order mark
        b'{"dialogue": "A: caf\xe9", "summary": "S"}',  # Latin-1
        b"",
        b'{"dialogue": ',
        b'["A", "S"]',
        json.dumps(row(6)).encode() + b"\r",
        '{"dialogue": "A:\u2028 still one line", "summary": "S"}'.encode(),
        b"[" * 100_000,
        b'{"dialogue": ' + b"9" * 5000 + b"}",
    ]
    found = dict(read(write(tmp_path / "t.jsonl", b"\n".join(lines))))
    assert found["t.jsonl:1"] == row(1)
    assert found["t.jsonl:2"] == "not UTF-8 (byte 21 of the line)"
    assert "t.jsonl:3" not in found  # an empty line is no row
    assert found["t.jsonl:4"].startswith("not JSON (Expecting value")
    assert found["t.jsonl:5"] == "not a JSON object (list)"
    assert found["t.jsonl:6"] == row(6)
    assert found["t.jsonl:7"]["dialogue"] == "A:\u2028 still one line"
    assert found["t.jsonl:8"].startswith("not JSON")
    assert found["t.jsonl:9"].startswith("not JSON")


def test_json_may_be_an_array_or_lines(tmp_path: Path) -> None:
    array = write(tmp_path / "a.json", json.dumps([row(1), "oops", row(3)], indent=1).encode())
    assert read(array) == [
        ("a.json row 1", row(1)),
        ("a.json row 2", "not a JSON object (str)"),
        ("a.json row 3", row(3)),
    ]
    lines = write(tmp_path / "l.json", b"\n".join(json.dumps(row(n)).encode() for n in (1, 2)))
    assert read(lines) == [("l.json:1", row(1)), ("l.json:2", row(2))]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'[{"dialogue": "x"},\n {"dialogue": }]', "a.json:2: not JSON"), (b'[\n\n"\xff"]', "a.json:3: not UTF-8")],
)
def test_broken_json_array_names_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(write(tmp_path / "a.json", content))


def test_csv_fields_may_hold_commas_quotes_and_newlines(tmp_path: Path) -> None:
    content = 'dialogue,summary,id\n"A: hi, you\nB: ""hey""\n",S1,1\n\nC: yo,S2,2\n'
    assert read(write(tmp_path / "t.csv", content.encode("utf-8-sig"))) == [
        ("t.csv:2", {"dialogue": 'A: hi, you\nB: "hey"\n', "summary": "S1", "id": "1"}),
        ("t.csv:6", {"dialogue": "C: yo", "summary": "S2", "id": "2"}),
    ]


def test_csv_reports_broken_records_by_their_first_line_and_reads_the_others(tmp_path: Path) -> None:
    content = b'dialogue,summary\r\n"A:\r\n\xff",S\r\none,two,three\r\n"x"y,S\r\nalone\r\ngood,S\r\n'
    assert read(write(tmp_path / "t.csv", content)) == [
        ("t.csv:2", "not UTF-8"),
        ("t.csv:4", "not CSV (3 fields, the header has 2)"),
        ("t.csv:5", "not CSV (',' expected after '\"')"),
        ("t.csv:6", "not CSV (1 fields, the header has 2)"),
        ("t.csv:7", {"dialogue": "good", "summary": "S"}),
    ]


def test_csv_quote_that_is_never_closed_is_an_error_not_a_swallowed_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.csv:3: a quote is opened and never closed"):
        read(write(tmp_path / "t.csv", b'dialogue,summary\nA,S\n"B,S\nC,S\nD,S\n'))


def test_csv_field_may_be_longer_than_the_csv_modules_default_limit(tmp_path: Path) -> None:
    long = "A: " + "x" * 200_000
    assert read(write(tmp_path / "t.csv", f"dialogue,summary\n{long},S\n".encode()))[0][1]["dialogue"] == long


def test_parquet_reads_the_mapped_columns_only_but_tells_all_when_one_is_missing(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"dialogue": ["A", None], "summary": ["S", "T"], "audio": [b"1", b"2"]}), tmp_path / "t.parquet"
    )
    assert read(tmp_path / "t.parquet") == [
        ("t.parquet row 1", {"dialogue": "A", "summary": "S"}),
        ("t.parquet row 2", {"dialogue": None, "summary": "T"}),
    ]
    assert set(read(tmp_path / "t.parquet", Columns(dialogue="chat"))[0][1]) == {"dialogue", "summary", "audio"}


def test_parquet_text_that_is_not_utf8_costs_its_own_row_only(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    dialogues = pa.array([b"A", b"\xff", b"C"]).view(pa.string())
    pq.write_table(pa.table({"dialogue": dialogues, "summary": ["S", "T", "U"]}), tmp_path / "t.parquet")
    assert [row for _, row in read(tmp_path / "t.parquet")] == [
        {"dialogue": "A", "summary": "S"},
        "not UTF-8",
        {"dialogue": "C", "summary": "U"},
    ]


def test_truncated_parquet_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t\.parquet: .*"):
        read(write(tmp_path / "t.parquet", b"PAR1 and then nothing"))


def test_missing_file_and_unknown_type_are_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.train: there is no file .*none\.jsonl"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"data\.train: the type of t\.xlsx is not known") as caught:
        read(write(tmp_path / "t.xlsx", b""))
    assert ".jsonl, .json, .csv, .tsv, .parquet, .arrow" in caught.value.hint


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_text_files_are_read_as_a_stream_that_tells_how_far_it_is(tmp_path: Path, suffix: str) -> None:
    line = json.dumps({"dialogue": "x" * 1000, "summary": "S"}) if suffix == ".jsonl" else "x" * 1000 + ",S"
    path = write(tmp_path / f"big{suffix}", ("dialogue,summary\n" * (suffix == ".csv") + f"{line}\n" * 20_000).encode())
    shares: list[float] = []
    source = open_sources(DataConfig(train=str(path), test=str(path)))["train"]
    tracemalloc.start()
    count = sum(1 for _ in source.rows(shares.append))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 2_000_000 < path.stat().st_size
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.2
    assert 0.8 < shares[-1] <= 1
