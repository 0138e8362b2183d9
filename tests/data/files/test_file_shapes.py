"""Files as people have them: every usual shape of JSON, separated values of every kind, encodings, folders."""

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lorasum.config.data import DataConfig
from lorasum.data.files.splits import split_of
from lorasum.data.sources import open_sources
from lorasum.data.tally import RejectFile, Tally
from lorasum.data.validate import examples
from lorasum.errors import DataError
from lorasum.system import cache

ROWS = [{"dialogue": f"Ana: number {n}?\nBen: yes, {n}", "summary": f"Ana asks about {n}."} for n in range(4)]
SPLITS = {"train": ROWS[:3], "validation": ROWS[3:]}
TABLE = {"dialogue": [row["dialogue"] for row in ROWS], "summary": [row["summary"] for row in ROWS]}

CHATS = [
    [{"role": "user", "content": row["dialogue"]}, {"role": "assistant", "content": row["summary"]}] for row in ROWS
]


def kept(path: Path, split: str = "train", said: list[str] | None = None, **settings: Any) -> list[dict[str, str]]:
    """The examples of a split, as rows. Every unusable row is an error."""
    data = DataConfig.model_validate({"train": str(path), "test": str(path), **settings})
    told = said if said is not None else []

    def say(name: str, text: str) -> None:
        told.append(f"{name}: {text}")

    source = dict(open_sources(data, say))[split]  # type: ignore[index]
    found = examples(source.rows(lambda share: None, say), source.name, data, Tally())
    return [{"dialogue": one.dialogue, "summary": one.summary} for _, one in found]


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pretty(value: object) -> str:
    return json.dumps(value, indent=2)


def lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    "content",
    [
        pretty(ROWS),
        json.dumps(ROWS),
        pretty(ROWS).replace('."\n', '.",\n').replace("}\n]", "},\n]"),
        lines(ROWS).replace("}", ",}"),
        "".join(f"\x1e{json.dumps(row)}\n" for row in ROWS),
        json.dumps(ROWS[:1]) + "\n" + json.dumps(ROWS[1:]) + "\n",
        pretty(ROWS[:3]) + pretty(ROWS[3:]),
        json.dumps([["id", *TABLE], *([n, *row.values()] for n, row in enumerate(ROWS))]),
        "".join(json.dumps(values) + "\n" for values in ([*TABLE], *(list(row.values()) for row in ROWS))),
        lines(ROWS),
        lines(ROWS).replace("\n", "\r\n"),
        "".join(f"\ufeff{json.dumps(row)}\n" for row in ROWS),
        "\n\n".join(map(pretty, ROWS)),
        "".join(map(json.dumps, ROWS)),
        ",\n".join(map(json.dumps, ROWS)),
        "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]",
        "[\n" + "".join(f"{json.dumps(row)},\n" for row in ROWS) + "]",
        '{"data": [\n' + ",\n".join(map(json.dumps, ROWS)) + "\n]}",
        pretty({"version": "1", "data": ROWS}),
        pretty({"took": 3, "result": {"total": 4, "examples": ROWS}}),
        json.dumps({"rows": [{"row_idx": n, "row": row, "truncated_cells": []} for n, row in enumerate(ROWS)]}),
        pretty({"my chats": ROWS, "authors": ["Ana"], "schema": {"fields": [{"name": "dialogue"}]}}),
        json.dumps({"train": ROWS, "test": ROWS[:1]}),
        json.dumps({"data": {"train": ROWS}}),
        json.dumps({name: {str(n): text for n, text in enumerate(texts)} for name, texts in TABLE.items()}),
        json.dumps({str(n): row for n, row in enumerate(ROWS)}),
        pretty({f"chat-{n}": row for n, row in enumerate(ROWS)}),
        json.dumps(
            {"columns": ["dialogue", "summary"], "index": [0, 1, 2, 3], "data": [list(r.values()) for r in ROWS]}
        ),
        json.dumps({"columns": [{"name": name} for name in TABLE], "rows": [list(r.values()) for r in ROWS]}),
        json.dumps({"columns": [*TABLE], "data": ROWS}),
        json.dumps(
            {"schema": {"fields": [], "pandas_version": "1.4.0"}, "data": [{"index": 0, **row} for row in ROWS]}
        ),
        pretty(TABLE),
        "\n".join(json.dumps(json.dumps(row)) for row in ROWS),
        json.dumps([json.dumps(row) for row in ROWS]),
    ],
)
@pytest.mark.parametrize("name", ["t.json", "t.jsonl", "t.ndjson"])
def test_every_usual_shape_of_json_is_read(tmp_path: Path, name: str, content: str) -> None:
    assert kept(write(tmp_path / name, content)) == ROWS
    assert kept(write(tmp_path / name, b"\xef\xbb\xbf" + content.encode())) == ROWS


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(CHATS),
        pretty(CHATS),
        "".join(f"{json.dumps(chat)}\n" for chat in CHATS),
        "".join(f"{json.dumps({'messages': chat})}\n" for chat in CHATS),
        "\n" + "".join(f"{json.dumps(row)}\n" for row in (*CHATS[:2], {"messages": CHATS[2]}, ROWS[3])),
        "".join(f"{json.dumps(row)}\n" for row in (ROWS[0], *CHATS[1:])),
        "".join(f"{json.dumps([{'role': 'system'}, *chat])}\n" for chat in CHATS),
    ],
)
@pytest.mark.parametrize("name", ["t.json", "t.jsonl"])
def test_rows_may_be_bare_lists_of_messages(tmp_path: Path, name: str, content: str) -> None:
    assert kept(write(tmp_path / name, content)) == ROWS


@pytest.mark.parametrize("broken", ['[{"role": "user",', "null", "[]", "no JSON"])
@pytest.mark.parametrize("at", range(3))
def test_a_broken_line_among_lists_of_messages_is_one_row(tmp_path: Path, at: int, broken: str) -> None:
    of_file = [json.dumps(chat) for chat in CHATS[:2]]
    of_file.insert(at, broken)
    path = write(tmp_path / "t.jsonl", "\n".join(of_file))
    with pytest.raises(DataError, match=f"t.jsonl:{at + 1}: not "):
        kept(path)
    assert kept(path, max_bad_rows=1) == ROWS[:2]


def test_one_list_of_messages_is_no_training_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no column 'dialogue'; it has 'role', 'content'"):
        kept(write(tmp_path / "t.json", json.dumps(CHATS[0])))


def test_lists_of_rows_with_columns_like_messages_stay_rows(tmp_path: Path) -> None:
    rows = [[{"content": row["dialogue"], "role": row["summary"]}] for row in ROWS]
    path = write(tmp_path / "t.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
    assert kept(path, columns={"dialogue": "content", "summary": "role"}) == ROWS


def test_commas_in_texts_stay_where_others_are_too_many(tmp_path: Path) -> None:
    text = 'Ana: [1,] {2, } \\" ,\n'
    content = f'{{"a": [1,],"dialogue": {json.dumps(text)}, "summary": "Ana\tcounts, }}",}}\n'
    expected = [{"dialogue": text.strip(), "summary": "Ana\tcounts, }"}]
    assert kept(write(tmp_path / "t.jsonl", content)) == expected
    assert kept(write(tmp_path / "t.json", f"[{content},]")) == expected


def test_one_object_is_one_row_however_it_is_indented(tmp_path: Path) -> None:
    for number, row in enumerate(ROWS):
        write(tmp_path / f"{number}.json", pretty(row) if number % 2 else json.dumps(row))
    assert kept(tmp_path) == ROWS
    messages = [{"sender": "Ana", "text": "hi"}, {"sender": "Ben", "text": "hey"}]
    one = {"dialogue": messages, "summary": ["They greet.", "Ana greets."]}
    assert len(kept(write(tmp_path / "one.json", pretty(one)))) == 1


def test_a_missing_summary_leaves_columns_what_they_are(tmp_path: Path) -> None:
    summaries = [None, *TABLE["summary"][1:]]
    path = write(tmp_path / "t.json", pretty({**TABLE, "summary": summaries}))
    assert kept(path, max_bad_rows=1) == ROWS[1:]
    with pytest.raises(DataError, match="it holds 4 dialogues and 3 summaries"):
        kept(write(path, pretty({**TABLE, "summary": summaries[1:]})))
    lines_and_references = {"dialogue": ["Ana: hi", "Ben: hey", "Ana: bye"], "summary": ["They greet.", "Hi and bye."]}
    assert len(kept(write(path, pretty(lines_and_references)))) == 1
    mails = ["Hi Ben,\nsend it.\nAna", "Hi Ana,\nhere it is.\nBen", "Thanks,\nAna"]
    assert len(kept(write(path, pretty({**lines_and_references, "dialogue": mails})))) == 1


def test_several_references_are_as_many_columns_of_a_document(tmp_path: Path) -> None:
    names = {"dialogue": "dialogue", "summary": ["first", "second"]}
    row = {"dialogue": ROWS[0]["dialogue"], "first": ROWS[0]["summary"], "second": "They count."}
    assert kept(write(tmp_path / "t.json", pretty(row)), columns=names) == ROWS[:1]
    table = {"dialogue": TABLE["dialogue"], "first": TABLE["summary"], "second": ["They count."] * 4}
    assert kept(write(tmp_path / "t.json", pretty(table)), columns=names) == ROWS


def test_a_document_of_splits_gives_each_split_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / "t.json", json.dumps(SPLITS))
    assert (kept(path), kept(path, "test")) == (ROWS[:3], ROWS[3:])
    columns = {name: {key: [row[key] for row in rows] for key in TABLE} for name, rows in SPLITS.items()}
    indexed = {name: {str(n): row for n, row in enumerate(rows)} for name, rows in SPLITS.items()}
    for document in (columns, indexed):
        path = write(tmp_path / "t.json", json.dumps(document))
        assert (kept(path), kept(path, "test")) == (ROWS[:3], ROWS[3:])
    in_parts = write(tmp_path / "t.json", json.dumps({"train_1": ROWS[:2], "train_2": ROWS[2:3], "dev": ROWS[3:]}))
    assert (kept(in_parts), kept(in_parts, "test")) == (ROWS[:3], ROWS[3:])
    beside = {"train": ROWS[:3], "train_ids": [{"id": 1}], "train_small": ROWS[:1], "dev": ROWS[3:]}
    assert kept(write(tmp_path / "t.json", json.dumps(beside))) == ROWS[:3]
    by_id = write(tmp_path / "t.json", json.dumps({f"train_{n}": row for n, row in enumerate(ROWS)}))
    assert kept(by_id) == ROWS
    by_id = write(tmp_path / "t.json", json.dumps({name: ROWS[n] for n, name in enumerate(("train_17", "hotel_3"))}))
    assert kept(by_id) == ROWS[:2]
    several = write(tmp_path / "s.json", json.dumps({"monday": ROWS, "tuesday": ROWS}))
    with pytest.raises(DataError, match=r"several lists of rows: 'monday', 'tuesday'"):
        kept(several)


