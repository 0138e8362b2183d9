"""Slack's messages, as exports and its API have them."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorasum.data.chats.exports import read_chat, read_folder, read_path
from lorasum.data.chats.slack import read_slack

SLACK: list[dict[str, Any]] = [
    {"type": "message", "user": "U02", "text": "<@U01> see <https://x.org|this> &amp; that", "ts": "1700000001.1"},
    {"type": "message", "user": "U01", "text": "hi", "ts": "1700000000.1", "user_profile": {"real_name": "Ana Lee"}},
    {"type": "message", "subtype": "channel_join", "user": "U03", "text": "<@U03> has joined", "ts": "1700000000.2"},
]


RICH = {
    "type": "rich_text",
    "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": "I quit & go"}]}],
}


def message(text: str = "", ts: float = 1700000000, user: str = "U01", **more: Any) -> dict[str, Any]:
    return {"type": "message", "user": user, "text": text, "ts": f"{ts:.6f}", **more}


def said(*messages: dict[str, Any]) -> list[str]:
    users = [{"id": "U01", "profile": {"display_name": "Ana"}}, {"id": "U02", "real_name": "Ben"}]
    return read_slack(messages, users).dialogue.split("\n")


def channel(folder: Path, days: dict[str, object]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in days.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_a_style_in_a_word_does_not_part_it() -> None:
    parts = [{"type": "text", "text": "un"}, {"type": "text", "text": "real", "style": {"bold": True}}]
    block = {"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": parts}]}
    assert said(message(blocks=[block])) == ["Ana: unreal"]


def test_an_export_is_put_in_order_with_names(tmp_path: Path) -> None:
    chat = read_chat(json.dumps(SLACK))
    assert (chat.dialogue, chat.form) == ("Ana Lee: hi\nU02: @Ana Lee see this & that", "Slack export")
    assert chat.left_out == {"notices": 1}
    later = [{"user": "U01", "text": "bye", "ts": "1700080000.0"}]
    general = channel(tmp_path / "general", {"2023-11-14.json": SLACK, "2023-11-15.json": later})
    channel(tmp_path, {"users.json": [{"id": "U02", "name": "ben", "profile": {"display_name": "Ben"}}]})
    assert read_folder(general).dialogue == "Ana Lee: hi\nBen: @Ana Lee see this & that\nAna Lee: bye"
    assert read_folder(tmp_path) == read_folder(general), "the only channel of an export"
    answered = {"ok": True, "members": [{"id": "U02", "real_name": "Ben of the API"}]}
    channel(general, {"users.json": answered})
    (tmp_path / "users.json").unlink()
    assert "Ben of the API: @Ana Lee" in read_folder(general).dialogue
    (general / "users.json").unlink()
    channel(tmp_path, {"users.json": [{"id": "U02", "profile": {"display_name": "Ben"}}]})
    assert read_path(general / "2023-11-14.json").dialogue == "Ana Lee: hi\nBen: @Ana Lee see this & that"


@pytest.mark.parametrize(
    "subtype", ["file_share", "me_message", "thread_broadcast", "bot_message", "file_comment", None]
)
def test_what_people_say_is_kept_whatever_it_comes_with(subtype: str | None) -> None:
    shared = message("do NOT release, log attached", subtype=subtype, files=[{"id": "F1", "name": "migrate.log"}])
    assert said(shared) == ["Ana: do NOT release, log attached"]


@pytest.mark.parametrize("subtype", ["channel_join", "channel_leave", "channel_topic", "pinned_item", "group_name"])
def test_notices_are_left_out_and_counted(subtype: str) -> None:
    chat = read_slack([message("set the topic: x", subtype=subtype), message("hi"), message(files=[{"id": "F"}])])
    assert (chat.dialogue, chat.left_out) == ("U01: hi", {"notices": 1, "media": 1})


def test_replies_stand_below_what_they_reply_to() -> None:
    asked = message("who is on call?", 10, thread_ts="10.000000")
    other = message("lunch?", 11)
    answer = message("I am", 12, "U02", thread_ts="10.000000")
    broadcast = message("done", 13, "U02", thread_ts="10.000000", subtype="thread_broadcast")
    lost = message("to an older thread", 14, thread_ts="1.000000")
    assert said(lost, broadcast, answer, other, asked) == [
        "Ana: who is on call?",
        "Ben: I am",
        "Ana: lunch?",
        "Ben: done",
        "Ana: to an older thread",
    ]


def test_replies_that_slackdump_keeps_inside_a_message_are_read() -> None:
    answer = message("I am", 12, "U02", thread_ts="10.000000")
    asked = message("who is on call?", 10, thread_ts="10.000000", slackdump_thread_replies=[answer])
    assert said(asked, message("lunch?", 11)) == ["Ana: who is on call?", "Ben: I am", "Ana: lunch?"]


def test_what_old_exports_say_of_an_uploaded_file_is_no_message() -> None:
    told = "<@U01> uploaded a file: <https://x.org/1|plan.pdf>"
    silent = message(told, subtype="file_share", upload=True)
    assert said(message(f"{told} and commented: see page 3", subtype="file_share", upload=True)) == ["Ana: see page 3"]
    assert read_slack([silent]).left_out == {"media": 1}


def test_a_comment_on_a_file_is_said_by_who_wrote_it() -> None:
    comment = {"type": "message", "subtype": "file_comment", "text": "<@U01> commented on <@U02>'s file", "ts": "5.0"}
    assert said({**comment, "comment": {"user": "U01", "comment": "looks good"}}) == ["Ana: looks good"]


def test_a_message_that_the_api_answers_twice_is_read_once() -> None:
    top = message("who?", thread_ts="1700000000.000000", reply_count=1)
    answer = message("I do", 1700000001, "U02", thread_ts="1700000000.000000")
    assert said(top, top, answer) == ["Ana: who?", "Ben: I do"]
    coarse = [{"type": "message", "user": "U01", "text": "no", "ts": "2024-06-03T10:01:00"}] * 2
    assert said(*coarse) == ["Ana: no", "Ana: no"]


def test_words_in_blocks_and_attachments_are_read_where_there_is_no_text() -> None:
    rich = {
        "type": "rich_text",
        "elements": [
            {
                "type": "rich_text_section",
                "elements": [
                    {"type": "user", "user_id": "U02"},
                    {"type": "text", "text": " see "},
                    {"type": "link", "url": "https://x.org", "text": "this"},
                ],
            }
        ],
    }
    section = {"type": "section", "text": {"type": "mrkdwn", "text": "build &lt;1&gt; failed"}}
    assert said(message(blocks=[rich])) == ["Ana: @Ben see this"]
    assert said(message(blocks=[section])) == ["Ana: build <1> failed"]
    blank = {"type": "text", "text": " "}
    named = [{"type": "channel", "channel_id": "C1"}, blank, {"type": "broadcast", "range": "here"}]
    assert said(message(blocks=[{"type": "rich_text", "elements": named}])) == ["Ana: #C1 @here"]
    table = {"type": "table", "rows": [[{"type": "raw_text", "text": "host"}, {"type": "raw_text", "text": "db1"}]]}
    assert said(message(blocks=[table])) == ["Ana: host db1"]
    attached = {"title": "Alert", "text": "disk at <!date^1|91%>", "fields": [{"title": "host", "value": "db1"}]}
    assert said(message(attachments=[attached])) == ["Ana: Alert disk at 91% host: db1"]
    assert said(message(attachments=[{"fallback": "a picture of a cat"}])) == ["Ana: a picture of a cat"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<@U02> and <@U09|eve> and <@U08>", "@Ben and @eve and @U08"),
        ("in <#C01|ops>, not <#C02>", "in #ops, not #C02"),
        ("<mailto:a@x.org|a@x.org> <https://x.org>", "a@x.org https://x.org"),
        ("<!here> <!channel> <!subteam^S1|@team>", "@here @channel @team"),
        ("a &lt;b&gt; &amp;amp;", "a <b> &amp;"),
    ],
)
def test_marks_are_shown_as_people_see_them(text: str, shown: str) -> None:
    assert said(message(text)) == [f"Ana: {shown}"]


def test_bots_are_shown_by_their_names() -> None:
    assert said(message("Reminder: pay.", user="USLACKBOT")) == ["Slackbot: Reminder: pay."]
    named = {"type": "message", "subtype": "bot_message", "username": "Deploy", "text": "up", "ts": "1.0"}
    profiled = {"type": "message", "bot_id": "B1", "bot_profile": {"name": "CI"}, "text": "green", "ts": "2.0"}
    assert said(named, profiled) == ["Deploy: up", "CI: green"]


def test_a_bots_box_is_read_and_the_preview_of_a_link_is_not() -> None:
    boxes = [{"text": "disk at 91%"}, {"text": "A page about disks", "from_url": "https://x.org"}]
    assert said(message("Alert", bot_id="B1", attachments=boxes)) == ["Ana: Alert disk at 91%"]
    assert said(message("see https://x.org", attachments=boxes[1:])) == ["Ana: see https://x.org"]


SHARE = {
    "is_msg_unfurl": True,
    "is_share": True,
    "author_id": "U02",
    "author_name": "Benjamin",
    "channel_id": "C01",
    "ts": "1699999999.000100",
    "from_url": "https://x.slack.com/archives/C01/p1699999999000100",
    "footer": "Posted in #ops",
    "fallback": "[November 14th, 2023 2:13 PM] ben: I quit &amp; go",
    "text": "I quit &amp; go",
    "message_blocks": [{"team": "T1", "channel": "C01", "message": {"blocks": [RICH]}}],
}
BOTS: dict[str, Any] = {"is_share": True, "author_name": "ci"}
DEPLOY = {"title": "Deploy 7", "fields": [{"title": "env", "value": "prod"}]}
EVES = {"author_id": "U99", "author_name": "Eve", "text": "one\ntwo"}


@pytest.mark.parametrize(
    ("text", "share", "line"),
    [
        ("FYI", SHARE, "FYI\n> Ben: I quit & go"),
        ("", SHARE, "> Ben: I quit & go"),
        ("FYI", SHARE | {"text": ""}, "FYI\n> Ben: I quit & go"),
        ("FYI", SHARE | {"text": "", "message_blocks": None}, "FYI\n> Ben: I quit & go"),
        ("see <https://x.org>", SHARE | EVES | {"is_share": None}, "see https://x.org\n> Eve: one\n> two"),
        ("FYI", SHARE | {"text": "", "message_blocks": [], "fallback": "[no preview available]"}, "FYI"),
        ("", BOTS | {"fallback": "See [RFC 9110] section: caching"}, "> ci: See [RFC 9110] section: caching"),
        ("", BOTS | DEPLOY, "> ci: Deploy 7 env: prod"),
        ("FYI", BOTS | DEPLOY | {"pretext": "hi", "text": "Deploy 7"}, "FYI\n> ci: hi Deploy 7 env: prod"),
        ("", BOTS | {"blocks": [RICH], "text": "I quit &amp; go"}, "> ci: I quit & go"),
        ("", BOTS | {"blocks": [RICH], "text": "bye"}, "> ci: bye I quit & go"),
        ("", BOTS | {"fallback": "[1" * 8000}, "> ci: " + "[1" * 8000),
    ],
)
def test_a_message_that_is_passed_on_is_quoted_once(text: str, share: dict[str, Any], line: str) -> None:
    """Attachments as conversations.history answers them for a message that was forwarded, or whose link was pasted."""
    for boxes in ([share], [share, share]):
        assert said(message(text, attachments=boxes)) == f"Ana: {line}".split("\n")


DEPLOYED = [
    {"type": "header", "text": {"type": "plain_text", "text": "Deploy failed"}},
    {"type": "section", "text": {"type": "mrkdwn", "text": "*db1* is full"}, "accessory": {"type": "button"}},
    {"type": "context", "elements": [{"type": "mrkdwn", "text": "by ana"}, {"type": "image", "alt_text": "face"}]},
    {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "Retry"}}]},
]
IN_CHANNEL = [{"type": "channel", "channel_id": "C1"}, {"type": "text", "text": " is up"}]


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        ({"text": "New notification", "blocks": DEPLOYED}, "Deploy failed *db1* is full by ana"),
        ({"text": "This content can't be displayed.", "blocks": [RICH]}, "I quit & go"),
        ({"text": "Deploy failed", "blocks": DEPLOYED}, "Deploy failed *db1* is full by ana"),
        (
            {"text": "Deploy failed:\n*db1* is full, by ana", "blocks": DEPLOYED},
            "Deploy failed:\n*db1* is full, by ana",
        ),
        ({"text": "New notification", "blocks": [RICH]}, "I quit & go"),
        ({"text": "<#C1|ops> is _up_", "blocks": [{"type": "rich_text", "elements": IN_CHANNEL}]}, "#ops is _up_"),
        ({"text": "sales", "blocks": [{"type": "image", "alt_text": "a chart"}]}, "sales"),
        ({"text": "x", "blocks": [{"type": "video", "title": {"type": "plain_text", "text": "Demo"}}]}, "Demo"),
        ({"text": "disk full", "attachments": [{"fallback": "disk full", "text": "disk full"}]}, "disk full"),
        ({"text": "up", "attachments": [{"author_name": "eve", "title": "up", "text": "db1"}]}, "up eve db1"),
        ({"text": "✅", "attachments": [{"title": "🔥", "text": "🔥"}]}, "✅ 🔥"),
        ({"attachments": [{"fallback": "[no preview available]", "blocks": DEPLOYED[1:2]}]}, "*db1* is full"),
    ],
)
def test_of_a_bots_message_is_read_what_people_saw(sent: dict[str, Any], line: str) -> None:
    """Beside `blocks`, `text` is the fallback for notifications: https://api.slack.com/methods/chat.postMessage."""
    assert said(message(bot_id="B1", **sent)) == f"Ana: {line}".split("\n")


