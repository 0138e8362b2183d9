"""Rows of training data in the forms of fine-tuning tools."""

import json

import pytest

from lorasum.config.data import Columns, DataConfig, Messages
from lorasum.data.chats.messages import dialogue_of
from lorasum.data.records import Example
from lorasum.data.rows import Fields, fields_of
from lorasum.data.tally import Rejected, Tally
from lorasum.data.validate import check, examples
from lorasum.errors import DataError

USER = {"role": "user", "content": "Ana: hi\nBen: ho"}
SYSTEM = {"role": "system", "content": "Summarise for the night shift."}
ANSWER = {"role": "assistant", "content": "They greet."}
DIALOGUE = "Ana: hi\nBen: ho"
WITH_SYSTEM = f"Summarise for the night shift.\n\n{DIALOGUE}"


@pytest.mark.parametrize(
    ("row", "dialogue"),
    [
        ({"messages": [USER, ANSWER]}, DIALOGUE),
        ({"messages": [SYSTEM, USER, ANSWER]}, WITH_SYSTEM),
        ({"messages": json.dumps([SYSTEM, USER, ANSWER])}, WITH_SYSTEM),
        ({"messages": [{**USER, "name": "ana"}, {**ANSWER, "name": "bot"}]}, DIALOGUE),
        ({"messages": [{**turn, "name": "None"} for turn in (SYSTEM, USER, ANSWER)]}, WITH_SYSTEM),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "content": "In English?"},
                    {"role": "user", "content": "Yes"},
                    ANSWER,
                ]
            },
            "user: Ana: hi\nBen: ho\nassistant: In English?\nuser: Yes",
        ),
        ({"prompt": DIALOGUE, "completion": "They greet."}, DIALOGUE),
        ({"prompt": [SYSTEM, USER], "completion": [ANSWER]}, WITH_SYSTEM),
        ({"prompt": DIALOGUE, "response": " They greet. "}, DIALOGUE),
        ({"input": DIALOGUE, "output": "They greet."}, DIALOGUE),
        ({"instruction": "Summarise.", "input": DIALOGUE, "output": "They greet."}, f"Summarise.\n\n{DIALOGUE}"),
        ({"instruction": DIALOGUE, "input": "", "output": "They greet."}, DIALOGUE),
        (
            {"conversations": [{"from": "human", "value": DIALOGUE}, {"from": "gpt", "value": "They greet."}]},
            DIALOGUE,
        ),
        (
            {
                "system": "Summarise for the night shift.",
                "conversations": [{"from": "human", "value": DIALOGUE}, {"from": "gpt", "value": "They greet."}],
            },
            WITH_SYSTEM,
        ),
        ({"system": [{"text": "Summarise for the night shift."}], "messages": [USER, ANSWER]}, WITH_SYSTEM),
        ({"dialogue": DIALOGUE, "summary": [None, " ", "They greet."]}, DIALOGUE),
        (
            {
                "systemInstruction": {"parts": [{"text": "Summarise for the night shift."}]},
                "contents": [
                    {"role": "user", "parts": [{"text": DIALOGUE}]},
                    {"role": "model", "parts": [{"text": "They greet."}]},
                ],
            },
            WITH_SYSTEM,
        ),
        ({"messages": [{"role": "User", "content": DIALOGUE}, {**ANSWER, "role": "Chatbot"}]}, DIALOGUE),
        (
            {"instruction": "Summarise.", "input": DIALOGUE, "output": "They greet.", "history": [["Hi", "Hello"]]},
            f"user: Hi\nassistant: Hello\nuser: Summarise.\n\n{DIALOGUE}",
        ),
        ({"messages": [USER, {**ANSWER, "weight": 1}]}, DIALOGUE),
        ({"prompt": DIALOGUE, "completion": "They greet.", "label": True}, DIALOGUE),
        ({"dialogue": DIALOGUE, "summary": [USER, ANSWER]}, DIALOGUE),
        ({"messages": [USER, {"role": "assistant", "content": "<think>hm</think>\n\nThey greet."}]}, DIALOGUE),
        ({"prompt": DIALOGUE, "completion": "<|channel|>final<|message|>They greet.<|return|>"}, DIALOGUE),
        ({"prompt": DIALOGUE, "completion": "<think>\nhm\n</think>They greet."}, DIALOGUE),
    ],
)
def test_rows_of_fine_tuning_tools_are_examples(row: dict[str, object], dialogue: str) -> None:
    assert check(row, Columns()) == Example(dialogue, "They greet.")


