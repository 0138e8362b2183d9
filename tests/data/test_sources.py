"""Every row of a file is read or reported with its place, whatever is wrong with it."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from lorasum.config.data import Columns, DataConfig
from lorasum.data.sources import open_sources
from lorasum.errors import DataError


def read(path: Path, columns: Columns | None = None) -> list[Any]:
    source = open_sources(DataConfig(train=str(path), test=str(path), columns=columns or Columns()))["train"]
    return [(where, row if isinstance(row, dict) else str(row)) for where, row in source.rows(lambda share: None)]


def row(number: int) -> dict[str, str]:
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


def test_csv_reports_a_broken_record_by_its_first_line(tmp_path: Path) -> None:
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


def test_parquet_reads_mapped_columns_and_lists_all_if_one_is_missing(tmp_path: Path) -> None:
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


def test_parquet_reads_the_speakers_beside_the_lines(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {"dialogue": ["hi", "ho"], "speaker": ["Ana", "Ben"], "summary": "s"}
    pq.write_table(pa.Table.from_pylist([{**row, "audio": b"1"}]), tmp_path / "t.parquet")
    assert read(tmp_path / "t.parquet") == [("t.parquet row 1", row)]


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


def test_missing_file_and_unknown_type_are_errors_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.train: there is no file .*none\.jsonl"):
        read(tmp_path / "none.jsonl")
    with pytest.raises(DataError, match=r"data\.train: the type of t\.xlsx is not known") as caught:
        read(write(tmp_path / "t.xlsx", b""))
    assert ".jsonl, .json, .csv, .tsv, .parquet, .arrow" in caught.value.hint


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("https://example.org/chats.csv", "download it"),
        ("knkarthick/samsum", "a dataset of the hub is named by data.dataset"),
        ("chats.csv", "check the path"),
    ],
)
def test_what_is_no_file_here_may_be_somewhere_else(given: str, hint: str) -> None:
    with pytest.raises(DataError, match=f"(?m)there is no file {given}$") as refused:
        open_sources(DataConfig(train=given, test_fraction=0.1))
    assert hint in refused.value.hint


def test_an_exported_chat_is_pointed_to_how_it_becomes_a_row(tmp_path: Path) -> None:
    (tmp_path / "chat.txt").write_text("Ana: hi")
    with pytest.raises(DataError, match=r"the type of chat\.txt is not known") as refused:
        open_sources(DataConfig(train=str(tmp_path / "chat.txt"), test_fraction=0.1))
    assert "docs/chats.md" in refused.value.hint


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


def lines(*numbers: int) -> bytes:
    return b"".join(json.dumps(row(number)).encode() + b"\n" for number in numbers)


def test_compressed_and_tab_separated_files_are_read(tmp_path: Path) -> None:
    import bz2
    import gzip
    import lzma

    import pyarrow as pa

    packed = write(tmp_path / "a.jsonl.gz", gzip.compress(lines(1, 2)))
    assert read(packed) == [("a.jsonl.gz:1", row(1)), ("a.jsonl.gz:2", row(2))]
    with pa.output_stream(str(tmp_path / "b.csv.zst"), compression="zstd") as stream:
        stream.write(b"dialogue,summary\nA: 1,S1\n")
    for name, compress in (("d.jsonl.xz", lzma.compress), ("d.jsonl.bz2", bz2.compress)):
        assert read(write(tmp_path / name, compress(lines(1)))) == [(f"{name}:1", row(1))]
    assert read(tmp_path / "b.csv.zst") == [("b.csv.zst:2", row(1))]
    assert read(write(tmp_path / "c.tsv", b'dialogue\tsummary\n"A: 1"\tS1\n')) == [("c.tsv:2", row(1))]


@pytest.mark.parametrize(("name", "kind"), [("a.jsonl.gz", "gzip"), ("a.csv.zst", "zstd")])
def test_a_compressed_file_that_is_cut_off_is_an_error_that_says_so(tmp_path: Path, name: str, kind: str) -> None:
    import pyarrow as pa

    path = tmp_path / name
    with pa.output_stream(str(path), compression=kind) as stream:
        stream.write(lines(*range(500)))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=f"{name}: not a whole {kind} file"):
        read(path)


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_files_are_read_in_both_forms(tmp_path: Path, stream: bool) -> None:
    import pyarrow as pa

    table = pa.Table.from_pylist([{**row(1), "id": 1}, {**row(2), "id": 2}])
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table)
    assert read(tmp_path / "t.arrow") == [("t.arrow row 1", row(1)), ("t.arrow row 2", row(2))]


def test_a_folder_a_pattern_and_a_list_are_several_files(tmp_path: Path) -> None:
    write(tmp_path / "b.jsonl", lines(2))
    write(tmp_path / "a.jsonl", lines(1))
    write(tmp_path / "notes.txt", b"no rows")
    write(tmp_path / "index.tab", b"7\t12\n")
    write(tmp_path / "c.csv", b"dialogue,summary\nA: 3,S3\n")

    def found(*given: str) -> list[str]:
        train: str | list[str] = list(given) if len(given) > 1 else given[0]
        source = open_sources(DataConfig(train=train, test=given[0]))["train"]
        shares: list[float] = []
        places = [where for where, _ in source.rows(shares.append)]
        assert source.identity() == source.identity()
        return places

    assert found(str(tmp_path)) == ["a.jsonl:1", "b.jsonl:1", "c.csv:2"]
    assert found(f"{tmp_path}/*.jsonl") == ["a.jsonl:1", "b.jsonl:1"]
    assert found(f"{tmp_path}/c.csv", f"{tmp_path}/a*") == ["c.csv:2", "a.jsonl:1"]
    with pytest.raises(DataError, match=r"no file matches .*/\*\.zip"):
        found(f"{tmp_path}/*.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no file of a known type"):
        found(f"{tmp_path}/empty")
    (tmp_path / "empty/WhatsApp Chat.txt").write_text("01.02.24, 10:00 - Ana: hi\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no file of a known type") as error:
        found(f"{tmp_path}/empty")
    assert "exported chats" in error.value.hint


def test_a_fraction_takes_the_same_dialogues_in_any_order(tmp_path: Path) -> None:
    numbers = list(range(400))
    path = write(tmp_path / "t.jsonl", lines(*numbers) + b"{\n")

    def parts(seed: int = 0) -> tuple[list[str], list[str]]:
        sources = open_sources(DataConfig(train=str(path), test_fraction=0.1, test_seed=seed))
        train, test = ([row for _, row in sources[split].rows(lambda share: None)] for split in ("train", "test"))
        assert not isinstance(train[-1], dict), "what cannot be read is told once, in the training part"
        return [one["summary"] for one in train if isinstance(one, dict)], [one["summary"] for one in test]  # type: ignore[index]

    train, test = parts()
    assert sorted(train + test) == sorted(f"S{number}" for number in numbers)
    assert 20 < len(test) < 60
    write(path, lines(*reversed(numbers)) + b"{\n")
    assert parts() == (train[::-1], test[::-1])
    assert parts(seed=1)[1] != test
    write(path, lines(*numbers).replace(b"A: ", rb"A:\n") + b"{\n")
    in_lines = parts()
    write(path, lines(*numbers).replace(b"A: ", rb"A:\r\n") + b"{\n")
    assert parts() == in_lines


def test_a_file_is_read_for_its_identity_only_when_it_was_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
    path = write(tmp_path / "t.jsonl", lines(1))
    os.utime(path, (1_000_000_000, 1_000_000_000))
    data = DataConfig(train=str(path), test=str(path))
    first = open_sources(data)["train"].identity()
    remembered = json.loads((tmp_path / "home" / "digests.json").read_text())
    assert list(remembered) == [str(path)]
    assert open_sources(data)["train"].identity() == first
    path.write_bytes(lines(2))
    assert open_sources(data)["train"].identity() != first
