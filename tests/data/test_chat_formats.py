"""Chats as lists of messages, and as WhatsApp and Slack export them."""

import json
from pathlib import Path

import pytest

from lorasum.config.schema import Messages
from lorasum.data.exports import read_chat, read_folder
from lorasum.data.messages import MessageError, render_messages


def test_messages_of_several_shapes_become_lines() -> None:
    chat = [
        {"role": "user", "content": "My parcel is lost"},
        {"role": "assistant", "content": [{"type": "text", "text": "Oh no."}, {"type": "image_url"}, {"text": "No?"}]},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"sender": "Ana", "text": " 42 "},
        {"from": "Ben", "value": "thanks"},
        {"text": "(the line is cut)"},
    ]
    how = Messages(speakers={"user": "Customer"})
    assert render_messages(chat, how).splitlines() == [
        "Customer: My parcel is lost",
        "assistant: Oh no.  No?",
        "Ana: 42",
        "Ben: thanks",
        "(the line is cut)",
    ]
    assert render_messages(chat[3:4], Messages(format="[{speaker}] {text}")) == "[Ana] 42"


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"text": "a"}, 7], "message 2 is not an object"),
        ([{"who": "a"}], "message 1 has none of text, content"),
        ([{"text": 7}], "message 1 is not text (int)"),
    ],
)
def test_what_is_no_message_is_told_by_its_number(messages: list[object], said: str) -> None:
    with pytest.raises(MessageError, match=said.replace("(", r"\(").replace(")", r"\)")):
        render_messages(messages, Messages())


IOS = """[31.12.23, 18:05:09] \u200eMessages and calls are end-to-end encrypted.
[31.12.23, 18:05:10] Ana: hi
how are you?
[31.12.23, 18:06:00] Ben M.: good: you?
\u200e[31.12.23, 18:06:30] Ana: \u200eimage omitted
"""
ANDROID = """12/31/23, 6:05\u202fPM - Messages and calls are end-to-end encrypted. No one outside can read them.
12/31/23, 6:05\u202fPM - Ana: hi
12/31/23, 6:06\u202fPM - Ben M.: <Media omitted>
12/31/23, 6:06\u202fPM - Ben M.: see http://x.org/a: nice
"""


def test_whatsapp_exports_are_read_without_dates_notices_and_pictures() -> None:
    assert read_chat(IOS) == ("Ana: hi how are you?\nBen M.: good: you?", "WhatsApp export")
    assert read_chat(ANDROID) == ("Ana: hi\nBen M.: see http://x.org/a: nice", "WhatsApp export")


@pytest.mark.parametrize(
    "text", ["Ana: hi\nBen: on 12/31/23, 6:05 PM - or so", "", "[1, 2]", "[{]", '[{"a": 1}]', "x\n" + IOS]
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert read_chat(text) == (text, "")


SLACK = [
    {"type": "message", "user": "U02", "text": "<@U01> see <https://x.org|this> &amp; that", "ts": "1700000001.1"},
    {"type": "message", "user": "U01", "text": "hi", "ts": "1700000000.1", "user_profile": {"real_name": "Ana Lee"}},
    {"type": "message", "subtype": "channel_join", "user": "U03", "text": "<@U03> has joined", "ts": "1700000000.2"},
]


def test_a_slack_export_is_put_in_order_with_names(tmp_path: Path) -> None:
    assert read_chat(json.dumps(SLACK)) == ("Ana Lee: hi\nU02: @Ana Lee see this & that", "Slack export")
    channel = tmp_path / "general"
    channel.mkdir()
    (channel / "2023-11-14.json").write_text(json.dumps(SLACK))
    (channel / "2023-11-15.json").write_text(json.dumps([{"user": "U01", "text": "bye", "ts": "1700080000.0"}]))
    users = [{"id": "U02", "name": "ben", "profile": {"display_name": "Ben"}}]
    (tmp_path / "users.json").write_text(json.dumps(users))
    assert read_folder(channel) == "Ana Lee: hi\nBen: @Ana Lee see this & that\nAna Lee: bye"


def test_a_folder_that_is_no_slack_channel_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no \.json files"):
        read_folder(tmp_path)
    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"a\.json holds no Slack messages"):
        read_folder(tmp_path)
