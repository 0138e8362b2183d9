"""Whatever stands in a file, reading a chat ends with a dialogue or with one known error, in one line."""

import json
from contextlib import suppress

from hypothesis import example, given, settings
from hypothesis import strategies as st

from lorasum.config.data import Messages
from lorasum.data.chats.app_json import NoChatError
from lorasum.data.chats.exports import dialogue_in, read_chat
from lorasum.data.chats.message import MessageError

KEYS = st.sampled_from([
    "text", "content", "from", "author", "role", "ts", "thread_ts", "user", "type", "subtype", "blocks",
    "attachments", "files", "poll", "question", "answers", "embeds", "mentions", "sender_name", "timestamp",
    "timestamp_ms", "value", "id", "title", "name", "elements", "fields", "metadata", "data", "kwargs", "messageType",
    "components", "message_snapshots", "created_at", "is_from_me", "slackdump_thread_replies", "rows", "body",
    "is_share", "message_blocks", "message", "fallback", "bot_id", "forwarded_from", "from_id", "date", "todo_list",
    "contentType", "isBot", "forwardedMessage", "referenced_message", "poll_media", "senderName", "subject",
])  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=True) | st.text(max_size=8)
DATA = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
LISTS = st.lists(st.dictionaries(KEYS, DATA, max_size=5) | DATA, max_size=4)
CHATS = (
    LISTS
    | st.builds(lambda messages, more: {**more, "messages": messages}, LISTS, st.dictionaries(KEYS, DATA, max_size=3))
    | st.builds(lambda chats: {"chats": {"list": [{"messages": chat} for chat in chats]}}, st.lists(LISTS, max_size=2))
    | st.builds(lambda nodes, at: {"mapping": nodes, "current_node": at}, st.dictionaries(KEYS, DATA, max_size=3), DATA)
)
LINES = st.sampled_from(
    [
        "[03.06.24, 18:01:00] ",
        "3/6/24, 6:01 PM - ",
        "Ana: ",
        "\u200e",
        "<a: b.jpg>",
        "\n",
        "-->",
        "00:01.000",
        "WEBVTT\n",
    ]
)


@settings(max_examples=200)
@example([{"text": None, "content": 0, "type": []}])
@example({"messages": [{"sender_name": None, "text": False, "content": []}]})
@example([{"author": {}, "timestamp": "", "content": "vote", "poll": {"answers": [{"poll_media": 1}]}}])
@example([{"type": "message", "ts": "1.0", "text": "", "blocks": [{"type": [], "elements": 1}]}])
@given(CHATS)
def test_any_json_is_a_chat_or_refused(data: object) -> None:
    with suppress(NoChatError):
        assert isinstance(read_chat(json.dumps(data)).dialogue, str)
    with suppress(MessageError):
        assert isinstance(dialogue_in(data, Messages()), str | None)


@settings(max_examples=150)
@given(st.lists(LINES | st.text(max_size=6), max_size=12).map("".join))
def test_any_text_is_a_dialogue(text: str) -> None:
    with suppress(NoChatError):
        assert isinstance(read_chat(text).dialogue, str)