@pytest.mark.parametrize("above", ["", "data", "result"])
@pytest.mark.parametrize("form", [list, lambda rows: dict(enumerate(rows))])
@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        ("train held_out", 0, 1),
        ("QATrain QATest", 0, 1),
        ("train other", 0, None),
        ("train tests", 0, 1),
        ("train_full train_small dev", None, 2),
        ("train_sft test_sft train_gen test_gen", None, None),
        ("train_fold1 train_fold2 test", None, 2),
        ("train_v1 train_v2 test", None, 2),
        ("training training_small eval", 0, 2),
    ],
)
def test_the_keys_of_a_document_tell_its_splits(
    tmp_path: Path, above: str, form: Any, names: str, train: int | None, test: int | None
) -> None:
    document = {name: form([row]) for name, row in zip(names.split(), ROWS, strict=False)}
    path = write(tmp_path / "t.json", json.dumps({above: document} if above else document))
    for split, taken in (("train", train), ("test", test)):
        said: list[str] = []
        if taken is None:
            with pytest.raises(DataError, match=r"t\.json: it holds "):
                kept(path, split)
        else:
            assert kept(path, split, said) == [ROWS[taken]]
        tells = taken is not None and ("other" in names or (split == "train" and "small" in names))
        assert (
            any(text.startswith("t.json: took 'train") and "' for data.train, and left '" in text for text in said)
            == tells
        )


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"columns": ["id", *TABLE], "data": [list(ROWS[0].values())]}, r"t.json row 1: not a JSON object \(list\)"),
        ({"columns": [*TABLE], "data": [None]}, r"t.json row 1: not a JSON object \(NoneType\)"),
        ({"columns": [*TABLE, "summary"], "data": [[*ROWS[0].values(), ""]]}, "it has 2 columns 'summary'"),
        ({"columns": [["chat", "dialogue"]], "data": [[1]]}, "has no column 'dialogue'"),
        ({"rows": [{"row_idx": 0, "row": ROWS[0], "truncated_cells": ["dialogue"]}]}, "row 1: cut off .'dialogue', by"),
    ],
)
def test_values_that_do_not_fit_their_columns_are_no_rows(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        kept(write(tmp_path / "t.json", json.dumps(document)))


def test_columns_may_be_keys_of_objects(tmp_path: Path) -> None:
    rows = [{"chat": {"text": row["dialogue"]}, "notes": {"tldr": row["summary"]}} for row in ROWS]
    path = write(tmp_path / "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"no column 'dialogue'; it has 'chat.text', 'notes.tldr'"):
        kept(path)
    assert kept(path, columns={"dialogue": "chat.text", "summary": "notes.tldr"}) == ROWS


def test_a_large_array_is_read_as_a_stream(tmp_path: Path) -> None:
    import tracemalloc

    row = json.dumps({"dialogue": "Ana: " + "hi " * 300, "summary": "Ana greets."})
    path = write(tmp_path / "t.json", "[" + ",\n".join([row] * 15_000) + "]")
    source = open_sources(DataConfig(train=str(path), test=str(path)))["train"]
    tracemalloc.start()
    count = sum(1 for _ in source.rows(lambda share: None))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 15_000
    assert peak < 6_000_000 < path.stat().st_size


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pretty(ROWS)[:-30], r"t.json:\d+: not JSON"),
        (pretty(ROWS) + "]", "t.json:18: not JSON .Extra data"),
        ('[{"dialogue": "x"},\n {"dialogue": }]', "t.json:2: not JSON .Expecting value, column 14"),
        ("[" * 100_000 + "]" * 100_000, "t.json row 1: not JSON"),
        ('[{"dialogue": ' + "9" * 5000 + "}]", "t.json row 1: not JSON"),
        ('{"data": ' + "[" * 100_000, "t.json row 1: not JSON"),
    ],
)
def test_broken_json_is_one_line_with_its_place(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        kept(write(tmp_path / "t.json", content))
    assert caught.value.hint
    assert len(caught.value.message) < 200


@pytest.fixture(scope="module")
def letters_of_120_mib() -> bytes:
    """As the second part of a gzip file."""
    return gzip.compress(b"a" * 120 * 2**20, 1)


@pytest.mark.parametrize("name", ["t.json.gz", "t.jsonl.gz", "t.csv.gz"])
@pytest.mark.parametrize(
    "start", [b'{"dialogue": "', b'[{"dialogue": "', b'{"data": [{"dialogue": "', b'dialogue,summary\n"', b""]
)
def test_a_small_file_that_unpacks_to_gigabytes_is_refused(
    tmp_path: Path, letters_of_120_mib: bytes, name: str, start: bytes
) -> None:
    import tracemalloc

    path = tmp_path / name
    path.write_bytes(gzip.compress(start) + letters_of_120_mib)
    tracemalloc.start()
    with pytest.raises(DataError) as caught:
        kept(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 120 * 2**20
    assert len(caught.value.message) < 300


SHEET = 'dialogue{0}summary{0}id\n"Ana: hi{0} you\nBen: ""hey"", all; of | them"{0}They greet, twice.{0}1\n'
GREETING = {"dialogue": 'Ana: hi{0} you\nBen: "hey", all; of | them', "summary": "They greet, twice."}


@pytest.mark.parametrize(
    ("delimiter", "word"),
    [
        (",", ""),
        (";", "semicolons"),
        ("\t", "tabs"),
        ("|", "bars"),
        ("^", "'^'"),
        (":", "':'"),
        ("\x1f", r"'\x1f'"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
def test_the_delimiter_is_the_headers(tmp_path: Path, name: str, delimiter: str, word: str) -> None:
    said: list[str] = []
    content = SHEET.format(delimiter).replace("They greet, twice.", '"They greet, twice."')
    row = {key: text.format(delimiter) for key, text in GREETING.items()}
    assert kept(write(tmp_path / name, content), said=said) == [row]
    expected = {"t.csv": ",", "t.tsv": "\t"}[name] == delimiter
    assert said == [] if expected else said == [f"{name}: its fields are separated by {word or 'commas'}"]
    if delimiter != "\t":
        excel = f"sep={delimiter}\r\n" + content.replace("\n", "\r\n")
        assert len(kept(write(tmp_path / name, b"\xef\xbb\xbf" + excel.encode()))) == 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_quotes_may_be_escaped_by_a_backslash(tmp_path: Path, delimiter: str) -> None:
    row = rf'"Ana: it\'s \"C:\\\"{delimiter} ok\\"{delimiter}"Ana says \"ok\"."' + "\n"
    [read] = kept(write(tmp_path / "t.csv", f"dialogue{delimiter}summary\n{row}"))
    assert read == {"dialogue": rf"""Ana: it\'s "C:\"{delimiter} ok""" + "\\", "summary": 'Ana says "ok".'}
    head = f"dialogue{delimiter}summary\n"
    bare = f'"Ana: a \\"b\\"" {delimiter}"S \\"ok\\"."\nAna: \\"so{delimiter}In C:\\new \\"so\\".\n'
    assert [tuple(row.values()) for row in kept(write(tmp_path / "t.csv", head + bare))] == [
        ('Ana: a "b"', 'S "ok".'),
        ('Ana: "so', 'In C:\\new "so".'),
    ]
    twice = f'dialogue{delimiter}summary\n"Ana: C:\\"{delimiter}"Ana says ""ok\\""."\n'
    assert kept(write(tmp_path / "t.csv", twice)) == [{"dialogue": "Ana: C:\\", "summary": 'Ana says "ok\\".'}]


def test_quotes_may_be_single_or_letters_as_any_other(tmp_path: Path) -> None:
    single = "dialogue,summary\n'Ana: hi, it''s me\nBen: yo','They greet.'\n'Ana: so, bye','Ana leaves.'\n"
    assert kept(write(tmp_path / "t.csv", single)) == [
        {"dialogue": "Ana: hi, it's me\nBen: yo", "summary": "They greet."},
        {"dialogue": "Ana: so, bye", "summary": "Ana leaves."},
    ]
    many = single + "'Ana: hi\nBen: yo\nAna: so','They\ngreet\neach.'\n" * 400  # 1,000 lines are looked at
    assert len(kept(write(tmp_path / "t.csv", many))) == 402
    signs = "dialogue,summary\n'Ana: 5\" , she said','5\" , it is.'\n'Ana: so','So.'\n"
    assert kept(write(tmp_path / "t.csv", signs))[0] == {"dialogue": 'Ana: 5" , she said', "summary": '5" , it is.'}
    letters = "dialogue,summary\n'tis late,'Late' it is\nno,'tis not\n"
    assert [row["summary"] for row in kept(write(tmp_path / "t.csv", letters))] == ["'Late' it is", "'tis not"]
    bare = 'dialogue\tsummary\n"Big" Ana: hi\tAna greets.\nBen: 5" or 6"?\t"Five" it is.\n'
    assert kept(write(tmp_path / "t.tsv", bare)) == [
        {"dialogue": '"Big" Ana: hi', "summary": "Ana greets."},
        {"dialogue": 'Ben: 5" or 6"?', "summary": '"Five" it is.'},
    ]
    with pytest.raises(DataError, match="not CSV"):
        kept(write(tmp_path / "t.tsv", bare + '"Ana: bye"\tAna leaves.\n'))


@pytest.mark.parametrize("above", ["Chats of June\n", "Chats,June\n\n", "# a\n# b\n", ",,\n", "\ufeff"])
def test_lines_above_the_header_of_a_table_are_passed_over(tmp_path: Path, above: str) -> None:
    said: list[str] = []
    path = write(tmp_path / "t.csv", f"\ufeff{above}dialogue,summary\nAna: hi,Ana greets\n")
    assert kept(path, said=said) == [{"dialogue": "Ana: hi", "summary": "Ana greets"}]
    assert said == (
        []
        if above == "\ufeff"
        else [f"t.csv: its header is in line {above.count(chr(10)) + 1}: what is above it is ignored"]
    )


def test_a_header_that_comes_again_is_no_row(tmp_path: Path) -> None:
    said: list[str] = []
    table = "dialogue,summary\nAna: hi,Ana greets\n"
    assert len(kept(write(tmp_path / "t.csv", table + table), said=said, duplicates="keep")) == 2
    assert said == ["t.csv: its header is in it again: ignored"]
    turned = "summary,dialogue\nBen greets,Ben: hey\n"
    both = [{"dialogue": "Ana: hi", "summary": "Ana greets"}, {"dialogue": "Ben: hey", "summary": "Ben greets"}]
    assert kept(write(tmp_path / "t.csv", table + turned), said=said) == both
    assert said[1:] == ["t.csv: its header is in it again: the columns of the rows below it stand in its order"]
    for of_another in ("source,dialogue,summary\nx,Ben: hey,Ben greets\n", "summary,dialogue\nBen greets,Ben: hey\n"):
        joined = "id,dialogue,summary\n1,Ana: hi,Ana greets\n" + of_another
        assert kept(write(tmp_path / "t.csv", joined)) == both
    words = "kind,dialogue,summary,part\nsummary,Ana: hi,Ana greets,dialogue\n"
    assert kept(write(tmp_path / "t.csv", words)) == both[:1]


@pytest.mark.parametrize(
    ("table", "dialogues", "tells"),
    [
        ("dialogue,summary\n--------,-------\nAna: hi,S.\n---,---\nBen: hi,S.\n", ["Ana: hi", "Ben: hi"], True),
        ("| dialogue | summary |\n|---|:--|\n" * 2 + "| Ana: hi | S. |\n", ["Ana: hi"], False),
        ("dialogue,summary\n---,They say nothing.\n", ["---"], False),
    ],
)
def test_lines_of_dashes_are_no_rows(tmp_path: Path, table: str, dialogues: list[str], tells: bool) -> None:
    said: list[str] = []
    assert [row["dialogue"] for row in kept(write(tmp_path / "t.csv", table), said=said)] == dialogues
    assert ("t.csv: a line of dashes in it is ignored" in said) == tells


def test_a_dialogue_of_dashes_without_a_summary_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"t.csv:3: empty summary"):
        kept(write(tmp_path / "t.csv", "dialogue,summary\nAna: hi,S.\n--,\n"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("header", ['"dialogue" {0} "summary" ', '"dialogue" {0}"summary"', "dialogue{0}summary"])
def test_blanks_behind_a_quote_belong_to_the_delimiter(tmp_path: Path, header: str, delimiter: str) -> None:
    rows = f'"Ana: hi{delimiter} you\nBen: "" ok"" " {delimiter}"She greets." \n"Ben: hey"{delimiter}Greets.\n'
    content = f"{header.format(delimiter)}\n{rows}"
    both = f'{header.format(delimiter)}\n"Ana: hi" {delimiter} "She greets."\n"Ben: hey" {delimiter} "Greets."\n'
    assert [row["summary"] for row in kept(write(tmp_path / "t.csv", both))] == ["She greets.", "Greets."]
    assert kept(write(tmp_path / "t.csv", content)) == [
        {"dialogue": f'Ana: hi{delimiter} you\nBen: " ok"', "summary": "She greets."},
        {"dialogue": "Ben: hey", "summary": "Greets."},
    ]


def test_blanks_before_a_quote_belong_to_the_delimiter(tmp_path: Path) -> None:
    content = 'id, "dialogue", "summary"\n1, "Ana: hi, you", "She ""greets"", once."\n2, Ben: hey, Ben greets.\n'
    assert kept(write(tmp_path / "t.csv", content)) == [
        {"dialogue": "Ana: hi, you", "summary": 'She "greets", once.'},
        {"dialogue": "Ben: hey", "summary": "Ben greets."},
    ]
    below = 'dialogue,summary\n"Ben: hey", "Greets."\n"Ana: hi\nBen: hey", "She ""greets"", once."\n'
    assert kept(write(tmp_path / "t.csv", below)) == [
        {"dialogue": "Ben: hey", "summary": "Greets."},
        {"dialogue": "Ana: hi\nBen: hey", "summary": 'She "greets", once.'},
    ]
    always = 'dialogue,summary\nAna: hi, "Ana greets."\nBen: hey, "Ben greets."\n'
    assert [row["summary"] for row in kept(write(tmp_path / "t.csv", always))] == ["Ana greets.", "Ben greets."]
    words = 'dialogue\tsummary\nAna: hi\t "Greeting"\nBen: yo\t "Yo" is said\n'
    assert [row["summary"] for row in kept(write(tmp_path / "t.tsv", words))] == ['"Greeting"', '"Yo" is said']
    quoting = 'dialogue,summary\n"Ana: say ""hi"", ""ho""", "Hi" is said\n'
    assert kept(write(tmp_path / "t.csv", quoting))[0]["dialogue"] == 'Ana: say "hi", "ho"'


def test_cells_that_a_spreadsheet_adds_are_no_fault(tmp_path: Path) -> None:
    content = "id; dialogue ;summary;;\n1;Ana: hi;Ana greets.;;\n;;;;\n2;Ben: hey;Ben greets.;;;\n; ;;;\n"
    path = write(tmp_path / "t.csv", content)
    assert kept(path) == [
        {"dialogue": "Ana: hi", "summary": "Ana greets."},
        {"dialogue": "Ben: hey", "summary": "Ben greets."},
    ]


@pytest.mark.parametrize(
    "content",
    [
        "dialogue,summary,\nAna: hi,Ana greets.\nBen: hey,Ben greets.,\n",
        "id,dialogue,summary,,\n1,Ana: hi,Ana greets.\n2,Ben: hey,Ben greets.,,x\n",
        "dialogue\u00a0,\u200bsummary\nAna: hi,Ana greets.\nBen: hey,Ben greets.\n",
        '\ufeff\ufeff"dialogue","summary"\n"Ana: hi",Ana greets.\nBen: hey,Ben greets.\n',
        "| dialogue | summary |\n|---|:--|\n| Ana: hi | Ana greets. |\n| Ben: hey | Ben greets. |\n",
    ],
)
def test_headers_that_other_programs_write_are_read(tmp_path: Path, content: str) -> None:
    assert kept(write(tmp_path / "t.csv", content)) == [
        {"dialogue": "Ana: hi", "summary": "Ana greets."},
        {"dialogue": "Ben: hey", "summary": "Ben greets."},
    ]


@pytest.mark.parametrize("header", ["dialogue,summary,note", "id,dialogue,summary,", "dialogue,summary"])
def test_a_record_that_lacks_named_fields_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(DataError, match=r"fields?, the header has"):
        kept(write(tmp_path / "t.csv", f"{header}\nAna: hi,Ana greets.\nBen: hey\n"))


def test_blanks_on_both_sides_of_some_quoted_fields_are_none_of_the_text(tmp_path: Path) -> None:
    rows = '1,"Ana: hi","They agree."\n2,"Ana: bye" , "They ""part""."\n3,"Ana: so","So."\n'
    taken = kept(write(tmp_path / "t.csv", f"id,dialogue,summary\n{rows}"))
    assert [row["summary"] for row in taken] == ["They agree.", 'They "part".', "So."]


def test_a_part_of_one_line_without_a_header_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "part-0.csv", "dialogue,summary\nAna: hi,Ana greets.\n")
    write(tmp_path / "part-1.csv", "prompt,completion\n")  # of an empty part
    write(tmp_path / "part-3.csv", 'dialogue,summary,"Is it good? (yes/no)"\n')
    assert len(kept(tmp_path)) == 1
    write(tmp_path / "part-2.csv", '"Ben: hey\nAna: ho",They greet.\n')
    with pytest.raises(DataError, match=r"part-2.csv:1: not CSV \(its only line is no header\)"):
        kept(tmp_path)


def test_two_columns_of_one_name_are_an_error_that_names_them(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "dialogue,summary,summary\nAna: hi,one,two\n")
    with pytest.raises(DataError, match=r"t.csv has 2 columns 'summary'"):
        kept(path)
    other = write(tmp_path / "o.csv", "dialogue,summary,id,id\nAna: hi,one,1,2\n")
    assert kept(other) == [{"dialogue": "Ana: hi", "summary": "one"}]


@pytest.mark.parametrize("missing", ["nan", "None", "NULL", "N/A", "NaN", "<NA>", "#N/A", " null ", "\\N"])
def test_words_for_a_missing_text_are_no_summary(tmp_path: Path, missing: str) -> None:
    path = write(tmp_path / "t.csv", f"dialogue,summary\nAna: hi,Ana greets.\nBen: hey,{missing}\n")
    with pytest.raises(DataError, match=re.escape(f"t.csv:3: no summary ({missing.strip()!r})")):
        kept(path)
    assert len(kept(path, max_bad_rows=1)) == 1


WESTERN = "Zoë: tu es là ? C’est déjà fini – 5 € “en gros”.\nBjörn: schöne Grüße, mañana à Genève"


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", "read as UTF-16"),
        ("utf-16-le", "read as UTF-16-LE"),
        ("utf-16-be", "read as UTF-16-BE"),
        ("utf-32", "read as UTF-32"),
        ("cp1252", "not UTF-8: read as Windows-1252"),
    ],
)
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.json", "t.csv.gz"])
def test_the_encoding_is_recognised_and_reported(tmp_path: Path, name: str, encoding: str, said: str) -> None:
    row = {"dialogue": WESTERN, "summary": "They say goodbye."}
    csv = f'dialogue,summary\n"{WESTERN}",They say goodbye.\n'
    json_text = json.dumps([row] if name == "t.json" else row, ensure_ascii=False)
    content = (csv if "csv" in name else json_text).encode(encoding)
    told: list[str] = []
    assert kept(write(tmp_path / name, gzip.compress(content) if name.endswith("gz") else content), said=told) == [row]
    assert [one.removeprefix(f"{name}: ")[: len(said)] for one in told] == ([said] if said else [])


@pytest.mark.parametrize("text", ["王芳: 你好，开会吗", "Аня: привет, ты свободен?", "지수: 안녕 🎉", "ليلى: مرحبا"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_is_recognised_in_any_script(tmp_path: Path, encoding: str, text: str) -> None:
    content = f"dialogue,summary\n{text.replace(',', ' ')},{text[:3]}\n"
    [row] = kept(write(tmp_path / "t.csv", content.encode(encoding)))
    assert row["dialogue"] == text.replace(",", " ")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1250", "Ola: możesz kupić mleko? Zażółć gęślą jaźń.\nKuba: jasne, będę wieczorem"),
        ("cp1250", "Bára: můžeš koupit chléb? Příliš žluťoučký kůň.\nVít: jasně, večer"),
        ("cp1250", "Réka: tudsz venni tejet? Köszönöm.\nBence: persze, szép őszi idő van"),
        ("cp1251", "Вера: купи молоко, пожалуйста.\nГлеб: хорошо"),
        ("cp1253", "Νίκη: μπορείς να πάρεις γάλα;\nΆρης: ναι"),
        ("cp1254", "Ece: süt alır mısın? Teşekkürler.\nCan: tabii, akşam gelirim"),
        ("shift_jis", "ゆい: 牛乳とパンを買ってきてくれる?\nそら: わかった"),
        ("gbk", "小林: 你回家路上能买点牛奶吗?\n小王: 好的"),
        ("mac_roman", "Imke: können wir das Rad für Jürgen abholen? schön\nJannis: ja"),
    ],
)
def test_other_code_pages_are_refused_not_damaged(tmp_path: Path, encoding: str, text: str) -> None:
    content = "dialogue,summary\n" + "".join(f'"{text} {n}",They talk.\n' for n in range(3))
    with pytest.raises(DataError, match=r"not UTF-8") as caught:
        kept(write(tmp_path / "t.csv", content.encode(encoding)))
    assert "save the file as UTF-8" in caught.value.hint


def test_a_broken_byte_in_utf8_is_a_broken_row(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.jsonl", (lines(ROWS) + json.dumps({"dialogue": "é"}, ensure_ascii=False) + "\n").encode()
    )
    path.write_bytes(path.read_bytes().replace(b"number 1", b"numb\xe9r 1"))
    with pytest.raises(DataError, match=r"t.jsonl:2: not UTF-8"):
        kept(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04 and so on", "a zip file or an Excel workbook"),
        (gzip.compress(b"x", mtime=0), "compressed with gzip"),
        (b"PAR1....PAR1", "a Parquet file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(20), "an old Excel workbook"),
        (b"\xfd7zXZ\x00\x00\x04", "compressed with xz"),
        (b"BZh91AY&SY", "compressed with bzip2"),
        (b"7z\xbc\xaf'\x1c", "a 7-Zip archive"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\n<!DOCTYPE html>\n<html>404</html>", "a web page"),
        (b"chats/a.jsonl" + bytes(200) + b"ustar", "no text file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    ],
)
def test_a_file_with_a_wrong_suffix_is_named_for_what_it_is(tmp_path: Path, content: bytes, what: str) -> None:
    for name in ("t.csv", "t.jsonl"):
        with pytest.raises(DataError, match=f"{name} is {what}"):
            kept(write(tmp_path / name, content))
    for name in () if "text" in what or "Parquet" in what else ("t.parquet", "t.arrow"):
        with pytest.raises(DataError, match=f"{name} is {what}"):
            kept(write(tmp_path / name, content))


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("t.csv", json.dumps(ROWS), "JSON"),
        ("t.tsv", lines(ROWS), "JSON"),
        ("t.csv.gz", gzip.compress(pretty(ROWS).encode(), mtime=0), "JSON"),
        ("t.json", "dialogue;summary\nAna: hi;She greets.\n", "CSV"),
        ("t.jsonl", "\ufeffid\tsummary\tdialogue\r\n", "CSV"),
    ],
)
def test_text_of_another_type_is_named_for_what_it_is(
    tmp_path: Path, name: str, content: str | bytes, what: str
) -> None:
    with pytest.raises(DataError, match=f"{name} is {what}") as caught:
        kept(write(tmp_path / name, content))
    assert "call it" in caught.value.hint


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow"])
def test_text_that_is_called_a_table_is_named_for_what_it_is(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=f"{name} is text"):
        kept(write(tmp_path / name, lines(ROWS)))


@pytest.mark.parametrize(
    ("content", "what"), [(lines(ROWS).encode(), "not compressed"), (b"PK\x03\x04x", "a zip file")]
)
@pytest.mark.parametrize("name", ["t.jsonl.gz", "t.csv.zst"])
def test_what_is_called_compressed_and_is_not_is_told(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    with pytest.raises(DataError, match=f"{name} is {what}") as caught:
        kept(write(tmp_path / name, content))
    assert "without" in caught.value.hint


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("not json\nat all\n", "write one JSON object per line"),
        ('["a"]\n["b"]\n', "write each row as an object"),
        ('["a"]\n', "write each row as an object"),
    ],
)
def test_a_fault_of_the_whole_file_has_a_hint_about_the_file(tmp_path: Path, content: str, hint: str) -> None:
    with pytest.raises(DataError, match=r"not (?:a )?JSON") as caught:
        kept(write(tmp_path / "t.jsonl", content))
    assert caught.value.hint.startswith(hint)


def test_one_file_of_several_without_the_column_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", lines(ROWS))
    write(tmp_path / "b.jsonl", lines([{"text": "Ana: hi", "tldr": "Ana greets."}] * 3))
    with pytest.raises(DataError, match=r"b.jsonl has no column 'dialogue'; it has 'text', 'tldr'"):
        kept(tmp_path)


def save(folder: Path, rows: list[dict[str, str]]) -> Path:
    import datasets

    datasets.Dataset.from_list(rows).save_to_disk(folder)
    return folder


def test_what_save_to_disk_wrote_is_read(tmp_path: Path) -> None:
    import datasets

    assert kept(save(tmp_path / "one", ROWS)) == ROWS
    splits = {"train": ROWS[:3], "validation": ROWS[3:]}
    datasets.DatasetDict({name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}).save_to_disk(
        tmp_path / "dict"
    )
    assert kept(tmp_path / "dict") == ROWS[:3]
    assert kept(tmp_path / "dict", "test") == ROWS[3:]
    assert len(kept(tmp_path / "dict", test=None, test_fraction=0.3)) == 2
    next((tmp_path / "one").glob("data-*.arrow")).unlink()
    with pytest.raises(DataError, match=r"the saved dataset .* lacks data-00000"):
        kept(tmp_path / "one")
    state = json.loads((tmp_path / "dict" / "train" / "state.json").read_text())
    state["_indices_data_files"] = [{"filename": "indices.arrow"}]
    write(tmp_path / "dict" / "train" / "state.json", json.dumps(state))
    with pytest.raises(DataError, match=r"the saved dataset .* is a choice of the rows of its files"):
        kept(tmp_path / "dict")


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (("train_small", "train", "test"), ("train",)),
        (("test_small", "train", "test"), ("train",)),
        (("train_1", "train_2", "test"), ("train_1", "train_2")),
        (("train", "validation"), ("train",)),
        (("train_part1", "train_part2", "test"), ("train_part1", "train_part2")),
        (("Train", "train_small", "test"), ("Train",)),
        (("QATrain", "QATest"), ("QATrain",)),
        (("train", "held_out"), ("train",)),
        (("train", "extra", "test"), ("train",)),
    ],
)
def test_every_split_of_a_kind_in_a_saved_dict_is_read(
    tmp_path: Path, names: tuple[str, ...], taken: tuple[str, ...]
) -> None:
    held = dict(zip(names, ROWS, strict=False))
    for name, row in held.items():
        save(tmp_path / name, [row])
    write(tmp_path / "dataset_dict.json", json.dumps({"splits": names}))
    said: list[str] = []
    assert kept(tmp_path, said=said) == [held[name] for name in taken]
    assert kept(tmp_path, "test") == [held[names[-1]]]
    left = ", ".join(sorted({*names} - {*taken}))
    too = "; name extra in data.train to read it too" if "extra" in names else ""
    assert said[0] == f"{tmp_path.name}: took {', '.join(taken)} for data.train, and left {left}{too}"


@pytest.mark.parametrize(
    "names", ["train_full train_small", "train_sft train_gen test_sft", "train_fold1 train_fold2", "train_10k train_1k"]
)
def test_splits_of_a_saved_dict_that_may_overlap_are_refused(tmp_path: Path, names: str) -> None:
    for name in names.split():
        save(tmp_path / name, ROWS)
    write(tmp_path / "dataset_dict.json", json.dumps({"splits": names.split()}))
    with pytest.raises(DataError, match=r"has several train splits: train_\w+, train_\w+") as caught:
        kept(tmp_path)
    assert caught.value.hint == "name the folder of one of them"
    assert kept(tmp_path / names.split()[0], test=str(tmp_path / names.split()[0])) == ROWS


def test_a_clone_from_the_hub_is_read_split_by_split(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = tmp_path / "clone" / "data"
    data.mkdir(parents=True)
    write(tmp_path / "clone" / "README.md", "---\nlicense: mit\n---\n")
    write(tmp_path / "clone" / "dataset_infos.json", "{}")
    for name, rows in {"train-00000-of-00001": ROWS[:3], "test-00000-of-00001": ROWS[3:]}.items():
        pq.write_table(pa.Table.from_pylist(rows), data / f"{name}.parquet")
    said: list[str] = []
    assert kept(tmp_path / "clone", said=said) == ROWS[:3]
    assert kept(tmp_path / "clone", "test") == ROWS[3:]
    assert "data: took train-00000-of-00001.parquet for data.train, and left test-00000-of-00001.parquet" in said


def test_a_folder_of_each_split_gives_each_split_its_own(tmp_path: Path) -> None:
    for name, rows in (("train", ROWS[:3]), ("validation", ROWS[3:]), (".cache", ROWS)):
        (tmp_path / "data" / name).mkdir(parents=True)
        write(tmp_path / "data" / name / "0000.jsonl", lines(rows))
    for folder in (tmp_path / "data", tmp_path):
        said: list[str] = []
        assert (kept(folder, said=said), kept(folder, "test")) == (ROWS[:3], ROWS[3:])
        assert said[0] == "data: took train for data.train, and left validation"
    (tmp_path / "data" / "old").mkdir()
    write(tmp_path / "data" / "old" / "notes.md", "Of June.")
    assert (kept(tmp_path, said=said), kept(tmp_path, "test")) == (ROWS[:3], ROWS[3:])
    assert "data: took train for data.train, and left old, validation" in said
    write(tmp_path / "data" / "old" / "chats.jsonl", lines(ROWS))
    assert (kept(tmp_path, said=said), kept(tmp_path, "test")) == (ROWS[:3], ROWS[3:])
    assert "data: took train for data.train, and left old, validation; name old in data.train to read it too" in said
    shutil.rmtree(tmp_path / "data" / "validation")
    with pytest.raises(DataError, match="holds no file of a known type") as caught:
        kept(tmp_path / "data", "test")
    assert caught.value.hint == f"name one of its folders, such as {tmp_path / 'data' / 'old'}"


@pytest.mark.parametrize(
    ("names", "only"),
    [
        (("default/train.jsonl", "default/test.jsonl"), "default"),
        (("default/train/0.jsonl", "default/test/0.jsonl", "docs/a.md"), "default"),
        (("train/en/0.jsonl", "test/en/0.jsonl"), "en"),
        (("en/train.jsonl", "de/test.jsonl"), None),
        (("old/train.jsonl", "validation/0.jsonl"), None),
    ],
)
def test_the_only_folder_with_data_is_read(tmp_path: Path, names: tuple[str, ...], only: str | None) -> None:
    for name, rows in zip(names, (ROWS[:3], ROWS[3:], ROWS), strict=False):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, lines(rows))
    said: list[str] = []
    if only is None:
        with pytest.raises(DataError, match="holds no file of a known type"):
            kept(tmp_path)
    else:
        assert (kept(tmp_path, said=said), kept(tmp_path, "test")) == (ROWS[:3], ROWS[3:])
        assert any(text.endswith(f": took its only folder with data, {only}") for text in said)


BY_SPLIT = "  data_files:\n  - split: train\n    path: {0}\n  - split: test\n    path: [{1}]\n"


@pytest.mark.parametrize(
    "card",
    [
        "configs:\n- config_name: default\n" + BY_SPLIT.format("a*", "b.jsonl"),
        "configs:\n- config_name: old\n  data_files: old.jsonl\n- default: true\n" + BY_SPLIT.format("a*", "b.jsonl"),
        "configs:\n- data_files: {train: a.jsonl, validation: 'b*'}\n",
    ],
)
def test_the_card_of_a_clone_tells_the_files_of_splits(tmp_path: Path, card: str) -> None:
    write(tmp_path / "README.md", f"---\nlicense: mit\n{card}---\n# Chats\n")
    write(tmp_path / "a.jsonl", lines(ROWS[:3]))
    write(tmp_path / "b.jsonl", lines(ROWS[3:]))
    said: list[str] = []
    assert (kept(tmp_path, said=said), kept(tmp_path, "test")) == (ROWS[:3], ROWS[3:])
    assert f"{tmp_path.name}: took a.jsonl for data.train, as its README.md says" in said


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("configs:\n- data_files:\n  - split: train\n    path: ../a.jsonl\n", "names a file outside of it: ../a.jsonl"),
        (
            "configs:\n- data_files: {train: '*.jsonl', test: none.jsonl}\n",
            "names a file that is not there: none.jsonl",
        ),
        ("configs:\n- data_files: {train: [a.jsonl, './', '**.jsonl']}\n", r"names a file that is not there: ./"),
        (
            "configs:\n- data_files: {train: , test: '*.jsonl'}\n",
            "names no one split for data.train; it has train, test",
        ),
        ("configs:\n- data_files: {train: [a.jsonl, a.txt]}\n", "names a.txt for data.train, whose type is not known"),
        ("configs:\n- data_files: {train: '**/*.jsonl'}\n", "gives test.jsonl to data.train, by the pattern"),
        ("configs:\n- data_files: {train: a.jsonl, test: '*.jsonl'}\n", "gives a.jsonl to data.train and to data.test"),
        ("configs:\n- data_files: {validation: a.jsonl}\n", "names no one split for data.train; it has validation"),
        (
            "configs:\n- data_files: {train_en: a.jsonl, train_de: b.jsonl}\n",
            "names no one split for data.train; it has",
        ),
    ],
)
def test_a_card_that_tells_no_files_of_the_folder_is_refused(tmp_path: Path, card: str, message: str) -> None:
    write(tmp_path / "README.md", f"---\n{card}---\n")
    for name in ("a.jsonl", "a.txt", "below/test.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, lines(ROWS))
    with pytest.raises(DataError, match=message):
        kept(tmp_path, test=str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize(
    ("card", "told"),
    [
        ("{train: 'hf://datasets/o/n/a', test: b.jsonl}", "names addresses, which are not read"),
        ("{full: a.jsonl}", "tells the splits full, and which of them is to be read is not known"),
        ("{train: none.jsonl, test: 'd/**.jsonl'}", "names none of the files in it"),
        ("{train: b.jsonl, test: a.jsonl}\n  data_dir: v2", "has a data_dir, which is not read"),
    ],
)
def test_the_names_tell_where_a_card_is_not_followed(tmp_path: Path, card: str, told: str) -> None:
    write(tmp_path / "README.md", f"---\ndate: 2024-02-30\nconfigs:\n- data_files: {card}\n---\n")
    write(tmp_path / "a.jsonl", lines(ROWS))
    said: list[str] = []
    assert kept(tmp_path, said=said) == ROWS
    assert f"{tmp_path.name}: its README.md {told}: the names of its files tell their splits" in said


def test_a_card_gives_all_files_below_but_hidden_ones(tmp_path: Path) -> None:
    write(tmp_path / "README.md", "---\nconfigs:\n- data_files: {train: 'd/**', test: b.jsonl}\n---\n")
    for name, rows in {"d/e/a.jsonl": ROWS[:3], "b.jsonl": ROWS[3:], "d/.old/a.jsonl": ROWS, "own.jsonl": ROWS}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, lines(rows))
    said: list[str] = []
    assert (kept(tmp_path, said=said), kept(tmp_path, "test")) == (ROWS[:3], ROWS[3:])
    left = "took d/e/a.jsonl for data.train, as its README.md says, and left own.jsonl, which it names for neither side"
    assert f"{tmp_path.name}: {left}" in said


@pytest.mark.parametrize(
    "configs", ["- data_files: *", "- data_files: '*.jsonl'", "- data_dir: en", "- a\n- [b", "none"]
)
def test_the_names_of_files_tell_where_a_card_does_not(tmp_path: Path, configs: str) -> None:
    write(tmp_path / "README.md", f"---\nconfigs:\n{configs}\n---\n")
    for name, rows in (("train", ROWS[:3]), ("test", ROWS[3:])):
        write(tmp_path / f"{name}.jsonl", lines(rows))
    assert (kept(tmp_path), kept(tmp_path, "test")) == (ROWS[:3], ROWS[3:])


def test_a_card_with_several_configurations_is_told_of(tmp_path: Path) -> None:
    of_one = "- config_name: {0}\n  data_files: {{train: {0}.jsonl}}\n"
    write(tmp_path / "README.md", f"---\nconfigs:\n{of_one.format('en')}{of_one.format('de')}---\n")
    for names, tells in ((("en", "de"), True), (("train", "test"), False)):
        for name in names:
            write(tmp_path / f"{name}.jsonl", lines(ROWS))
        said: list[str] = []
        kept(tmp_path, said=said)
        assert any("README.md there says which files belong to which split" in text for text in said) == tells
        for name in names:
            (tmp_path / f"{name}.jsonl").unlink()


@pytest.mark.parametrize(
    ("top", "below", "left"),
    [
        ("sample", "data", "data"),
        ("train", "test", "test"),
        ("chats", "test", "test"),
        ("chats", "old", ""),
        ("dev_train", "dev_test", "dev_test"),
        ("chats", "train", None),
        ("test", "train", None),
    ],
)
def test_files_beside_folders_of_splits_are_told_of(tmp_path: Path, top: str, below: str, left: str | None) -> None:
    (tmp_path / below).mkdir()
    write(tmp_path / f"{top}.jsonl", lines(ROWS[:1]))
    write(tmp_path / below / "0.jsonl", lines(ROWS[1:]))
    said: list[str] = []
    if left is None:
        with pytest.raises(DataError, match=f"a folder {below} for data.train, and {top}.jsonl beside it"):
            kept(tmp_path)
    else:
        assert kept(tmp_path, said=said, test=str(tmp_path / below / "0.jsonl")) == ROWS[:1]
        assert ("".join(said).count(f"left the folder {left}") == 1) == bool(left)
        assert not any(text.endswith(" too") and "took all" in text for text in said)


@pytest.mark.parametrize(
    "names",
    [
        *(("train1", "test1"), ("trainset", "testset"), ("x_train2", "x_holdout"), ("train", "heldout")),
        *(("traindata", "testdata"), ("trainData", "testData"), ("TRAIN", "validate")),
    ],
)
def test_the_names_of_files_tell_their_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    for name, rows in zip(names, (ROWS[:3], ROWS[3:]), strict=True):
        write(tmp_path / f"{name}.jsonl", lines(rows))
    assert (kept(tmp_path), kept(tmp_path, "test")) == (ROWS[:3], ROWS[3:])


@pytest.mark.parametrize(
    "name",
    ["contests", "latest", "hiddentest", "Latest", "TESTIMONY", "trainer", "testdatabase", "testCases", "webDev"],
)
def test_words_that_hold_the_name_of_a_split_are_none(name: str) -> None:
    assert split_of(f"{name}.jsonl") is None


@pytest.mark.parametrize(
    ("names", "warns"),
    [
        (("a.jsonl", "b.jsonl"), True),
        (("train.jsonl", "test.jsonl"), False),
        (("a.jsonl",), False),
        (("a.json", "b.json"), False),
    ],
)
def test_both_splits_from_the_same_files_are_told_of(tmp_path: Path, names: tuple[str, ...], warns: bool) -> None:
    for name in names:
        write(tmp_path / name, json.dumps(SPLITS) if name.endswith(".json") else lines(ROWS))
    said: list[str] = []
    kept(tmp_path, said=said)
    assert ("data.test: has the same 2 files as data.train: name others, or set data.test_fraction" in said) == warns
    alone: list[str] = []
    if names[1:]:
        kept(tmp_path / "*.json*", said=alone, test=str(tmp_path / names[-1]))
        some = f"data.test: has {names[-1]} of data.train: name others, or set data.test_fraction"
        assert (some in alone) == names[-1].endswith(".jsonl")
        alone.clear()
    kept(tmp_path, said=alone, test=None, test_fraction=0.5)
    assert not any(text.startswith("data.test: ") for text in alone)


@pytest.mark.parametrize(
    ("names", "train", "test"),
    [
        ("train test hiddentest", "train", "test"),
        ("train-1 train-2 notes", "train-1 train-2", None),
        ("train", "train", None),
        ("train sales unseen", "train", None),
        ("QATrain QATest WATrain WATest", "QATrain WATrain", "QATest WATest"),
        ("QATrain QATest extra", "QATrain", "QATest"),
        ("trainfile testfile", "trainfile", "testfile"),
        ("traindatasetA DEVDATASETA", "traindatasetA", "DEVDATASETA"),
        ("Xtraining Xtesting", "Xtraining", "Xtesting"),
        ("train_test_split_train train_test_split_test", "train_test_split_train", "train_test_split_test"),
        ("train train_test", "train", None),
        ("a_train a_train-valid a_test", "a_train", "a_test"),
        ("train_valid testing", "train_valid", "testing"),
        ("QATrain WATest", "QATrain WATest", "QATrain WATest"),
        ("QATrain other", "QATrain other", "QATrain other"),
        ("trainer-chats tester-chats", "trainer-chats tester-chats", "trainer-chats tester-chats"),
        ("trainers testers trains devs", "trainers testers trains devs", "trainers testers trains devs"),
        ("train held_out", "train", "held_out"),
        ("train-a hold-out-a", "train-a", "hold-out-a"),
        ("train tests", "train", "tests"),
        ("chats tests", "chats tests", "chats tests"),
        ("train unit_tests", "train", None),
        ("chats test", "chats", "test"),
        ("chats tickets test-2024-05-01", "chats tickets", "test-2024-05-01"),
        ("chats validation-00000-of-00001-0a1b2c", "chats", "validation-00000-of-00001-0a1b2c"),
        ("sales dev-chats", "sales dev-chats", "sales dev-chats"),
        ("webDev testCases salesTraining", "webDev testCases salesTraining", "webDev testCases salesTraining"),
        ("sales dev-chats eval", "sales", "eval"),
        ("test validation", None, "test"),
        ("test", "test", "test"),
        ("test-1 test-2", "test-1 test-2", "test-1 test-2"),
        ("trainval test", "trainval", "test"),
    ],
)
def test_which_files_are_for_training_and_which_for_testing(
    tmp_path: Path, names: str, train: str | None, test: str | None
) -> None:
    of = {name: [{"dialogue": f"Ana: {name}\nBen: hi", "summary": f"Of {name}."}] for name in sorted(names.split())}
    for name, rows in of.items():
        write(tmp_path / f"{name}.jsonl", lines(rows))
    elsewhere = str(write(tmp_path.parent / f"{tmp_path.name}.jsonl", lines(ROWS)))
    for split, taken in (("train", train), ("test", test)):
        other: Any = {"train" if split == "test" else "test": elsewhere}
        said: list[str] = []
        if taken is None:
            with pytest.raises(DataError, match=f"has no files for data.{split}; it has ") as caught:
                kept(tmp_path, split, **other)
            assert f"name those to read in data.{split}" in caught.value.hint
        else:
            assert kept(tmp_path, split, said, **other) == [row for name in sorted(taken.split()) for row in of[name]]
            left = [f"{name}.jsonl" for name in sorted({*of} - {*taken.split()})]
            assert all(any(name in text for text in said) for name in left[:3])


def test_the_folds_of_a_cross_validation_are_not_joined(tmp_path: Path) -> None:
    for name in ("train_fold0", "train_Fold1", "val_fold0"):
        write(tmp_path / f"{name}.jsonl", lines(ROWS))
    with pytest.raises(
        DataError, match=r"has several folds for data\.train: train_Fold1\.jsonl, train_fold0"
    ) as caught:
        kept(tmp_path)
    assert caught.value.hint == "name the files of one fold in data.train and data.test"
    (tmp_path / "train_Fold1.jsonl").unlink()
    assert kept(tmp_path) == kept(tmp_path, "test") == ROWS


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            "train test x y",
            "and left test.jsonl, x.jsonl, y.jsonl; name x.jsonl, y.jsonl in data.train to read them too",
        ),
        ("chats test", "took chats.jsonl for data.train, and left test.jsonl"),
        ("sales dev-chats", "took all files for data.train, dev-chats.jsonl too: sales.jsonl has no split in its name"),
        ("test-1 test-2", "took all files for data.train, test-1.jsonl, test-2.jsonl too"),
    ],
)
def test_what_names_decided_about_files_is_told(tmp_path: Path, names: str, said: str) -> None:
    for name in names.split():
        write(tmp_path / f"{name}.jsonl", lines(ROWS))
    told: list[str] = []
    kept(tmp_path, said=told)
    assert any(text.endswith(said) for text in told)


