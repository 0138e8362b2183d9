"""Chats in JSON, as apps export them."""

import json
from typing import Any

import pytest

from lorasum.config.data import Messages
from lorasum.data.chats.app_json import NoChatError, read_json
from lorasum.data.chats.exports import dialogue_in, read_chat

TELEGRAM: dict[str, Any] = {
    "name": "Tent trip",
    "type": "private_group",
    "id": 5,
    "messages": [
        {
            "id": 1,
            "type": "service",
            "date": "2024-06-03T18:00:00",
            "actor": "Ana",
            "action": "create_group",
            "text": "",
        },
        {
            "id": 2,
            "type": "message",
            "date_unixtime": "1",
            "from": "Ana",
            "from_id": "user1",
            "text": "who brings a tent?",
        },
        {"id": 3, "type": "message", "from": "Ben", "text": ["see ", {"type": "link", "text": "x.org"}, ", page 3"]},
        {"id": 4, "type": "message", "from": "Ben", "photo": "photos/1.jpg", "text": "this one"},
        {"id": 5, "type": "message", "from": "Ana", "media_type": "sticker", "text": ""},
        {"id": 6, "type": "message", "from": None, "from_id": "user9", "text": "me too"},
    ],
}
TENT = "Ana: who brings a tent?\nBen: see x.org, page 3\nBen: this one\nuser9: me too"
DISCORD: dict[str, Any] = {
    "guild": {"name": "Club"},
    "channel": {"name": "chairs"},
    "messages": [
        {
            "type": "Reply",
            "timestamp": "2024-06-03T18:02:00+00:00",
            "content": "four",
            "author": {"name": "o", "nickname": "Otto"},
        },
        {
            "type": "Default",
            "timestamp": "2024-06-03T18:01:00+00:00",
            "content": "chairs, <@12>?",
            "author": {"name": "wilma#1", "nickname": "Wilma"},
            "mentions": [{"id": "12", "name": "o", "nickname": "Otto"}],
        },
        {
            "type": "ChannelPinnedMessage",
            "timestamp": "2024-06-03T18:03:00+00:00",
            "content": "Pinned a message.",
            "author": {"name": "o"},
        },
    ],
}
MESSENGER: dict[str, Any] = {
    "participants": [{"name": "Jos\u00c3\u00a9"}, {"name": "Mia"}],
    "messages": [
        {"sender_name": "Mia", "timestamp_ms": 3, "content": "Reacted \u00e2\u009d\u00a4 to your message "},
        {"sender_name": "Mia", "timestamp_ms": 2, "photos": [{"uri": "x.jpg"}]},
        {"sender_name": "Mia", "timestamp_ms": 2, "content": "Mia sent an attachment."},
        {"sender_name": "Mia", "timestamp_ms": 2, "content": "s\u00c3\u00ad"},
        {"sender_name": "Jos\u00c3\u00a9", "timestamp_ms": 1, "content": "\u00c2\u00bfqu\u00c3\u00a9 tal?"},
    ],
}
CHATGPT: dict[str, Any] = {
    "title": "Parcel",
    "current_node": "c",
    "mapping": {
        "a": {"message": None, "parent": None},
        "b": {
            "message": {"author": {"role": "user"}, "content": {"content_type": "text", "parts": ["lost"]}},
            "parent": "a",
        },
        "c": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["sorry"]}}, "parent": "b"},
        "x": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["tried before"]}}, "parent": "b"},
    },
}


SLACK = [
    {"type": "message", "user": "U1", "ts": "2.0", "text": "see <https://x.org|this>"},
    {"type": "message", "user": "U2", "ts": "1.0", "text": "hi &amp; ho"},
]
TEAMS: dict[str, Any] = {
    "value": [
        {
            "messageType": "message",
            "createdDateTime": "2024-06-03T18:02:00Z",
            "from": {"user": {"displayName": "Ben"}},
            "body": {"contentType": "html", "content": '<p>yes, <at id="0">Ana</at></p>'},
        },
        {
            "messageType": "message",
            "createdDateTime": "2024-06-03T18:01:00Z",
            "from": {"user": {"displayName": "Ana"}},
            "body": {"contentType": "text", "content": "free?"},
        },
    ]
}
ASKED_OF_TOOLS = [
    {"author": {"role": "assistant"}, "recipient": "python", "content": {"content_type": "code", "text": "1 + 1"}},
    {"author": {"role": "tool", "name": "python"}, "content": {"content_type": "execution_output", "text": "2"}},
    {"author": {"role": "assistant"}, "content": {"content_type": "reasoning_recap", "content": "Thought for 2s"}},
]