@pytest.mark.parametrize(
    ("row", "mark"),
    [
        ({"messages": [USER, {**ANSWER, "weight": 0}]}, "weight: 0"),
        ({"messages": json.dumps([USER, {**ANSWER, "weight": 0}])}, "weight: 0"),
        ({"messages": [USER, {**ANSWER, "train": False}]}, "train: False"),
        ({"prompt": DIALOGUE, "completion": "They greet.", "label": False}, "label: false"),
        ({"dialogue": DIALOGUE, "summary": "They greet.", "answer": "reject", "_task_hash": 7}, "answer: reject"),
    ],
)
def test_rows_that_tools_mark_as_bad_are_unusable(row: dict[str, object], mark: str) -> None:
    assert check(row, Columns()) == Rejected("not to be learnt", mark)


TALK, NOTES = ["Ana: hi\nBen: ho", "Ana: so\nBen: bye"], ["They greet.", "They part."]
PAIRS = list(zip(TALK, NOTES, strict=True))
CHATS = [[{"role": "user", "content": talk}, {"role": "assistant", "content": note}] for talk, note in PAIRS]
TURNS = [{"speaker": "Ana", "text": "hi"}, {"speaker": "Ben", "text": "ho"}]


@pytest.mark.parametrize(
    "row",
    [
        {"dialogue": TALK, "summary": NOTES},
        {"dialogue": ["[12:01] Ana: hi\n[12:02] Ben: ho", "12:01 PM - Ana: so\n12:02 Ben: bye"], "summary": NOTES},
        {"dialogue": ["<Ana> hi\n<Ben> ho", "<Ana> so\n<Ben> bye"], "summary": NOTES},
        {"dialogue": [f"Of today:\n{talk}" for talk in TALK], "summary": NOTES},
        {"dialogue": [TURNS, TURNS], "summary": NOTES},
        {"dialogue": json.dumps(TALK), "summary": json.dumps(NOTES)},
        {"dialogue": f"[{TALK[0]!r} {TALK[1]!r}]", "summary": str(NOTES)},
        {"dialogue": [{"messages": TURNS}, {"messages": TURNS}], "summary": NOTES},
        {"prompt": [f"Summarise.\n{talk}" for talk in TALK], "completion": NOTES},
        {"instruction": ["Summarise."] * 2, "input": TALK, "output": NOTES},
        {"prompt": [chat[:1] for chat in CHATS], "completion": [chat[1:] for chat in CHATS]},
        {"messages": CHATS},
        {"conversations": CHATS},
    ],
)
def test_a_row_that_holds_several_dialogues_and_their_summaries_is_none(row: dict[str, object]) -> None:
    told = "dialogue is a list of dialogues (2 beside as many summaries: a row holds one of each)"
    assert str(check(row, Columns())) == told


@pytest.mark.parametrize(
    ("row", "dialogue"),
    [
        ({"dialogue": TALK}, "\n".join(TALK)),
        ({"dialogue": [TURNS, TURNS]}, "Ana: hi\nBen: ho\nAna: hi\nBen: ho"),
        ({"dialogue": ["Ana: hi", "Ben: ho"], "summary": NOTES}, TALK[0]),
        ({"dialogue": ["Ana: hi", "Ben: ho"], "summary": NOTES[:1]}, TALK[0]),
        ({"dialogue": [["user", "hi"], ["bot", "ho"]], "summary": NOTES}, "user: hi\nbot: ho"),
        ({"dialogue": json.dumps(TURNS), "summary": '["hi", "ho"]'}, TALK[0]),
        ({"dialogue": TALK, "summary": [*NOTES, "All."]}, "\n".join(TALK)),
        ({"messages": [CHATS[0][:1], CHATS[1]]}, "user: Ana: hi\nBen: ho\nuser: Ana: so\nBen: bye"),
        ({"prompt": TALK[0], "completion": NOTES}, TALK[0]),
    ],
)
def test_lists_of_turns_and_of_sessions_are_one_dialogue(row: dict[str, object], dialogue: str) -> None:
    summary = {} if {"messages", "prompt"} & {*row} else {"summary": "They talk."}
    checked = check(summary | row, Columns())
    assert isinstance(checked, Example)
    assert checked.dialogue == dialogue


SEVERAL = Columns(summary=["summary", "summary1", "summary2"])


@pytest.mark.parametrize(
    ("row", "summary", "others"),
    [
        ({"summary1": "They greet.", "summary2": "Ana greets Ben."}, "They greet.", ("Ana greets Ben.",)),
        ({"summary": "They greet."}, "They greet.", ()),
        ({"summary1": " ", "summary2": "They greet."}, "They greet.", ()),
        ({"summary1": None, "summary2": float("nan"), "summary": "They greet."}, "They greet.", ()),
        ({"summary1": ["They greet.", "Hi."], "summary2": "Ho."}, "They greet.", ("Hi.", "Ho.")),
    ],
)
def test_several_columns_are_several_references(row: dict[str, object], summary: str, others: tuple[str, ...]) -> None:
    assert check({"dialogue": DIALOGUE, **row}, SEVERAL) == Example(DIALOGUE, summary, others)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, "no summary"),
        ({"summary1": "", "summary2": " "}, "empty summary"),
        ({"summary1": "They greet.", "summary2": 7}, "summary is not text"),
    ],
)
def test_several_columns_without_a_text_are_no_summary(row: dict[str, object], reason: str) -> None:
    rejected = check({"dialogue": DIALOGUE, **row}, SEVERAL)
    assert isinstance(rejected, Rejected)
    assert rejected.reason == reason