@pytest.mark.parametrize(
    ("stray", "others", "left"),
    [
        ("dataset-metadata.json", ("train.jsonl", "test.jsonl"), ""),
        ("croissant.json", ("chats.jsonl",), ""),
        ("labels.json", ("train.jsonl", "test.jsonl"), "labels.json"),
        ("metadata.json", ("chats.jsonl",), "metadata.json"),
        ("metadata.json", ("data/train.jsonl",), "metadata.json"),
        ("prices.json", ("chats.jsonl",), None),
        ("metadata.json", (), None),
        ("metadata.json", ("old/chats.jsonl",), None),
    ],
)
def test_json_that_describes_the_data_is_left_and_told_of(
    tmp_path: Path, stray: str, others: tuple[str, ...], left: str | None
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "old").mkdir()
    write(tmp_path / stray, json.dumps({"title": "Chats"}))
    for name in others:
        write(tmp_path / name, lines(ROWS))
    said: list[str] = []
    if left is None:
        with pytest.raises(DataError, match=f"{stray} has no column 'dialogue'"):
            kept(tmp_path)
    else:
        assert kept(tmp_path, said=said, test=str(tmp_path / stray)) == ROWS
        assert (f"left {left}, which may describe the data" in "".join(said)) == bool(left)
    write(tmp_path / stray, lines(ROWS))
    assert kept(tmp_path / stray) == ROWS, "named by the user, it is read"