@pytest.mark.parametrize("data", [TELEGRAM, DISCORD, DISCORD["messages"], MESSENGER, CHATGPT, SLACK, TEAMS])
def test_an_export_in_a_cell_is_read_as_the_file_would_be(data: object) -> None:
    said = read_json(data).dialogue
    assert dialogue_in(data, Messages()) == said
    assert dialogue_in(json.dumps(data), Messages()) == said


def test_what_a_model_asked_of_tools_is_no_message() -> None:
    nodes = {str(n): {"message": message, "parent": str(n - 1)} for n, message in enumerate(ASKED_OF_TOOLS)}
    last = {"author": {"role": "assistant"}, "content": {"content_type": "text", "parts": ["it is 2"]}}
    chat = read_json({"mapping": {**nodes, "x": {"message": last, "parent": "2"}}, "current_node": "x"})
    assert chat.dialogue == "assistant: it is 2"


@pytest.mark.parametrize(
    ("data", "form", "dialogue"),
    [
        (TEAMS, "Teams export", "Ana: free?\nBen: yes, Ana"),
        (TELEGRAM, "Telegram export", TENT),
        ({"about": "", "chats": {"list": [TELEGRAM]}}, "Telegram export", TENT),
        (DISCORD, "Discord export", "Wilma: chairs, @Otto?\nOtto: four"),
        (DISCORD["messages"], "Discord export", "Wilma: chairs, @Otto?\nOtto: four"),
        (MESSENGER, "Messenger export", "José: ¿qué tal?\nMia: sí"),
        (
            {
                "threadName": "x",
                "messages": [
                    {"isUnsent": False, "senderName": "Mia", "text": "b", "timestamp": 2},
                    {"isUnsent": False, "senderName": "Ana", "text": "a", "timestamp": 1},
                    {"senderName": "Ana", "text": "c", "timestamp": 3, "isUnsent": True},
                ],
            },
            "Messenger export",
            "Ana: a\nMia: b",
        ),
        (CHATGPT, "ChatGPT export", "user: lost\nassistant: sorry"),
        ([CHATGPT], "ChatGPT export", "user: lost\nassistant: sorry"),
        ({"model": "m", "messages": [{"role": "user", "content": "hi"}]}, "messages", "user: hi"),
        ([{"role": "user", "content": "hi"}], "messages", "user: hi"),
        (
            [{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}],
            "messages",
            "human: hi\ngpt: ho",
        ),
        (["Ana: hi", "Ben: ho"], "messages", "Ana: hi\nBen: ho"),
        ({"dialogue": "Ana: hi"}, "", "Ana: hi"),
    ],
)
def test_exports_in_json_are_recognised_and_read(data: object, form: str, dialogue: str) -> None:
    chat = read_chat(json.dumps(data, indent=1))
    assert (chat.dialogue, chat.form) == (dialogue, form)


NEWEST = {"created_at": 1_717_400_002, "role": "assistant", "content": [{"type": "text", "text": {"value": "ho"}}]}
OLDEST = {"created_at": 1_717_400_001, "role": "user", "content": "hi"}
OF_TEAMS = {"from": {"user": {"displayName": "Ana"}}, "body": {"contentType": "text", "content": "hi"}}
SEGMENTS = [{"start": 0.0, "speaker": "A", "text": " hi"}, {"start": 1.0, "speaker": "B", "text": "ho"}]


@pytest.mark.parametrize(
    ("data", "dialogue"),
    [
        (
            {"object": "list", "data": [NEWEST, OLDEST]},
            "user: hi\nassistant: ho",
        ),
        ({"value": [OF_TEAMS]}, "Ana: hi"),
        ([{"ts": 1, "user": "Ana", "content": "hi"}], "Ana: hi"),
        (
            {"results": {"utterances": [{"speaker": 0, "transcript": "hi"}, {"speaker": 1, "text": "ho"}]}},
            "0: hi\n1: ho",
        ),
        ({"Transcript": [{"ParticipantRole": "AGENT", "Content": "hi"}, {"ParticipantRole": "CUSTOMER"}]}, "AGENT: hi"),
        ({"text": "hi ho", "segments": SEGMENTS}, "A: hi\nB: ho"),
        ({"comments": [{"author_id": 3, "body": "hi"}, {"author_id": 4, "body": "ho"}]}, "3: hi\n4: ho"),
    ],
)
def test_messages_are_found_in_what_services_answer(data: object, dialogue: str) -> None:
    assert read_json(data).dialogue == dialogue


