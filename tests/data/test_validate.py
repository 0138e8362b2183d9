"""Rows become examples or counted reasons; the error names the first bad row."""

from collections import Counter
from typing import Any

import pytest

from lorasum.config.data import Columns, DataConfig
from lorasum.data.records import Example
from lorasum.data.tally import Rejected, Row, Tally
from lorasum.data.validate import check, examples
from lorasum.errors import DataError

GOOD: Row = {"dialogue": "A: hi", "summary": "A says hi."}


def run(*rows: Row, columns: Columns | None = None, max_bad_rows: int = 0) -> tuple[list[Example], Counter[str]]:
    data = DataConfig(train="t", test="t", columns=columns or Columns(), max_bad_rows=max_bad_rows)
    tally = Tally()
    places = ((f"chats.jsonl:{number}", row) for number, row in enumerate(rows, 1))
    kept = list(examples(places, "chats.jsonl", data, tally))
    return [example for _, example in kept], tally.dropped


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"dialogue": "A: hi"}, "no summary"),
        ({"dialogue": "A: hi", "summary": None}, "no summary"),
        ({"dialogue": "A: hi", "summary": " \n"}, "empty summary"),
        ({"dialogue": "A: hi", "summary": 7}, "summary is not text (int)"),
        ({"summary": "S"}, "no dialogue"),
        ({"dialogue": "", "summary": "S"}, "empty dialogue"),
        ({"dialogue": [7], "summary": "S"}, "dialogue is not text (message 1 is not an object)"),
        ({"dialogue": [], "summary": "S"}, "dialogue is not text (list)"),
        ({"dialogue": "A: \ud83d", "summary": "S"}, "dialogue is not valid Unicode"),
        (Rejected("not JSON", "column 3"), "not JSON (column 3)"),
    ],
)
def test_unusable_row_has_a_reason(row: Row, reason: str) -> None:
    assert str(check(row, Columns())) == reason


def test_columns_are_mapped_and_texts_stripped() -> None:
    columns = Columns(dialogue="chat", summary="tldr")
    row = {"chat": "\nA: hi 😀 {x} ", "tldr": " A greets.\n", "id": 1}
    assert run(row, columns=columns)[0] == [Example("A: hi 😀 {x}", "A greets.")]


def test_lines_end_in_one_way_whoever_wrote_them() -> None:
    texts = {"dialogue": "A: hi\r\nB: ho\rA: so", "summary": "A greets.\r\nB too."}
    expected = Example("A: hi\nB: ho\nA: so", "A greets.\nB too.")
    as_messages = [{"text": "A: hi\r\nB: ho"}, {"text": "A: so"}]
    assert run(texts, {**texts, "dialogue": as_messages})[0] == [expected] * 2
    of_excel = {"dialogue": "A: hi_x000D_\nB: ho_x000D_\nA: so", "summary": "A greets._x000D_\nB too."}
    assert run(of_excel, {key: f"{text}_x000D_\n" for key, text in of_excel.items()})[0] == [expected] * 2


@pytest.mark.parametrize(
    ("dialogue", "expected"),
    [
        (r"Ana: hi\nBen: ho\nAna: so", "Ana: hi\nBen: ho\nAna: so"),
        (r"#Person1#: hi\r\n#Person2#: ho\n", "#Person1#: hi\n#Person2#: ho"),
        (r"Ana: hi\\nBen: ho\\n", "Ana: hi\nBen: ho"),
        (r"user: hi\n\nassistant: ho", "user: hi\nassistant: ho"),
        ("Ana: hi<br>Ben: ho &amp; <b>so</b><br/>Ana: ok", "Ana: hi\nBen: ho & so\nAna: ok"),
        ("<p>Ana: hi</p><p class='x'>Ben: it&#39;s ho</p>", "Ana: hi\nBen: it's ho"),
        ("Ana: <file_photo><br>Ben: a Vec<T>, x<y and y>z", "Ana: <file_photo>\nBen: a Vec<T>, x<y and y>z"),
        ("<div>Ana: hi</div>", None),
        ("Ana: a <br> ends a line, and <p> too", None),
        (r"Ana: it is in C:\new plans: the first", None),
        (r"Ana: is it in <D:\NVIDIA: see", None),
        (r'Ana: use print("x\nTotal: 3")', None),
        (r"Ana: what is $\nabla f: R \to R$?", None),
        (r"Ana: print('a\nb') prints two lines", None),
        ("Ana: print('x\\nBen: hi')\nBen: ok", None),
    ],
)
def test_breaks_in_letters_end_turns_where_that_is_certain(dialogue: str, expected: str | None) -> None:
    assert run({"dialogue": dialogue, "summary": "S"})[0] == [Example(expected or dialogue, "S")]


def test_a_summary_in_a_wrong_encoding_is_put_right_as_its_dialogue_is() -> None:
    row = {"dialogue": "Zo\u00c3\u00a9: \u00c3\u00a7a va", "summary": "Zo\u00c3\u00a9 va bien."}
    assert run(row)[0] == [Example("Zoé: ça va", "Zoé va bien.")]
    assert run({**row, "summary": [row["summary"]] * 2})[0] == [
        Example("Zoé: ça va", "Zoé va bien.", ("Zoé va bien.",))
    ]


def test_missing_column_error_lists_the_columns_there_are() -> None:
    with pytest.raises(DataError) as caught:
        run({"text": "A: hi", "summary": "S"}, {"text": "B: hi", "summary": "S", "id": 2})
    assert caught.value.message == "chats.jsonl has no column 'dialogue'; it has 'text', 'summary', 'id'"
    assert "data.columns.dialogue" in caught.value.hint


def test_too_many_bad_rows_error_names_the_first_and_counts_the_others() -> None:
    bad: Row = {"dialogue": "A: hi", "summary": ""}
    with pytest.raises(DataError) as caught:
        run(GOOD, bad, GOOD, Rejected("not JSON"))
    assert caught.value.message == "chats.jsonl:2: empty summary (and 1 more unusable row)"
    assert "max_bad_rows (now 0)" in caught.value.hint
    with pytest.raises(DataError, match="and 2 more unusable rows"):
        run(bad, bad, bad, GOOD, max_bad_rows=2)


def test_bad_rows_within_the_limit_are_left_out_and_counted_by_reason() -> None:
    kept, dropped = run(Rejected("not JSON", "here"), GOOD, {"dialogue": "x"}, Rejected("not JSON"), max_bad_rows=3)
    assert kept == [Example("A: hi", "A says hi.")]
    assert dropped == {"not JSON": 2, "no summary": 1}


@pytest.mark.parametrize(("rows", "message"), [([], "is empty"), ([{"dialogue": "x", "summary": ""}], "no usable row")])
def test_source_without_examples_is_an_error(rows: list[Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        run(*rows, max_bad_rows=9)