def test_hidden_files_of_other_programs_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "chats.jsonl", lines(ROWS))
    for name in ("._chats.jsonl", ".~lock.chats.csv", "~$chats.csv", ".DS_Store", "Thumbs.db", "desktop.ini"):
        write(tmp_path / name, b"\x00\x05\x16\x07\x00 no chat \xff")
    (tmp_path / "__MACOSX").mkdir()
    write(tmp_path / "__MACOSX" / "._chats.jsonl", b"\x00\x05\x16\x07")
    assert kept(tmp_path) == ROWS
    assert kept(tmp_path / "*.jsonl") == ROWS
    assert kept(tmp_path / "**" / "*.jsonl") == ROWS


def test_a_link_that_leads_out_of_the_folder_is_skipped(tmp_path: Path) -> None:
    outside, folder = write(tmp_path / "private.jsonl", lines(ROWS)), tmp_path / "chats"
    folder.mkdir()
    write(folder / "a.jsonl", lines(ROWS[:2]))
    (folder / "b.jsonl").symlink_to("a.jsonl")
    (folder / "private.jsonl").symlink_to(outside)
    said: list[str] = []
    assert len(kept(folder, said=said)) == 4
    assert len(kept(folder / "*.jsonl")) == 4
    assert said[0].startswith("private.jsonl: ignored: it is a link that leads out of")
    assert len(kept(folder / "private.jsonl")) == 4, "named by the user, it is read"
    (folder / "a.jsonl").unlink()
    (folder / "b.jsonl").unlink()
    with pytest.raises(DataError, match="are links that lead out of it"):
        kept(folder)