def test_polls_and_boxes_of_bots_are_read() -> None:
    poll = {"question": "Where?", "answers": [{"text": "Here", "voters": 1}, {"text": "There"}]}
    sent = {"id": 7, "type": "message", "date": "2024-06-03T18:00:00", "from_id": "user1"}
    asked = {**sent, "from": "Ana", "text": "", "poll": poll}
    assert read_json({**TELEGRAM, "messages": [asked]}).dialogue == "Ana: POLL: Where? OPTION: Here OPTION: There"
    answers = [{"answer_id": 1, "poll_media": {"text": "Here"}}, {"answer_id": 2, "poll_media": {"text": "There"}}]
    put = {"question": {"text": "Where?"}, "answers": answers}
    asked = {"type": 0, "timestamp": "2024", "author": {"username": "Ana"}, "content": "", "poll": put}
    assert read_json([asked]).dialogue == "Ana: POLL: Where? OPTION: Here OPTION: There"
    box = {"title": "Build 7", "description": "failed"}
    bot = {"type": 0, "timestamp": "2024", "author": {"username": "ci"}, "content": "", "embeds": [box]}
    joined = {"type": 7, "timestamp": "2025", "author": {"username": "eve"}, "content": "eve is here"}
    assert read_json([bot, joined]).dialogue == "ci: Build 7 failed"


@pytest.mark.parametrize("kind", ["UserPremiumGuildSubscriptionTier1", "Call", "8", "46", 24])
def test_types_of_discord_that_nobody_writes_are_notices(kind: object) -> None:
    chat = read_json({**DISCORD, "messages": [*DISCORD["messages"], {**DISCORD["messages"][0], "type": kind}]})
    assert chat.dialogue == "Wilma: chairs, @Otto?\nOtto: four"
    assert chat.left_out == {"notices": 2}


@pytest.mark.parametrize("kind", ["text", "message", "comment", "question", None])
@pytest.mark.parametrize("timestamp", [{}, {"timestamp": "2024-06-03T18:00:00"}])
def test_types_of_other_lists_are_no_notices_of_discord(kind: object, timestamp: dict[str, str]) -> None:
    sent = [{"author": {"name": name, "isBot": False}, "type": kind, **timestamp} for name in ("ana", "ben")]
    assert read_json([sent[0] | {"content": "hi"}, sent[1] | {"content": "yo"}]).dialogue == "ana: hi\nben: yo"


@pytest.mark.parametrize(
    "passed_on",
    [
        {"forwardedMessage": {"content": "four"}},
        {"message_snapshots": [{"message": {"content": "four"}}]},
        {"message_snapshots": [{"message": {"content": "", "embeds": [{"description": "four"}]}}]},
        {"type": 21, "referenced_message": {"content": "four", "author": {"username": "otto"}}},
        {"embeds": [{"fields": [{"name": "chairs", "value": "4"}]}]},
        {"components": [{"type": 17, "components": [{"type": 10, "content": "four"}]}]},
        {"type": "THREAD_STARTER_MESSAGE", "content": "four"},
        {"type": "ChatInputCommand", "content": "four"},
    ],
)
def test_words_that_discord_keeps_elsewhere_are_read(passed_on: dict[str, Any]) -> None:
    sent = {"type": 0, "timestamp": "2024", "author": {"username": "otto"}, "content": "", **passed_on}
    assert read_json([sent]).dialogue in ("otto: four", "otto: chairs: 4")