def test_a_file_without_any_of_several_columns_names_them_all() -> None:
    data = DataConfig(train="a", test="b", columns=SEVERAL)
    with pytest.raises(DataError, match="no column 'summary' or 'summary1' or 'summary2'; it has 'dialogue', 'tldr'"):
        list(examples([("a:1", {"dialogue": DIALOGUE, "tldr": "They greet."})], "a", data, Tally()))


def test_a_chat_that_does_not_end_with_the_assistant_has_no_summary() -> None:
    assert check({"messages": [ANSWER, USER]}, Columns()) == Rejected("no summary")


def test_a_conversation_of_intercom_begins_with_what_opened_it() -> None:
    opening = {"author": {"type": "user", "name": "Ewa"}, "body": "<p>The heating is cold.</p>"}
    parts = [{"part_type": "comment", "author": {"name": "Maja"}, "body": "<p>Since when?</p>"}]
    row = {"source": opening, "conversation_parts": {"conversation_parts": parts}, "summary": "It is cold."}
    whole = "Ewa: The heating is cold.\nMaja: Since when?"
    assert check(row, Columns(dialogue="conversation_parts")) == Example(whole, "It is cold.")
    assert dialogue_of(row, Messages()) == whole, "as predict --file reads it"


@pytest.mark.parametrize("names", ["speaker", "speakers", "Speaker Names", "roles"])
def test_lines_are_read_with_the_speakers_of_a_column_beside_them(names: str) -> None:
    row = {"utt": ["hi", "ho", "so"], names: ["Ana", "Ben", "Ana"], "participants": ["a", "b", "c"], "summary": "s"}
    assert check(row, Columns(dialogue="utt")) == Example("Ana: hi\nBen: ho\nAna: so", "s")
    written = {name: json.dumps(value) if isinstance(value, list) else value for name, value in row.items()}
    assert check(written, Columns(dialogue="utt")) == Example("Ana: hi\nBen: ho\nAna: so", "s")
    assert check(row | {names: ["Ana", "Ben"]}, Columns(dialogue="utt")) == Example("hi\nho\nso", "s")


def test_columns_that_are_set_are_the_only_ones_read() -> None:
    row = {"messages": [USER, ANSWER], "prompt": "p", "completion": "c"}
    assert fields_of(row, Columns(dialogue="chat")) == Fields(None, None)
    assert fields_of(row, Columns(dialogue="messages", summary="completion")) == Fields([USER, ANSWER], "c")


def test_a_row_with_a_dialogue_and_no_summary_is_no_other_form() -> None:
    assert check({"dialogue": "Ana: hi", "prompt": "p", "completion": "c"}, Columns()) == Rejected("no summary")


def test_a_misnamed_column_is_an_error_that_lists_the_forms() -> None:
    rows = [(f"a.jsonl:{number}", {"messages": [USER, ANSWER]}) for number in (1, 2)]
    read = list(examples(rows, "a.jsonl", DataConfig(train="a.jsonl", test_fraction=0.5), Tally()))
    assert [example for _, example in read] == [Example(DIALOGUE, "They greet.")] * 2
    with pytest.raises(DataError, match="no column 'dialogue'") as told:
        list(examples([("b:1", {"talk": "a", "tldr": "b"})], "b", DataConfig(train="b", test_fraction=0.5), Tally()))
    assert "prompt and completion" in told.value.hint


def test_the_first_reference_is_the_summary_and_the_others_are_kept() -> None:
    references = ["They greet.", " ", "Ana says hi. "]
    assert check({"dialogue": "Ana: hi", "summary": references}, Columns()) == Example(
        "Ana: hi", "They greet.", ("Ana says hi.",)
    )
    assert check({"prompt": "Ana: hi", "completion": references}, Columns()) == Example(
        "Ana: hi", "They greet.", ("Ana says hi.",)
    )
    several = {"text": ["They greet.", "Ana says hi."]}  # as Label Studio writes them
    for summary in (several, json.dumps(several)):
        read = check({"dialogue": "Ana: hi", "summary": summary}, Columns())
        assert read == Example("Ana: hi", "They greet.", ("Ana says hi.",))
    for words in ("[laughs] They greet.", json.dumps(references), str(references), "[]"):
        for row in ({"dialogue": "Ana: hi", "summary": words}, {"prompt": "Ana: hi", "completion": words}):
            assert check(row, Columns()) == Example("Ana: hi", words)