def test_links_of_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    cache = tmp_path / "datasets--owner--chats"
    (cache / "blobs").mkdir(parents=True)
    snapshot = cache / "snapshots" / "0a1b"
    snapshot.mkdir(parents=True)
    write(cache / "blobs" / "77", lines(ROWS))
    (snapshot / "chats.jsonl").symlink_to("../../blobs/77")
    assert kept(snapshot) == ROWS


def test_a_folder_without_rows_says_what_it_holds(tmp_path: Path) -> None:
    write(tmp_path / "chats.xlsx", b"PK")
    (tmp_path / "raw").mkdir()
    with pytest.raises(DataError, match=r"holds no file of a known type; it holds chats.xlsx, raw/") as caught:
        kept(tmp_path)
    assert "name one of its folders" in caught.value.hint
    write(tmp_path / "README.md", "---\nconfigs:\n- data_files:\n  - split: train\n    path: part/*.jsonl\n---\n")
    with pytest.raises(DataError) as caught:
        kept(tmp_path)
    assert "README.md there says which files belong to which split" in caught.value.hint
    with pytest.raises(DataError) as caught:
        kept(tmp_path / "chats.xlsx")
    assert "CSV UTF-8" in caught.value.hint


def parts(path: Path, fraction: float) -> tuple[list[str], list[str]]:
    settings: dict[str, Any] = {"test": None, "test_fraction": fraction}
    train, test = (kept(path, split, **settings) for split in ("train", "test"))
    return [row["summary"] for row in train], [row["summary"] for row in test]