CI = {"name": "ci", "isBot": True}
BUILD = {"title": "Build 7", "url": "https://ci/7", "description": "failed", "author": {"name": "ben"}}
DONE = {"title": "Deploy done", "description": "by ana"}
X = {"url": "https://x.org/a/b", "title": "V"}
PREVIEW = {"title": "X", "url": "https://x.org", "description": "a page"}


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        ({"content": "Alert", "author": CI, "embeds": [BUILD]}, "ci: Alert ben Build 7 failed"),
        ({"content": "at https://ci.org", "author": CI, "embeds": [BUILD]}, "ci: at https://ci.org ben Build 7 failed"),
        ({"content": "up", "author": {"username": "ci", "bot": True}, "embeds": [{"title": "up"}]}, "ci: up"),
        ({"content": "see https://x.org", "author": CI, "embeds": [PREVIEW]}, "ci: see https://x.org"),
        ({"content": "see https://x.org", "embeds": [PREVIEW]}, "otto: see https://x.org"),
        ({"content": "[X](x)", "embeds": [PREVIEW | {"type": "article"}]}, "otto: [X](x)"),
        (
            {
                "content": "see https://youtu.be/dQw4w9WgXcQ",
                "author": CI,
                "embeds": [X | {"url": "https://y.com/watch?v=dQw4w9WgXcQ"}],
            },
            "ci: see https://youtu.be/dQw4w9WgXcQ",
        ),
        ({"content": "at https://y.org/b", "author": CI, "embeds": [X]}, "ci: at https://y.org/b V"),
        ({"content": "see https://x.org", "author": CI, "embeds": [DONE]}, "ci: see https://x.org Deploy done by ana"),
        ({"content": "at https://x.org/a/b/", "author": CI, "embeds": [X]}, "ci: at https://x.org/a/b/"),
        (
            {"content": "Deploy done\nby ana", "author": CI, "embeds": [DONE, {"description": "Deploy done by ana"}]},
            "ci: Deploy done\nby ana",
        ),
        ({"content": "x", "poll": {"question": True, "answers": []}}, "otto: x"),
        ({"content": "look", "forwardedMessage": {"content": "I quit"}}, "otto: look I quit"),
        ({"content": "vote", "poll": {"question": {"text": "Where?"}}}, "otto: vote POLL: Where?"),
        ({"content": "use </poll new:12>", "type": "Reply"}, "otto: use /poll new"),
        ({"content": "up", "author": CI, "embeds": [{"title": "db1"}], "timestamp": None}, "ci: up db1"),
    ],
)
def test_what_discord_keeps_beside_a_text_is_read(sent: dict[str, Any], line: str) -> None:
    """Keys of Discord's message object, and of JsonMessageWriter.cs of DiscordChatExporter."""
    message = {"type": 0, "timestamp": "2024", "author": {"username": "otto"}, "mentions": [], **sent}
    message = {key: value for key, value in message.items() if value is not None}
    assert read_json([message]).dialogue == line


def test_discords_data_package_is_refused_for_what_it_leaves_out() -> None:
    """Its messages.json has what one person wrote, as discord/messages/c1/messages.json of a package."""
    own = {"ID": 1, "Timestamp": "2024-06-03 10:00:00", "Contents": "hi", "Attachments": ""}
    with pytest.raises(NoChatError, match=r"what one person wrote: Discord's data package leaves out"):
        read_json([own])


@pytest.mark.parametrize(
    ("sent", "line"),
    [
        ({"text": [{"type": "bold", "text": "Note: "}, "see ", {"type": "link", "text": "x.org"}]}, "Note: see x.org"),
        ({"text": [{"type": "bold", "text": "un"}, {"type": "italic", "text": "real"}]}, "unreal"),
        ({"text": [{"type": "bold", "text": "Plan\n"}, "at 9"]}, "Plan\nat 9"),
        (
            {"text": "vote", "poll": {"question": "Where?", "answers": [{"text": "Here"}]}},
            "vote\nPOLL: Where? OPTION: Here",
        ),
        (
            {"todo_list": {"title": ["Ca", {"type": "bold", "text": "mp"}], "answers": [{"text": "tent"}]}},
            "Camp\n- tent",
        ),
        ({"text": "I quit", "forwarded_from": "Ben"}, "> Ben: I quit"),
        ({"text": "I quit", "forwarded_from": "Ana"}, "I quit"),
        ({"text": "I quit", "forwarded_from": None, "via_bot": "@x", "edited": "2024-06-03T10:00:00"}, "I quit"),
    ],
)
def test_the_whole_text_of_a_message_in_telegram_is_read(sent: dict[str, Any], line: str) -> None:
    """Keys as export_output_json.cpp of Telegram Desktop writes them."""
    message = {"id": 2, "type": "message", "date": "2024-06-03T18:00:00", "from": "Ana", "from_id": "user1", "text": ""}
    for data in ({**TELEGRAM, "messages": [message | sent]}, [message | sent]):
        chat = read_json(data)
        assert (chat.dialogue, chat.form) == (f"Ana: {line}", "Telegram export")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"type": "text", "text": {"body": "I paid"}}, "I paid"),
        ({"text": {"text": "I paid"}}, "I paid"),
        ({"text": ["I paid.", "Twice."]}, "I paid. Twice."),
        ({"text": [{"type": "thinking", "text": "hm"}, {"type": "text", "text": "I paid"}]}, "I paid"),
        ({"content": "I paid", "poll": {"id": 5}}, "I paid"),
    ],
)
def test_messages_of_other_services_keep_their_texts(sent: dict[str, Any], said: str) -> None:
    """Those of WhatsApp's Cloud API and others, in an object with the keys of one of Telegram's chats."""
    data = {"id": "c1", "type": "chat", "messages": [{"from": "ben", "text": "start"}, {"from": "ana", **sent}]}
    assert read_json(data).dialogue == f"ben: start\nana: {said}"