def test_what_people_write_is_read_from_its_text() -> None:
    """Slack makes both from what somebody writes, and a box without words is counted."""
    blocks = [{"type": "rich_text", "elements": [*IN_CHANNEL, {"type": "text", "text": " soon"}]}]
    assert said(message("<#C1|ops> is up", blocks=blocks)) == ["Ana: #ops is up"]
    giphy = [*blocks, {"type": "image", "title": {"type": "plain_text", "text": "cat"}}]
    assert said(message("<#C1|ops> is up", blocks=giphy)) == ["Ana: #ops is up"]
    bare: dict[str, Any] = {
        "text": "This content can't be displayed.",
        "blocks": [{"type": "image", "alt_text": "a chart"}],
    }
    boxes = [{"fallback": "[no preview available]"}]
    assert read_slack([message(attachments=boxes), message(bot_id="B1", **bare)]).left_out == {"media": 2}


def test_the_api_and_other_time_stamps_are_read() -> None:
    dated = [
        {"user": "b", "text": "2", "ts": "2024-06-03T10:00:01Z"},
        {"user": "a", "text": "1", "ts": "2024-06-03T10:00:00Z"},
    ]
    assert read_chat(json.dumps({"ok": True, "messages": dated})).dialogue == "a: 1\nb: 2"