@pytest.mark.parametrize("count", [2, 3, 5, 8, 15, 40])
@pytest.mark.parametrize("fraction", [0.001, 0.1, 0.5, 0.97])
def test_a_fraction_of_few_dialogues_leaves_one_on_each_side(tmp_path: Path, count: int, fraction: float) -> None:
    rows = [{"dialogue": f"Ana: number {n}", "summary": f"S{n}"} for n in range(count)]
    train, test = parts(write(tmp_path / "t.jsonl", lines(rows)), fraction)
    assert train
    assert test
    assert sorted(train + test) == sorted(row["summary"] for row in rows)
    backwards = parts(write(tmp_path / "b.jsonl", lines(rows[::-1])), fraction)
    assert backwards == (train[::-1], test[::-1]), "the same dialogues in any order"


@pytest.mark.parametrize("number", range(0, 60, 3))
def test_unusable_rows_are_no_side_of_a_fraction(tmp_path: Path, number: int) -> None:
    bad = [{"dialogue": f"Ana: {number + n}", "summary": ""} for n in range(3)]
    write(tmp_path / "t.jsonl", lines([ROWS[0], *bad, ROWS[1]]))
    settings: dict[str, Any] = {"test": None, "test_fraction": 0.2, "max_bad_rows": 3}
    sides = [kept(tmp_path / "t.jsonl", split, **settings) for split in ("test", "train")]
    assert sorted(map(len, sides)) == [1, 1]