def held(kind: str, **content: Any) -> list[dict[str, Any]]:
    """An attachment as Microsoft Graph answers it, with JSON as text."""
    return [{"id": "7", "contentType": kind, "contentUrl": None, "content": json.dumps(content)}]


CARD = "application/vnd.microsoft.card"
BEN = {"application": None, "user": {"displayName": "Ben", "userIdentityType": "aadUser"}}
FACTS = [{"type": "FactSet", "facts": [{"title": "host", "value": "db1"}]}, {"type": "Input.Text", "title": "Why?"}]
SAID = {"type": "TextBlock", "text": "Build ok"}
UNSEEN = {"type": "TextBlock", "text": "debug", "isVisible": False}
CELLS = [{"type": "Column", "items": [{"type": "TextBlock", "text": "disk full"}]}]


@pytest.mark.parametrize(
    ("html", "more", "said"),
    [
        ('<p>ok <emoji id="smile" alt="🙂" title="Smile"></emoji></p>', {}, "ok 🙂"),
        ('<p><img itemtype="http://schema.skype.com/Emoji" alt="🙂" src="x"></p>', {}, "🙂"),
        ("<p>&lt;p&gt;&nbsp;is a tag</p>", {}, "<p> is a tag"),
        ("<p>no</p>", {"subject": "Friday release"}, "Friday release: no"),
        (
            '<p>FYI</p><attachment id="7"></attachment>',
            {
                "attachments": held(
                    "forwardedMessageReference", originalMessageContent="<p>I quit</p>", originalMessageSender=BEN
                )
            },
            "FYI\n> Ben: I quit",
        ),
        (
            '<attachment id="7"></attachment>\n<p>I am</p>',
            {"attachments": held("messageReference", messagePreview="who is on call?", messageSender=BEN)},
            "I am",
        ),
        (
            '<attachment id="7"></attachment>',
            {"attachments": held(f"{CARD}.adaptive", body=[{"type": "ColumnSet", "columns": CELLS}, *FACTS])},
            "disk full host: db1",
        ),
        ("", {"attachments": held(f"{CARD}.hero", title="Alert", text="disk full")}, "Alert disk full"),
        (
            "",
            {"attachments": held(f"{CARD}.hero", title="T &amp; x", text="<p>Build <b>ok</b></p>")},
            "T & x Build ok",
        ),
        ("", {"attachments": held(f"{CARD}.hero", title="Vec<T>", text="a < b")}, "Vec<T> a < b"),
        ("<p>Build ok</p>", {"attachments": held(f"{CARD}.adaptive", body=[SAID, UNSEEN])}, "Build ok"),
        ("<p>me</p>", {"attachments": [{"contentType": "reference", "name": "plan.docx"}]}, "me"),
    ],
)
def test_the_whole_of_a_message_in_teams_is_read(html: str, more: dict[str, Any], said: str) -> None:
    """Keys of chatMessage and chatMessageAttachment, as Microsoft Graph's reference has them."""
    message = {"messageType": "message", "createdDateTime": "2024-06-03T18:02:00Z", "from": BEN, **more}
    message["body"] = {"contentType": "html", "content": html}
    told = {"contentType": "html", "content": "<systemEventMessage/>"}
    about = [
        message | {"messageType": kind, "from": None, "body": told, "attachments": []}
        for kind in ("systemEventMessage", "unknownFutureValue", "chatEvent")
    ]
    gone = message | {"deletedDateTime": "2024-06-03T18:03:00Z"}
    for data in ({"value": [message, *about, gone]}, [message, *about, gone], {"messages": [message, *about, gone]}):
        chat = read_json(data)
        assert (chat.dialogue, chat.left_out) == (f"Ben: {said}", {"notices": 4})


