"""`predict --input` reads the rows of each file that `prepare` reads."""

import gzip
import json
from pathlib import Path

import pytest

from lorasum.config.data import DataConfig
from lorasum.data.asked import Asked, read_asked
from lorasum.errors import DataError

ROWS = [{"dialogue": f"Ana: {word}?\nBo: no", "summary": f"Bo has no {word}."} for word in ("tea", "milk")]
DATA = DataConfig(train="train.jsonl", test="test.jsonl")


def read(path: Path) -> list[Asked]:
    return list(read_asked(path, DATA))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lines.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("lines-without-suffix", "\n".join(map(json.dumps, ROWS))),
        ("array.jsonl", json.dumps(ROWS, indent=2)),
        ("array-on-one-line.ndjson", json.dumps(ROWS)),
        ("one-after-another.json", "\n".join(json.dumps(row, indent=2) for row in ROWS)),
        ("commas.jsonl", ",\n".join(map(json.dumps, ROWS))),
        ("rows-in-data.json", json.dumps({"data": ROWS})),
        ("columns.json", json.dumps({column: [row[column] for row in ROWS] for column in ROWS[0]})),
        ("table.csv", "dialogue,summary\n" + "".join(f'"{row["dialogue"]}",{row["summary"]}\n' for row in ROWS)),
    ],
)
def test_every_shape_of_rows_is_read(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert [{"dialogue": row.dialogue, "summary": row.reference} for row in read(path)] == ROWS


def test_compressed_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))
    assert [row.reference for row in read(path)] == [row["summary"] for row in ROWS]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(json.dumps({"dialogue": "Ana: où ?"}, ensure_ascii=False), encoding)
    assert [row.dialogue for row in read(path)] == ["Ana: où ?"]


def test_a_row_has_the_number_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text("\n" + "\n\n".join(map(json.dumps, ROWS)))
    assert [row.line for row in read(path)] == [2, 4]


@pytest.mark.parametrize("nothing", ["NaN", "null", '"nan"', '"N/A"'])
def test_a_row_may_have_no_reference(tmp_path: Path, nothing: str) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(f'{{"dialogue": "Ana: hi", "summary": {nothing}}}')
    assert [row.reference for row in read(path)] == [None]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"{", "not JSON"),
        (b'{"dialogue": "\xff"}', "not UTF-8"),
        pytest.param(b'{"x": ' + b"[" * 99_999 + b"]" * 99_999 + b"}", "not JSON", id="nested"),
        (b"[1]", "not a JSON object"),
        (b'{"dialogue": "A", "summary": 3}', "'summary' is not text"),
        (b'{"dialogue": "\\ud83d"}', "half a character"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, line: bytes, what: str) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(b'{"dialogue": "A: hi"}\n\n' + line + b"\n")
    with pytest.raises(DataError, match=f"^chats.jsonl:3: {what}"):
        read(path)


@pytest.mark.parametrize(
    "row", ['{"id": 7, "dialogue": ""}', '{"id": 7, "dialogue": null}', '{"id": 7}', '{"id": 7, "dialogue": 3}']
)
def test_a_row_without_a_dialogue_says_so(tmp_path: Path, row: str) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text(row + '\n{"dialogue": "A: hi"}\n')
    assert [(asked.id, asked.dialogue, asked.error) for asked in read(path)] == [
        (7, "", "no text in 'dialogue'"),
        (None, "A: hi", None),
    ]
    path.write_text(2 * (row + "\n"))
    with pytest.raises(DataError, match=r"chats.jsonl:1: no text in 'dialogue'"):
        read(path)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_text("\n")
    with pytest.raises(DataError, match="has no rows"):
        read(path)


def test_a_row_without_the_column_says_which_it_has(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text("Ticket,Transcript\n1,Ana: hi\n")
    with pytest.raises(DataError) as refused:
        read(path)
    said = "it has 'Ticket', 'Transcript': name the dialogue's column with --set data.columns.dialogue=NAME"
    assert refused.value.hint == said


def test_a_folder_is_no_file_of_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder") as refused:
        read(tmp_path)
    assert "--file takes one chat" in refused.value.hint