def test_equal_dialogues_stay_together_in_a_fraction_of_few(tmp_path: Path) -> None:
    rows = [{"dialogue": f"Ana: number {n % 3}", "summary": f"S{n}"} for n in range(12)]
    train, test = parts(write(tmp_path / "t.jsonl", lines(rows)), 0.01)
    assert (len(train), len(test)) == (8, 4)
    with pytest.raises(DataError, match=r"has only one usable dialogue"):
        parts(write(tmp_path / "o.jsonl", lines(rows[:1])), 0.99)


def test_a_misnamed_column_with_a_fraction_is_reported_as_such(tmp_path: Path) -> None:
    rows = [{"conversation": row["dialogue"] + "x", "tldr": row["summary"]} for row in ROWS]
    path = write(tmp_path / "train.jsonl", lines(rows))
    with pytest.raises(DataError) as caught:
        kept(path, "test", test=None, test_fraction=0.1)
    assert caught.value.message == "train.jsonl has no column 'dialogue'; it has 'conversation', 'tldr'"
    assert caught.value.hint.startswith("set data.columns.dialogue and data.columns.summary to the columns")
    with pytest.raises(DataError, match=r"t.jsonl:1: not JSON .* more unusable rows"):
        kept(write(tmp_path / "t.jsonl", "a\nb\nc\n"), "test", test=None, test_fraction=0.1)