def test_messages_of_other_services_that_tell_their_type_are_kept() -> None:
    sent = {"messageType": "text", "from": "ben", "body": {"text": "hi"}}
    assert read_json([sent, {**sent, "from": "ana"}]).dialogue == "ben: hi\nana: hi"


def test_the_own_emoji_of_a_discord_server_are_shown_by_name() -> None:
    sent = {"type": 0, "timestamp": "2024", "author": {"username": "otto"}, "content": "four <a:yes:123> <3"}
    assert read_json([sent]).dialogue == "otto: four :yes: <3"


@pytest.mark.parametrize(
    "words",
    [
        "Hat mit ❤ auf deine Nachricht reagiert ",
        "Reaccionó con 😂 a tu mensaje ",
        "Mia Lee hat einen Anhang gesendet.",
        "Mia Lee a quitté le groupe.",
        "A aimé un message",
        "Mia named the group Tent trip.",
        "Mia set the nickname for Ana to Annie.",
        "Mia changed the theme to Love.",
        "Mia missed your video call.",
        "Mia added Ana to the group.",
        "You missed a video chat with Mia.",
        "The video chat ended.",
        "This poll is no longer available.",
        "You can now message and call each other and see info like Active Status.",
        "Liked a message.",
        "Mia Lee sent an attachment",
        "Mia Lee hat einen Anhang gesendet",
        "Mia envió un archivo adjunto.",
        "Mia a envoyé une pièce jointe.",
        "Mia ha inviato un'immagine.",
        "Você enviou um anexo.",
        "Du hast einen Anhang gesendet.",
        'Ha messo "Mi piace" a un messaggio',
        "Gostou de uma mensagem",
        "Reagiu 🫨 à sua mensagem ",
        "You missed a call from Mia",
        "Du hast einen Videoanruf von Mia verpasst.",
        "Perdiste una llamada de Mia.",
        "Vous avez manqué un appel vidéo de Mia.",
        "Mia perdeu sua ligação.",
        "Hai perso una chiamata da Mia.",
        "Mia Lee started a video chat",
        "Video chat ended",
    ],
)
def test_messengers_notices_are_no_messages(words: str) -> None:
    """Sentences of message_1.json in downloads of Facebook and Instagram, and near ones that people write."""
    sent = {"sender_name": "Mia Lee", "timestamp_ms": 1, "content": words, "type": "Generic"}
    own = (
        "You called me, and the call ended?",
        "my boss sent a photo",
        "You missed a call from the dentist.",
        "Mia Lee here, call me.",
        "the message 😂",
        "lol how do I react to a message 😂",
        "Reaccionó a mi mensaje 😂",
        "Hat jemand auf deine Nachricht reagiert 😂",
        "You missed a call",
        "Du hast einen Anruf verpasst",
        "You sent an attachment",
        "Liked a message of yours",
        "Mia sent a photo",
        "Anna hat einen Anhang gesendet",
        "Video chat ended badly",
    )
    said = [{"sender_name": "Mia Lee", "timestamp_ms": 2, "content": text} for text in own]
    chat = read_json({"messages": [sent, *said]})
    assert (chat.dialogue.split("\n"), chat.left_out) == ([f"Mia Lee: {text}" for text in own], {"notices": 1})


@pytest.mark.parametrize(("sender", "words"), [("Will", "Will set the emoji later"), ("I", "I left the group")])
def test_who_has_a_word_for_a_name_may_say_it(sender: str, words: str) -> None:
    sent = {"sender_name": sender, "timestamp_ms": 1, "content": words}
    assert read_json({"messages": [sent]}).dialogue == f"{sender}: {words}"