def test_other_files_and_empty_days_of_an_export_are_passed_over(tmp_path: Path) -> None:
    ops = channel(
        tmp_path / "ops",
        {
            "2024-06-03.json": [message("Release is at 16:00")],
            "2024-06-04.json": [],
            "2024-06-05.json": None,
            "canvas_in_the_conversation.json": [{"id": "F0", "title": "Notes", "filetype": "quip"}],
            "2024-06-05_file.json": {"a": 1},
        },
    )
    (ops / "2024-06-06.json").touch()
    chat = read_folder(ops)
    assert (chat.dialogue, chat.left_out) == ("U01: Release is at 16:00", {"empty files": 3})


@pytest.mark.parametrize(
    "day",
    [
        json.dumps(message("no", 1700080000)) + "\n" + json.dumps(message("wait", 1700080001)) + "\n",
        json.dumps({"ok": True, "messages": [message("no", 1700080000), message("wait", 1700080001)]}),
        json.dumps([None, {"id": "F0", "title": "Notes"}, message("no", 1700080000), message("wait", 1700080001)]),
    ],
)
def test_a_day_may_be_written_in_other_ways(day: str, tmp_path: Path) -> None:
    """Lines as export tools write them, an answer of conversations.history, and a canvas among messages."""
    ops = channel(
        tmp_path / "ops", {"2024-06-03.json": [message("now?")], "users.json": [{"id": "U01", "name": "ana"}]}
    )
    (ops / "2024-06-04.json").write_text(day, encoding="utf-8")
    assert read_folder(ops).dialogue == "ana: now?\nana: no\nana: wait"
    assert read_path(ops / "2024-06-04.json").dialogue == "ana: no\nana: wait"


def test_a_folder_that_is_no_channel_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no 2024-06-03\.json of Slack"):
        read_folder(tmp_path)
    for day in ([1], [message("hi"), {"user": "U02", "text": "no time"}], {"messages": "x"}, {"a": 1}):
        channel(tmp_path / "ops", {"2024-06-03.json": day, "2024-06-04.json": [message("hi")]})
        with pytest.raises(ValueError, match=r"2024-06-03\.json holds no Slack messages, or other text beside them"):
            read_folder(tmp_path / "ops")
    (tmp_path / "ops" / "2024-06-03.json").write_text(json.dumps([message("hi")])[:-9], encoding="utf-8")
    with pytest.raises(ValueError, match=r"2024-06-03\.json is not JSON in UTF-8"):
        read_folder(tmp_path / "ops")
    channel(tmp_path / "general", {"2024-06-03.json": []})
    with pytest.raises(ValueError, match=r"holds 2 channels: give the folder of one \(general, ops\)"):
        read_folder(tmp_path)