def test_many_unchanged_files_are_looked_up_with_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("LORASUM_HOME", str(tmp_path / "home"))
    folder = tmp_path / "chats"
    folder.mkdir()
    for number in range(1200):
        path = write(folder / f"{number:04}.jsonl", lines(ROWS[:1]))
        os.utime(path, (1_000_000_000, 1_000_000_000))
    written: list[int] = []

    def write_cache(name: str, known: dict[str, Any]) -> None:
        written.append(len(known))
        cache.write_cache(name, known)

    monkeypatch.setattr("lorasum.data.files.digests.write_cache", write_cache)
    data = DataConfig(train=str(folder), test=str(folder / "0001.jsonl"))
    first = open_sources(data)["train"].identity()
    assert written == [1200]
    assert open_sources(data)["train"].identity() == first
    assert written == [1200], "nothing has changed: nothing is written"


def test_columns_of_one_name_in_parquet_are_an_error(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table([["A"], ["S"], ["T"]], ["dialogue", "summary", "summary"]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"t.parquet has 2 columns 'summary'"):
        kept(tmp_path / "t.parquet")


def test_texts_of_parquet_may_be_bytes(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = {name: [text.encode() for text in texts] for name, texts in TABLE.items()}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    assert kept(tmp_path / "t.parquet") == ROWS
    pq.write_table(pa.table({**table, "summary": [b"\xff"] * len(ROWS)}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="summary is not valid Unicode"):
        kept(tmp_path / "t.parquet")


def test_sequences_of_the_hubs_datasets_are_messages(tmp_path: Path) -> None:
    import datasets

    rows = [{"dialogue": {"speaker": ["Ana", "Ben"], "text": ["hi", "hey"]}, "summary": "They greet."}]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "t.parquet")
    assert kept(tmp_path / "t.parquet") == [{"dialogue": "Ana: hi\nBen: hey", "summary": "They greet."}]


@pytest.mark.parametrize("depth", [50, 300, 600, 900, 980, 5000])
@pytest.mark.parametrize("shape", ['{{"dialogue": {0}, "summary": "S"}}', '{{"dialogue": "A: hi", "x": {0}}}', "{0}"])
def test_nesting_of_any_depth_is_a_row_with_its_number(tmp_path: Path, shape: str, depth: int) -> None:
    nested = '{"a": [' * depth + "1" + "]}" * depth
    path = write(tmp_path / "t.jsonl", lines(ROWS) + shape.format(nested) + "\n")
    settings = {"train": str(path), "test_fraction": 0.4, "max_bad_rows": 5}
    data = DataConfig.model_validate(settings)
    places = []
    with RejectFile(tmp_path / "rejected.jsonl") as rejected:
        for split, source in open_sources(data).items():
            tally = Tally(split, rejected)
            places += [where for where, _ in examples(source.rows(lambda share: None), "t", data, tally)]
    assert sorted(places) == [f"t.jsonl:{number}" for number in range(1, 5)]
    [left_out] = (tmp_path / "rejected.jsonl").read_text("utf-8").splitlines()
    assert '"where": "t.jsonl:5"' in left_out[:60]


def test_a_hub_dataset_whose_files_differ_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    from lorasum.data import hub_source

    def fail(*arguments: object) -> None:
        raise ValueError(
            "An error occurred while generating the dataset\n\nAll the data files must have the same columns, but at "
            "some point there are 1 new columns ({'tldr'})"
        )

    monkeypatch.setattr(hub_source, "_prepared", fail)
    source = hub_source.HubSource("owner/chats", None, "train", "0" * 40, DataConfig(dataset="owner/chats").columns)
    with pytest.raises(DataError, match=r"its files differ in their columns .*tldr") as caught:
        list(source.rows(lambda share: None))
    assert "data.subset" in caught.value.hint


@pytest.mark.parametrize("form", ["list", "object of lists", "column"])
def test_the_numbers_of_labels_are_read_as_their_names(tmp_path: Path, form: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    speaker, text = {"names": ["USER", "SYSTEM"], "_type": "ClassLabel"}, {"dtype": "string", "_type": "Value"}
    turns = {"speaker": [0, 1, -1], "utterance": ["taxi?", "where to?", "so"]}
    features: dict[str, Any] = {"dialogue": {"feature": {"speaker": speaker, "utterance": text}, "_type": "Sequence"}}
    row: dict[str, Any] = {"dialogue": turns, "summary": "A taxi."}
    if form == "list":
        features = {"dialogue": [{"speaker": speaker, "utterance": text}]}
        row["dialogue"] = [dict(zip(turns, turn, strict=True)) for turn in zip(*turns.values(), strict=True)]
    elif form == "column":
        features = {"dialogue": {"feature": text, "_type": "List"}, "speaker": {"feature": speaker, "_type": "List"}}
        row |= {"dialogue": turns["utterance"], "speaker": turns["speaker"]}
    table = pa.Table.from_pylist([row])
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "t.parquet")
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    expected = [{"dialogue": "USER: taxi?\nSYSTEM: where to?\n-1: so", "summary": "A taxi."}]
    assert kept(tmp_path / "t.parquet") == kept(tmp_path / "t.arrow") == expected
    renamed = {"speakers": {"0": "Guest", "SYSTEM": "Desk"}}
    [row] = kept(tmp_path / "t.parquet", messages=renamed)
    assert row["dialogue"] == "Guest: taxi?\nDesk: where to?\n-1: so"


def test_the_labels_of_a_hub_dataset_are_read_as_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    from lorasum.data import hub_source

    class Builder:
        def as_dataset(self, split: str) -> Any:
            turn = {"speaker": datasets.ClassLabel(names=["USER", "SYSTEM"]), "utterance": datasets.Value("string")}
            features = datasets.Features({"dialogue": [turn], "summary": datasets.Value("string")})
            row = {"dialogue": [{"speaker": 1, "utterance": "where to?"}], "summary": "A taxi."}
            return datasets.Dataset.from_list([row], features=features)

    monkeypatch.setattr(hub_source, "_prepared", lambda *which: Builder())
    source = hub_source.HubSource("owner/chats", None, "train", "0" * 40, DataConfig(dataset="owner/chats").columns)
    [(_, row)] = source.rows(lambda share: None)
    assert row == {"dialogue": [{"speaker": "SYSTEM", "utterance": "where to?"}], "summary": "A taxi."}