def test_messengers_words_about_pictures_are_left_out_in_each_language() -> None:
    photo = {"sender_name": "Mia", "timestamp_ms": 1, "content": "Mia a envoyé une photo.", "photos": [{"uri": "x"}]}
    call = {"sender_name": "Mia", "timestamp_ms": 2, "content": "Mia t'a appelé.", "call_duration": 12}
    own = {"sender_name": "Mia", "timestamp_ms": 3, "content": "Mia here, hi"}
    assert read_json({"messages": [photo, call, own]}).dialogue == "Mia: Mia here, hi"


def test_polls_of_messenger_are_kept_and_placeholders_are_not() -> None:
    """Types and keys as a download of encrypted chats has them, where those without a value are empty lists."""
    sent = {
        "senderName": "Mia Lee",
        "timestamp": 1,
        "text": "Mia Lee created a poll: Where?.",
        "photos": [],
        "type": "text",
    }
    gone = {"senderName": "Mia Lee", "timestamp": 2, "text": "Message unavailable", "media": [], "type": "placeholder"}
    own = sent | {"timestamp": 3, "text": "Mia Lee here, hi"}
    chat = read_json({"messages": [sent, gone, own]})
    assert chat.dialogue == "Mia Lee: Mia Lee created a poll: Where?.\nMia Lee: Mia Lee here, hi"


def test_notices_and_pictures_are_counted() -> None:
    assert read_json(TELEGRAM).left_out == {"notices": 1, "media": 1}
    assert read_json(DISCORD).left_out == {"notices": 1}


def test_speakers_are_shown_as_the_config_says() -> None:
    how = Messages(speakers={"user": "Customer"}, format="{speaker} - {text}")
    assert read_json([{"role": "user", "content": "hi"}], how).dialogue == "Customer - hi"


def test_messages_one_a_line_are_a_chat() -> None:
    assert read_chat('{"role": "user", "content": "hi"}\n{"role": "assistant", "content": "ho"}\n').dialogue == (
        "user: hi\nassistant: ho"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1, 2]", "it holds no chat"),
        ('[{"a": 1}]', "it holds no chat"),
        ('{"openapi": "3.1", "paths": {}}', "it holds no chat"),
        ("{}", "it holds no chat"),
        ('{"a": 1}\n{"b": 2}', "it holds no chat"),
        ('{"dialogue": "A: hi"}\n{"dialogue": "B: ho"}', "holds 2 rows: give them to --input"),
        ('{"messages": [{"text": "a"}]}\n{"messages": [{"text": "b"}]}', "holds 2 chats .* or all to --input"),
        ("[]", "it holds no chat"),
        ('{"messages": [{"sender_name": "Ana", "content": [true]}]}', "message 1 is not text"),
        (json.dumps([{"role": "user", "content": "hi"}])[:-4], "cannot be parsed: it may be cut off"),
        ('{"messages": [{"role": "assistant", "content": null}]}', "it holds no chat"),
        (
            json.dumps({"chats": {"list": [TELEGRAM, TELEGRAM | {"name": "Work"}]}}),
            r"2 chats \(Tent trip, Work\): give one",
        ),
        (json.dumps([CHATGPT, CHATGPT]), r"2 chats \(Parcel, Parcel\)"),
    ],
)
def test_json_that_holds_no_chat_is_refused(text: str, problem: str) -> None:
    with pytest.raises(NoChatError, match=problem):
        read_chat(text)


@pytest.mark.parametrize("text", ["[{]", "[laughs] hi [ends]", "{curly} talk {again}", '"hi"', "42"])
def test_text_in_brackets_stays_text(text: str) -> None:
    assert read_chat(text).dialogue == text


@pytest.mark.parametrize(
    "about", [{"response_time": (0, 9, 5)}, {"sender_created_at": (3, 1, 2)}, {"date": ("2024-06-03",) * 3}]
)
def test_messages_are_sorted_by_the_time_at_which_they_were_sent(about: dict[str, tuple[object, ...]]) -> None:
    key, values = next(iter(about.items()))
    chat = [
        {"sender_name": name, key: value, "content": text, "timestamp": f"2024-06-03T10:0{minute}:00Z"}
        for name, value, text, minute in zip("ABA", values, ("so", "ho", "hi"), (3, 2, 1), strict=True)
    ]
    assert read_chat(json.dumps({"messages": chat})).dialogue == "A: hi\nB: ho\nA: so"
