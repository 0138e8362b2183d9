"""Broken files of every kind: each ends in examples and reported rows, or in one line that says what is wrong.

700 mutations, the same ones each time. Nothing but a DataError may come out, and no row may be lost in silence.
"""

import codecs
import gzip
import io
import json
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lorasum.config.data import DataConfig
from lorasum.data.records import Example
from lorasum.data.sources import open_sources
from lorasum.data.tally import Rejected, Tally
from lorasum.data.validate import examples
from lorasum.errors import DataError

ROWS = [{"dialogue": f"Ana: number {n}, née\nBen: “ok”, {n}", "summary": f"They say, {n}."} for n in range(20)]
SEEDS = range(100)


def jsonl(rows: list[dict[str, str]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def separated(rows: list[dict[str, str]], delimiter: str) -> bytes:
    import csv

    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["dialogue", "summary"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def parquet(rows: list[dict[str, str]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return bytes(sink.getvalue())


def arrow(rows: list[dict[str, str]]) -> bytes:
    import pyarrow as pa

    table, sink = pa.Table.from_pylist(rows), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


FORMATS: dict[str, Callable[[], bytes]] = {
    "t.jsonl": lambda: jsonl(ROWS),
    "t.json": lambda: json.dumps(ROWS, indent=1).encode(),
    "t.csv": lambda: separated(ROWS, ","),
    "t.tsv": lambda: separated(ROWS, "\t"),
    "t.jsonl.gz": lambda: gzip.compress(jsonl(ROWS), mtime=0),
    "t.parquet": lambda: parquet(ROWS),
    "t.arrow": lambda: arrow(ROWS),
}

JUNK = [
    b"\x00", b"\x00" * 50, b"\xff\xfe", b"\xef\xbb\xbf", b'"', b'""', b"\\", b"\n", b"\r", b"\r\n\r\n", b"{", b"}",
    b"[" * 3000,
    b'"\\ud83d"', b'{"dialogue": "\\udc00", "summary": "S"}\n', b'{"dialogue": 7, "summary": true}\n', b"null\n",
    b"NaN",
    b'{"dialogue": {"a": [1]}, "summary": ["x"]}\n', b'{"dialogue": [{"role": 1}], "summary": "S"}\n', b"1e999",
    b"9" * 5000, b"x" * 300_000, "é".encode("latin-1"), "\u2028".encode(), b",,,,", b"\t\t", b"\x1a",
]  # fmt: skip


def mutate(content: bytes, chance: random.Random) -> tuple[bytes, int]:
    """The broken content, and how many bytes at its beginning are unchanged."""
    at = chance.randrange(len(content) + 1)
    match chance.randrange(7):
        case 0:
            return content[:at], at
        case 1:
            return content[:at] + content[at + chance.randrange(1, 30) :], at
        case 2:
            return content[:at] + bytes(chance.randrange(256) for _ in range(chance.randrange(1, 9))) + content[at:], at
        case 3:
            return content[:at] + bytes([chance.randrange(256)]) + content[at + 1 :], at
        case 4:
            return content[:at] + content[max(at - 200, 0) :], at
        case 5:
            return content[:at] + chance.choice(JUNK) + content[at:], at
        case _:
            return content.decode("utf-8", "replace").encode(chance.choice(["utf-16", "utf-32", "utf-8-sig"])), 0


def lines_of(content: bytes) -> list[str]:
    """The lines of a text in the encoding its BOM names."""
    encodings = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF16_LE: "utf-16"}
    for bom, encoding in encodings.items():
        if content.startswith(bom):
            with suppress(UnicodeDecodeError):
                return content.decode(encoding).split("\n")
    return content.removeprefix(codecs.BOM_UTF8).decode("latin-1").split("\n")


def read_all(path: Path) -> tuple[list[Example], int, int] | DataError:
    """The examples in a file, how many rows were left out, and how many there were; or the error."""
    data, tally = DataConfig(train=str(path), test=str(path), max_bad_rows=10**9), Tally()
    try:
        rows = list(open_sources(data)["train"].rows(lambda share: None))
        kept = [example for _, example in examples(iter(rows), path.name, data, tally)]
    except DataError as error:
        return error
    return kept, tally.dropped.total(), len(rows)


@pytest.mark.parametrize("name", FORMATS)
def test_no_mutation_crashes_and_no_row_is_lost_unreported(tmp_path: Path, name: str) -> None:
    whole, path = FORMATS[name](), tmp_path / name
    ended = {"error": 0, "kept": 0}
    for seed in SEEDS:
        content, good_until = mutate(whole, random.Random(f"{name} {seed}"))
        path.write_bytes(content)
        read = read_all(path)
        if isinstance(read, DataError):
            ended["error"] += 1
            assert read.message, seed
            assert read.hint, seed
            assert "\n" not in read.message + read.hint, seed
            continue
        ended["kept"] += 1
        kept, left_out, yielded = read
        assert len(kept) + left_out == yielded, seed
        if name == "t.jsonl":
            assert yielded == sum(1 for line in lines_of(content) if line.strip()), seed
            untouched = whole[:good_until].count(b"\n")
        else:
            untouched = whole[:good_until].count(b"\r\n") - 1 if name in ("t.csv", "t.tsv") else 0
        found = {example.dialogue for example in kept}
        missing = [row for row in ROWS[: max(untouched, 0)] if row["dialogue"] not in found]
        assert not missing, (seed, good_until, missing)
    assert name.endswith((".gz", ".parquet", ".arrow")) or ended["kept"] > 5, "too wild to say anything"
    assert name == "t.jsonl" or ended["error"] > 0


def test_what_was_left_out_can_be_read_in_the_file_of_rejects(tmp_path: Path) -> None:
    from lorasum.data.tally import RejectFile

    path = tmp_path / "t.jsonl"
    broken = b'{"dialogue": "\xff"}\n{"dialogue": "A: \\ud83d", "summary": "S"}\n{"summary": 1}\n'
    path.write_bytes(jsonl(ROWS[:1]) + broken)
    data = DataConfig(train=str(path), test=str(path), max_bad_rows=9)
    with RejectFile(tmp_path / "deep" / "rejects.jsonl") as rejects:
        tally = Tally("train", rejects)
        list(examples(open_sources(data)["train"].rows(lambda share: None), "t.jsonl", data, tally))
        tally.reject("t.jsonl:9", Rejected("duplicate"))
    lines = [json.loads(line) for line in rejects.path.read_text("utf-8").splitlines()]
    assert [(line["where"], line["reason"]) for line in lines] == [
        ("t.jsonl:2", "not UTF-8"),
        ("t.jsonl:3", "dialogue is not valid Unicode"),
        ("t.jsonl:4", "no dialogue"),
        ("t.jsonl:9", "duplicate"),
    ]
    assert lines[0]["raw"] == '{"dialogue": "\\xff"}'
    assert lines[2]["row"] == {"summary": 1}
    with RejectFile(rejects.path):
        pass
    assert not rejects.path.exists(), "nothing was left out this time"
