"""Dialogues that are lists of messages, in the shapes that people have."""

import json

import pytest

from lorasum.config.data import Columns, Messages
from lorasum.data.chats.exports import read_chat
from lorasum.data.chats.message import MessageError
from lorasum.data.chats.messages import dialogue_of, keys_without_speaker, render_messages
from lorasum.data.records import Example
from lorasum.data.tally import Rejected
from lorasum.data.validate import check


def rendered(*messages: object) -> list[str]:
    return render_messages(messages, Messages()).split("\n")


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
        "assistant: Oh no. No?",
        "Ana: 42",
        "Ben: thanks",
        "(the line is cut)",
    ]
    assert render_messages(chat[3:4], Messages(format="[{speaker}] {text}")) == "[Ana] 42"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ({"role": "user", "content": None, "speaker": None, "text": "hi"}, "user: hi"),
        ({"role": None, "content": "", "speaker": "agent", "text": "hi"}, "agent: hi"),
        ({"speaker": 0, "text": "hi"}, "0: hi"),
        ({"speaker": 1.0, "text": "hi"}, "1: hi"),
        ({"speaker": float("nan"), "text": "hi"}, "hi"),
        ({"speaker_id": 3, "utterance": "hi"}, "3: hi"),
        ({"sender_name": "Ana", "content": "hi"}, "Ana: hi"),
        ({"senderName": "Ana", "sender": "u1", "text": "hi"}, "Ana: hi"),
        ({"Sender Name": "Ana", "Message Text": "hi"}, "Ana: hi"),
        ({"username": "ana", "user_id": 7, "message": "hi"}, "ana: hi"),
        ({"participant": "Ana", "body": "hi"}, "Ana: hi"),
        ({"author": {"id": "1", "name": "ana#1", "nickname": "Ana", "isBot": False}, "content": "hi"}, "Ana: hi"),
        ({"author": {"id": "1", "username": "ana_1", "global_name": "Ana"}, "content": "hi"}, "Ana: hi"),
        ({"author": {"displayName": "Ana", "name": "ana1"}, "text": "hi"}, "Ana: hi"),
        ({"from": {"id": 1, "first_name": "Ana", "last_name": "Lee", "username": "al"}, "text": "hi"}, "Ana Lee: hi"),
        ({"from": {"user": {"displayName": "Ana"}, "device": None}, "body": {"content": "hi"}}, "Ana: hi"),
        ({"user": {"id": 7}, "text": "hi"}, "7: hi"),
        ({"role": "user", "content": {"content_type": "text", "parts": ["hi", "there"]}}, "user: hi there"),
        ({"role": "user", "parts": [{"text": "hi"}]}, "user: hi"),
        ({"role": "user", "content": [{"type": "text", "text": {"value": "hi", "annotations": []}}]}, "user: hi"),
        ({"speaker": "Ana", "text": {"value": "hi"}}, "Ana: hi"),
        ({"message": {"role": "user", "content": "hi"}}, "user: hi"),
        ({"type": "human", "content": "hi"}, "human: hi"),
        ({"type": "ai", "data": {"content": "hi", "additional_kwargs": {}}}, "ai: hi"),
        ({"role": "assistant", "content": None, "refusal": "I cannot"}, "assistant: I cannot"),
        ({"role": "assistant", "content": None, "audio": {"id": "a1", "transcript": "hi"}}, "assistant: hi"),
        ({"sender": {"id": 7, "profile": {"display_name": "Ana"}}, "text": "hi"}, "Ana: hi"),
        ({"from": "Ana", "text": ["see ", {"type": "link", "text": "x.org"}, "!"]}, "Ana: see x.org!"),
        ({"from": "Ana", "text": [{"type": "bold", "text": "Note: "}, "see x.org"]}, "Ana: Note: see x.org"),
        ({"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"text": "hi"}]}, "assistant: hi"),
        ({"role": "assistant", "content": [{"type": "tool_use", "input": {}}, {"text": "hi"}]}, "assistant: hi"),
        ({"role": "tool", "name": "track", "content": '{"eta": 5}'}, 'tool: {"eta": 5}'),
        ({"speaker": "Ana", "text": 7}, "Ana: 7"),
        ({"line": 12, "speaker": "Ana", "sentence": "hi"}, "Ana: hi"),
        ({"creator": {"name": "Ana", "email": "ana@example.org"}, "text": "hi"}, "Ana: hi"),
        ({"sender": ["Ana"], "text": "hi"}, "Ana: hi"),
        ({"speaker": "Ana:", "text": "hi"}, "Ana: hi"),
        ({"sender_type": "agent", "text": "hi"}, "agent: hi"),
        ({"type": "assistant", "content": "hi"}, "assistant: hi"),
        ({"lc": 1, "type": "constructor", "kwargs": {"content": "hi", "type": "human"}}, "human: hi"),
        ({"from_id": {"_": "PeerUser", "user_id": 5}, "message": "hi"}, "5: hi"),
        ({"user_id": 7, "body": "<p>hi &amp; <b>bye</b></p>"}, "7: hi & bye"),
        ({"user_id": 7, "body": "use <b>hi</b>"}, "7: use <b>hi</b>"),
        ({"author_id": 7, "html_body": "<div>hi</div>"}, "7: hi"),
        ({"is_from_me": 1, "handle_id": "+1 202 555 0143", "text": "hi"}, "me: hi"),
        ({"is_from_me": 0, "handle_id": "+1 202 555 0143", "text": "hi"}, "+1 202 555 0143: hi"),
        ({"from": "Ana", "body": {"contentType": "html", "content": "<p>hi &amp;<br>bye</p>"}}, "Ana: hi & bye"),
        ({"sender_name": "Jos\u00c3\u00a9", "content": "se\u00c3\u00b1or \u00f0\u009f\u0098\u0080"}, "José: señor 😀"),
        ({"sender": "José", "text": "Âge: 5 °C, naïve"}, "José: Âge: 5 °C, naïve"),
        ({"type": "incoming", "body": "hi", "sent_at": 1_717_400_000_001}, "incoming: hi"),
        ({"is_user": True, "mes": "hi"}, "user: hi"),
        ({"isAgent": False, "message_body": "hi"}, "customer: hi"),
        ({"fromMe": "false", "txt": "hi"}, "them: hi"),
        ({"speaker_label": "spk_0", "raw_text": "hi"}, "spk_0: hi"),
        ({"agent_display_name": "Ana", "agent_type": "human", "plaintext_body": "hi"}, "Ana: hi"),
        ({"client_msg_id": "7", "user_agent": "Mozilla", "context": "c", "text": "hi"}, "hi"),
        ({"senders": [{"actorId": "V-1", "name": "Ana"}], "direction": "INCOMING", "text": "hi"}, "Ana: hi"),
        ({"actor_type": "agent", "message_parts": [{"text": {"content": "hi"}}]}, "agent: hi"),
        ({"is_agent": False, "sentences": ["hi", "there"]}, "customer: hi there"),
        ({"participant": {"personName": "Ana", "uid": 1}, "words": [{"text": "hi"}, {"text": "you"}]}, "Ana: hi you"),
        ({"createdBy": {"first": "Ana", "last": "Lee"}, "body": "hi"}, "Ana Lee: hi"),
        ({"author": '{"id": 1, "name": "Ana"}', "text": "hi"}, "Ana: hi"),
        ({"author": "{'id': 1, 'name': 'Ana'}", "text": "hi"}, "Ana: hi"),
        ({"role": "assistant", "content": "<think>\nhm\n</think>\n\nhi <think>"}, "assistant: hi <think>"),
        ({"role": "assistant", "content": "hm\n</think>\n\nhi"}, "assistant: hi"),
        ({"role": "assistant", "content": "Close it with </think> then."}, "assistant: Close it with </think> then."),
        ({"role": "user", "content": "the tag </think> ends it"}, "user: the tag </think> ends it"),
        ({"role": "user", "content": "<p>the tag </think> ends it"}, "user: <p>the tag </think> ends it"),
        ({"Transcript": {"ParticipantRole": "CUSTOMER", "Content": "hi"}}, "CUSTOMER: hi"),
        ({"sender_id": 7, "sender_email": "a@x.org", "sender_full_name": "Ana Lee", "text": "hi"}, "Ana Lee: hi"),
        ({"customer_name": "Ana", "agent_name": "Ben", "sender_type": "agent", "text": "hi"}, "agent: hi"),
        ({"type": "call", "author": "Ana", "text": "Called her"}, "Ana: Called her"),
        ({"type": "service", "name": "Ana", "text": "hi"}, "Ana: hi"),
        ({"role": "model", "parts": [{"text": "hm", "thought": True}, {"text": "hi"}]}, "model: hi"),
        ({"speaker": 1, "nBest": [{"display": "ship it"}, {"display": "chip it"}]}, "1: ship it"),
        ({"from": "7", "type": "image", "image": {"id": "m", "caption": "hi"}}, "7: hi"),
        ({"from": "7", "type": "button", "button": {"text": "hi", "payload": "c"}}, "7: hi"),
        (
            {"from": "7", "type": "interactive", "interactive": {"type": "list_reply", "list_reply": {"title": "hi"}}},
            "7: hi",
        ),
        ({"from": "Ana", "text": "nan", "content": "hi"}, "Ana: hi"),
        ({"from": "Ana", "text": "nan", "value": 0.9}, "Ana: nan"),
        ({"from": "Ana", "text": "None", "value": 0.9, "message": "m2", "raw_text": "uh none"}, "Ana: None"),
        ({"sender_id": "Ana", "sender_role_name": "member", "text": "hi"}, "Ana: hi"),
        ({"speaker": 1, "alternatives": [{"confidence": 0.1}, {"transcript": "hi"}]}, "1: hi"),
        ({"rid": "r", "t": "e2e", "msg": "hi", "u": {"username": "ana"}}, "ana: hi"),
        ({"speaker": "NaN", "role": "customer", "text": "None"}, "customer: None"),
        ({"user": "nan", "text": "hi"}, "nan: hi"),
        ({"role": "user", "content": [{"type": "input_audio", "audio": "UklG", "transcript": "hi"}]}, "user: hi"),
        ({"commenter": {"display_name": "Ana", "_id": "7"}, "message": {"body": "hi"}}, "Ana: hi"),
        ({"role": "user", "content": '[{"type": "table", "rows": 2}]'}, 'user: [{"type": "table", "rows": 2}]'),
    ],
)
def test_a_speaker_and_a_text_are_found_under_their_many_names(message: dict[str, object], line: str) -> None:
    assert rendered(message) == [line]


@pytest.mark.parametrize(
    "same", [{"user": "u1"}, {"agent": "Otto"}, {"name": "Chat 1", "source": "web"}, {"username": "ana", "agent_id": 3}]
)
@pytest.mark.parametrize("side", ["role", "sender_type", "direction", "speaker_label"])
def test_a_name_that_all_messages_have_is_not_their_speaker(same: dict[str, object], side: str) -> None:
    chat = [{**same, side: name, "text": text} for name, text in (("customer", "hi"), ("agent", "yes"))]
    assert rendered(*chat) == ["customer: hi", "agent: yes"]
    assert rendered(chat[0], chat[0]) == [f"{next(iter(same.values()))}: hi"] * 2


@pytest.mark.parametrize("word", ["nan", "None", "null", "NA"])
def test_people_may_be_called_as_a_missing_name_is_written(word: str) -> None:
    for beside in ({"user_id": 7}, {"role": "user"}, {}):
        assert rendered(
            {"user": word, "text": "hi", **beside},
            {"user": "Ben", "text": "ho", **{key: value if key == "role" else 8 for key, value in beside.items()}},
        ) == [f"{word}: hi", "Ben: ho"]


def test_a_word_for_a_missing_name_gives_way_where_several_would_have_it() -> None:
    turns = [{"name": "nan", "user_id": 7, "text": "hi"}, {"name": "nan", "user_id": 8, "text": "ho"}]
    assert rendered(*turns, {"name": "Ana", "user_id": 9, "text": "so"}) == ["7: hi", "8: ho", "Ana: so"]


@pytest.mark.parametrize(
    ("beside", "speaker"),
    [({"role": "Customer"}, "Customer"), ({"role": "visitor"}, "visitor"), ({"from_me": True}, "me")],
)
def test_a_word_for_a_missing_name_gives_way_to_a_role(beside: dict[str, object], speaker: str) -> None:
    ana = {"name": "Ana", "text": "hi", **({"role": "Agent"} if "role" in beside else {"from_me": False})}
    assert rendered(ana, {"name": "nan", "text": "ho", **beside}) == ["Ana: hi", f"{speaker}: ho"]


@pytest.mark.parametrize(
    "text",
    [
        '[{"name": "age", "type": ["integer", "null"]}]',
        '[{"text": "Ann", "type": "PERSON"}, {"text": "Monday", "type": "DATE"}]',
        '[{"type": "text", "name": "email"}, {"type": "file", "name": "photo"}]',
        '[{"type": "text", "text": "Name"}, {"type": "button", "label": "Send"}]',
    ],
)
def test_json_that_somebody_says_stays_as_it_is(text: str) -> None:
    assert rendered({"role": "user", "content": text}) == [f"user: {text}"]


def test_people_say_what_looks_like_a_models_thoughts() -> None:
    in_a_channel = {"channel": "analysis", "user": "Ana", "text": "sales are up"}
    assert rendered(in_a_channel, {"user": "Ben", "text": "<think> so?"}) == ["Ana: sales are up", "Ben: <think> so?"]


def test_keys_that_are_roles_are_the_speakers() -> None:
    expected = ["user: is it free?", "assistant: yes"]
    assert rendered({"turn": 1, "user": "is it free?", "assistant": "yes"}) == expected
    assert rendered({"user": "is it free?"}, {"assistant": "yes", "user": None}) == expected
    picture = {"user": "Ana Lee", "text": "", "files": [{"name": "a.png"}]}
    assert rendered(picture, {"user": "Ben", "text": "nice"}, {"user": "Ana Lee", "agent": "Otto", "at": "9 h"}) == [
        "Ben: nice"
    ]


@pytest.mark.parametrize(
    "silent",
    [
        {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "track"}}]},
        {"role": "assistant", "content": '<tool_call>\n{"name": "f"}\n</tool_call>'},
        {"role": "assistant", "channel": "analysis", "content": "hm"},
        {"role": "assistant", "channel": "commentary", "recipient": "functions.track", "content": '{"id": 7}'},
        {"role": "assistant", "content": '[{"type": "tool_use", "name": "track", "input": {"id": 7}}]'},
        {"role": "assistant", "content": None, "function_call": {"name": "track", "arguments": "{}"}},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {"type": "function_call", "name": "track", "arguments": "{}"},
        {"from": "function_call", "value": '{"name": "track"}'},
        {"role": "user", "content": [{"type": "search_result", "content": [{"type": "text", "text": "found"}]}]},
        {"messageType": "systemEventMessage", "body": {"content": "<systemEventMessage/>"}},
        {"type": "GuildMemberJoin", "author": {"name": "Eve"}, "content": "Joined the server."},
        {"subtype": "channel_join", "user": "U1", "text": "<@U1> has joined the channel"},
        {"type": "service", "actor": "Ana", "text": "", "action": "pin_message"},
        {"type": "service", "text": "the chat was moved"},
        {"type": "service", "author": "System", "text": "Ben was added"},
        {"type": "Call", "sender_name": "Ana", "content": "Ana called you.", "call_duration": 0},
        {"rid": "r", "t": "uj", "msg": "ana", "u": {"username": "ana"}},
        {"role": "model", "text": "hm", "isThought": True},
        {"type": "tool_result", "tool_result": {"content": "found"}},
        {"role": "user", "content": '<tool_response>\n{"at": "Vigo"}\n</tool_response>'},
        {"role": "assistant", "content": [{"type": "web_search_tool_result", "content": [{"text": "found"}]}]},
        {"role": "assistant", "content": '[TOOL_CALLS] [{"name": "track", "arguments": {"id": 7}}]'},
        {"role": "assistant", "content": "<|python_tag|>track.call(id=7)"},
        {"role": "assistant", "content": "<|python_tag|>import math\nprint(math.pi)"},
        {"role": "assistant", "content": "<|channel|>analysis<|message|>hm<|end|>"},
        {
            "role": "assistant",
            "content": "<|channel|>commentary to=functions.track <|constrain|>json<|message|>{}<|call|>",
        },
        None,
        "  ",
    ],
)
def test_a_turn_without_words_is_left_out(silent: object) -> None:
    assert rendered({"sender": "Ana", "text": "hi"}, silent, {"sender": "Ben", "text": "ho"}) == ["Ana: hi", "Ben: ho"]


CALL = '{"name": "track", "arguments": {"id": 7}}'


@pytest.mark.parametrize(
    "text",
    [
        f"I look.\n<tool_call>\n{CALL}\n</tool_call>",
        f"I look. <tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>",
        "I look.\n<tool_call>\n<function=track>\n<parameter=id>\n7\n</parameter>\n</function>\n</tool_call>",
        "I look.\n<tool_call>track\n<arg_key>id</arg_key>\n<arg_value>7</arg_value>\n</tool_call>",
        f"I look.[TOOL_CALLS] [{CALL}]",
        'I look.[TOOL_CALLS]track[ARGS]{"id": 7}',
        'I look.<function=track>{"id": 7}</function>',
        "I look.<|python_tag|>track.call(id=7)",
        f"I look.<|python_tag|>{CALL}; {CALL}<|eom_id|>",
        'I look.\n<|python_tag|>[track(id=7), track(id="8")]',
        f"I look.<|tool_call|>[{CALL}]",
        'I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{"id": 7}\n```'
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>",
        "I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>f<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        "I look.<|tool_calls_section_begin|><|tool_call_begin|>f:0{}<|tool_call_end|><|tool_calls_section_end|>",
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>I look.<|return|>",
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant to=functions.track<|channel|>commentary json"
        "<|message|>{}<|call|>",
        json.dumps([{"type": "text", "text": "I look."}, {"type": "tool_use", "name": "track", "input": {}}]),
        json.dumps([{"type": "text", "text": "I look."}, {"type": "web_search_tool_result", "content": []}]),
    ],
)
def test_a_models_words_are_kept_without_the_call_behind_them(text: str) -> None:
    assert rendered({"role": "assistant", "content": text}) == ["assistant: I look."]


@pytest.mark.parametrize("tool", ["tool", "ipython"])
def test_a_call_without_marks_is_known_by_the_tool_that_answers(tool: str) -> None:
    call, answer = {"role": "assistant", "content": CALL}, {"role": tool, "content": "Vigo"}
    assert rendered(call, answer) == [f"{tool}: Vigo"]
    assert rendered(call, {"role": "user", "content": "thanks"}) == [f"assistant: {CALL}", "user: thanks"]


@pytest.mark.parametrize(
    ("role", "text"),
    [
        ("user", f"Why does it answer <tool_call>{CALL}</tool_call>"),
        ("user", f"What is [TOOL_CALLS] [{CALL}]"),
        ("user", "<tool_response>\n{}\n</tool_response>\nWhy is it empty?"),
        ("assistant", f"Write this:\n```\n<tool_call>\n{CALL}\n</tool_call>\n```"),
        ("assistant", "The tag <tool_call> begins a call, and its end is </tool_call>"),
        ("assistant", f"Mistral writes [TOOL_CALLS] [{CALL}], and waits."),
        ("assistant", "<|channel|> is a word of GPT-OSS."),
        ("assistant", "It writes <|python_tag|> first, and then the call."),
        ("assistant", "<|python_tag|> marks code. Anything else?"),
        ("assistant", "The <|python_tag|> token(s)"),
        ("assistant", "I like <function=f> {x}</function>"),
        ("assistant", "Use <|tool_call|> tokens}"),
        ("assistant", "<tool_call> begins a call, and </tool_call> ends it."),
        ("assistant", "Kimi uses <|tool_calls_section_begin|> and ends with <|tool_calls_section_end|>"),
    ],
)
def test_talk_of_calls_is_kept(role: str, text: str) -> None:
    assert render_messages([{"role": role, "content": text}], Messages()) == f"{role}: {text}"


@pytest.mark.parametrize("types", [True, False])
def test_messages_of_langchain_are_read_as_a_file_too(types: bool) -> None:
    def message(kind: str, text: str) -> dict[str, object]:
        held = {"content": text, "type": "ai" if "AI" in kind else kind.lower()} if types else {"content": text}
        return {
            "lc": 1,
            "type": "constructor",
            "id": ["langchain", "schema", "messages", f"{kind}Message"],
            "kwargs": held,
        }

    chat = [message("Human", "hi"), message("AI", ""), message("AI", "ho")]
    for one in (chat, {"messages": chat}):
        assert read_chat(json.dumps(one)).dialogue == dialogue_of(one, Messages()) == "human: hi\nai: ho"
    stored = [{"type": "human", "data": {"content": "hi"}}, {"type": "ai", "data": {"content": "ho"}}]
    assert read_chat(json.dumps(stored)).dialogue == "human: hi\nai: ho"


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([{"text": "a"}, 7], "message 2 is not an object"),
        ([{"who": "a", "note": "b"}], "no message has text under text, content, .* their keys are who, note"),
        ([{"text": True}], r"message 1 is not text \(bool\)"),
        ([{"role": "user", "content": None}], "no message has text"),
    ],
)
def test_what_is_no_dialogue_is_told(messages: list[object], problem: str) -> None:
    with pytest.raises(MessageError, match=problem):
        render_messages(messages, Messages())


TURNS = [{"role": "user", "content": 'Is it free?\nIt\'s "mine"'}, {"role": "assistant", "content": "Yes, from May."}]
LINES = 'user: Is it free?\nIt\'s "mine"\nassistant: Yes, from May.'


@pytest.mark.parametrize(
    "cell",
    [
        TURNS,
        tuple(TURNS),
        json.dumps(TURNS),
        json.dumps(TURNS, indent=2),
        str(TURNS),
        str(TURNS).replace("}, {", "}\n {"),  # as numpy prints an array
        f"array({TURNS}, dtype=object)",
        {"messages": TURNS},
        json.dumps(json.dumps(TURNS)),
        json.dumps(json.dumps(json.dumps(TURNS))),
        str(json.dumps(TURNS).encode()),
        json.dumps({"id": 7, "messages": json.dumps(TURNS)}),
        [json.dumps(turn) for turn in TURNS],
        [list(turn.items()) for turn in TURNS],  # a map of Arrow's
        {str(number): turn for number, turn in enumerate(TURNS)},
        {"10": TURNS[1], "2": TURNS[0]},
        json.dumps({"conversations": TURNS}),
        "\n".join(map(json.dumps, TURNS)),
        ",\n".join(map(json.dumps, TURNS)),
        "".join(json.dumps(turn, indent=2) for turn in TURNS),
        f"```json\n{json.dumps(TURNS, indent=2)}\n```",
        str(tuple(TURNS)),
        [{**turn, "content": json.dumps([{"text": turn["content"], "type": "text"}])} for turn in TURNS],
        f"\ufeff{json.dumps(TURNS)}",
        f"'{json.dumps(TURNS)}'",
        str([tuple(turn.values()) for turn in TURNS]),
        json.dumps(TURNS).replace('"', '""').replace('\\""', '\\"'),
        json.dumps(TURNS).replace("\\", r"\\").replace('"', r"\""),
        json.dumps(TURNS).replace('"', "&quot;"),
        str([{**turn, "at": None} for turn in TURNS]).replace("None", "datetime.datetime(2024, 6, 3, 10, 1)"),
        str([{**turn, "at": None} for turn in TURNS]).replace("None", "Timestamp('2024-06-03', tz='UTC')"),
        str([{**turn, "score": None} for turn in TURNS]).replace("None", "nan"),
        f"[{{'messages': array({TURNS}, dtype=object)}}]"[1:-1],
        {"chat_messages": TURNS},
        [{"turns": TURNS}],
        [{"turns": TURNS[:1]}, {"turns": TURNS[1:]}],
        [TURNS[:1], TURNS[1:]],
        {"callTranscripts": [{"id": 1, "phrases": TURNS}]},
        {"id": 7, "users": [{"id": 1, "name": "Ana"}], "thread": {"events": TURNS}},
        {"words": [{"word": word, "speaker": 0} for word in ["is", "it"]], "results": {"monologues": TURNS}},
        {"headers": [{"name": "From", "value": "ana@example.org, Ana"}], "payload": TURNS},
        {"speakers": [turn["role"] for turn in TURNS], "dialogue": [turn["content"] for turn in TURNS]},
        {"role": [turn["role"] for turn in TURNS], "content": [turn["content"] for turn in TURNS]},
        str({"role": [turn["role"] for turn in TURNS], "content": [turn["content"] for turn in TURNS]}),
    ],
)
def test_messages_are_found_however_a_cell_keeps_them(cell: object) -> None:
    assert dialogue_of(cell, Messages()) == LINES


PRINTED = [
    '["Ana: hi", "Ben: ho", "An',
    "['Ana: hi', 'Ben: it's ho', 'Ana: so']",
    '["Ana: hi", "Ben: ho", … "Ana: so"]',
    "['Ana: hi' 'Ben: ho' ... 'Ana: so']",
    "array(['Ana: hi', 'Ben: ho', ..., 'Ana: so'], dtype=object)",
    "['Ana: hi\nBen: ho', 'Ana: so\nBen: bye']",
    '["Ana: hi", "Ben: ho", 3]',
    "('Ana: hi', 'Ben: ho')",
    "{'Ana: hi', 'Ben: ho'}",
    '{"Ana: hi","Ben: ho"}',
    '{"(user,hi)","(agent,ho)"}',
    '{"{\\"role\\": \\"user\\", \\"content\\": \\"hi\\"}"}',
    "[Ana: hi, Ben: ho]",
    "WrappedArray(Ana: hi, Ben: ho)",
    "ArraySeq([user,hi], [agent,ho])",
    "deque([{'role': 'user', 'content': 'hi'}])",
    "dict_values(['Ana: hi', 'Ben: ho'])",
    'shape: (2,)\nSeries: \'\' [str]\n[\n\t"Ana: hi"\n\t"Ben: ho"\n]',
    "0    {'role': 'user', 'content': 'hi'}\n1    {'role': 'agent', 'content': 'ho'}\ndtype: object",
    '-- is_valid: all not null\n-- child 0 type: string\n  [\n    "user"\n  ]',
    '<pyarrow.ListScalar: [{"role": "user", "content": "hi"}]>',
    "[object Object],[object Object]",
    "[Ljava.lang.String;@1b2c6ec2",
    "[<app.Message object at 0x7f1>, <app.Message object at 0x7f2>]",
    "<generator object turns at 0x7f1>",
    '{"role": "user", "content": "is it',
    '{"role": "user", "content": "hi"}\n{"role": "agent", "content": "h',
    '{"role": "user", "content": "hi"}, {"role": "agent"',
    "{'id': 1, 'role': 'user', 'content': 'hi'}\n{'id': 2, 'role': 'agent', 'content': 'ho'}",
]
TALKED_OF = [
    '{"from": "Ana", "text": "hi"} is what I send\nBen: ok',
    "{'from': 'Ana', 'text': 'hi'}\nBen: is that one message?",
    '["host: a", "port: 1"] is the list\nBen: ok',
    "[Note: the line is bad] Ana: hi, you: there? [ends]",
    "[Ana: laughs]\nBen: so, why: because\nAna: ok",
    "List(1, 2) is Scala\nBen: and set([1])?",
    "0 errors\nAna: and the dtype: object\nBen: ok",
    "<3 Ana: hi\nBen: ho",
    '{"id": 1, "items": [{"sku": 1, "name": "x"}]}\nAna: what is this?\nBen: an order',
    '[{"name": "HOST", "value": "db"}] is the setting, Ben.\nBen: ok',
    '[{"id": 7, "text": "x"}] <- Ana\'s texts\nBen: ok',
]


@pytest.mark.parametrize(
    ("cell", "dialogue"),
    [
        (["Ana: hi", "Ben: ho"], "Ana: hi\nBen: ho"),
        (
            [["agent", "hi"], ["customer", "ho"], ["action", "looks it up"]],
            "agent: hi\ncustomer: ho\naction: looks it up",
        ),
        ('[{"role": "user", "content": "hi\nyou"}]', "user: hi\nyou"),
        ([["Ana", "hi"], ["Ben", "ho"], ["Ana", "so"]], "Ana: hi\nBen: ho\nAna: so"),
        ('["Ana: hi", "Ben: ho"]', "Ana: hi\nBen: ho"),
        ("['Ana: hi'\n 'Ben: it\\'s']", "Ana: hi\nBen: it's"),
        ("['Ana: hi' \"Ben: it's\"\n 'Ana: \"a\" \"b\"' 'Ben: ok']", 'Ana: hi\nBen: it\'s\nAna: "a" "b"\nBen: ok'),
        ("[laughs] Ana: hi [ends]", "[laughs] Ana: hi [ends]"),
        ('{"a": 1}', '{"a": 1}'),
        ('{"a": 1} and {"b": 2}', '{"a": 1} and {"b": 2}'),
        ("```json\nAna: hi\n```", "```json\nAna: hi\n```"),
        ("[1, 2]", "[1, 2]"),
        ("[[1, 2], [3, 4]]", "[[1, 2], [3, 4]]"),
        ("[{id: 1}]\nHow do I sort it?\nBob: sort()", "[{id: 1}]\nHow do I sort it?\nBob: sort()"),
        ("[Row(name='a')] is what I get\nBen: so?", "[Row(name='a')] is what I get\nBen: so?"),
        *((text, text) for text in TALKED_OF),
        ('data = [{"id": 1}]\nprint(data) fails', 'data = [{"id": 1}]\nprint(data) fails'),
        ({key: {"from": "Ana", "text": key} for key in ("2", "0", "1")}, "Ana: 2\nAna: 0\nAna: 1"),
        ({"turns": [{"text": "hi you"}, {"text": "ho"}], "notes": [{"author": "qa", "text": "is fine"}]}, "hi you\nho"),
        ('["quoted"]', '["quoted"]'),
        ("[__import__('os').getcwd()]", "[__import__('os').getcwd()]"),
        ("{{'a': 1}}", "{{'a': 1}}"),  # a set of objects, which Python cannot make
        ("[" * 100_000 + "]", "[" * 100_000 + "]"),
    ],
)
def test_lines_are_a_dialogue_and_other_brackets_stay_text(cell: object, dialogue: str) -> None:
    assert dialogue_of(cell, Messages()) == dialogue


@pytest.mark.parametrize(
    "cell",
    [
        json.dumps(TURNS)[:-20],
        "[{'role': 'user', 'content': [TextBlock(text='hi')]}]",
        '[{"role": "user", "content": "a"b"}]',
        json.dumps(TURNS).replace('"', "&quot;")[:-20],
        json.dumps({"messages": TURNS})[:-20],
        "[HumanMessage(content='Is it free?'), AIMessage(content='Yes')]",
        "[{role: 'user', content: 'hi'}, {role: 'assistant', content: 'ho'}]",
        '[{"role"=>"user", "content"=>"hi"}]',
        "[{:role=>'user', :content=>'hi'}]",
        "[OrderedDict([('role', 'user'), ('content', 'hi')])]",
        "[Row(role='user', content='hi')]",
        'window.YTD.direct_messages.part0 = [{"dmConversation": {"messages": []}}]',
        json.dumps(TURNS).replace('"', r"\"")[:-20],
        json.dumps([{"timestamp": "2024-06-03T18:01:00Z", "index": 1, **turn} for turn in TURNS])[:-20],
        str([{"ts": 1717437660.1, **turn} for turn in TURNS])[:-20],
        json.dumps({"id": 7, "messages": TURNS})[:-20],
        "messages=[{'role': 'user', 'content': it()}]",
        "[{role=user, content=hi}, {role=assistant, content=ho, what=ever}]",
        "{messages=[{turn=1, role=user, content=hi}]}",
        '[{"user","hi"},{"assistant","ho"}]',
        "[{user, hi}, {assistant, ho}]",
        *PRINTED,
        f"{json.dumps(TURNS)}]",
        f"{json.dumps(TURNS)}\n{json.dumps(TURNS)}",
        f"{json.dumps({'messages': TURNS})} (1 more)",
        f"{json.dumps({'messages': TURNS})}\nSummarise it.",
    ],
)
def test_messages_that_cannot_be_parsed_are_no_text(cell: str) -> None:
    with pytest.raises(MessageError, match="looks like messages"):
        dialogue_of(cell, Messages())


@pytest.mark.parametrize(
    "cell",
    [
        '[["Ana", "hi"], ["Ben", "ho"]]',
        "[('Ana', 'hi'), ('Ben', 'ho')]",
        '[["hi", "How can I help?"], ["agent", "I connect you."]]',
    ],
)
def test_pairs_that_may_be_sentences_are_no_text(cell: str) -> None:
    with pytest.raises(MessageError, match="message 1 is not an object"):
        dialogue_of(cell, Messages())


def test_objects_without_a_text_are_no_text_themselves() -> None:
    with pytest.raises(MessageError, match=r"no message has text under .* their keys are a, b"):
        dialogue_of('[{"a": "hi", "b": "ho"}]', Messages())


def test_messages_without_speakers_are_told_by_their_keys() -> None:
    assert keys_without_speaker([{"text": "hi", "mood": "glad"}, {"text": "ho"}]) == ["text", "mood"]
    others: list[object] = [TURNS, "Ana: hi", ["hi", "ho"], [{"text": "hi"}], None]
    assert [keys_without_speaker(cell) for cell in others] == [[]] * 5


@pytest.mark.parametrize("cell", ["[]", "{}", " [] "])
def test_an_empty_list_is_no_dialogue(cell: str) -> None:
    with pytest.raises(MessageError, match="empty list"):
        dialogue_of(cell, Messages())


@pytest.mark.parametrize(
    ("times", "turned"),
    [
        (("2024-06-03T10:02:00Z", "2024-06-03T10:01:00Z", "2024-06-03T10:01:00Z"), True),
        ((1_717_400_002, 1_717_400_001, 1_717_400_000.5), True),
        (("2024-06-03 10:01", "2024-06-03 10:02", "2024-06-03 10:02"), False),
        (("3/6/2024", "2/6/2024", "1/6/2024"), False),
        (("2024-06-03T10:02:01.5Z", "2024-06-03T10:02:01Z", "2024-06-03T10:02:00+0000"), True),
        (("1717400002", "1717400001", "1717400000"), True),
        (
            ({"$date": "2024-06-03T10:02:00Z"}, {"$date": "2024-06-03T10:01:00Z"}, {"$date": "2024-06-03T10:00:00Z"}),
            True,
        ),
        (({"_seconds": 1717400002}, {"_seconds": 1717400001}, {"_seconds": 1717400000}), True),
        ((200_000_002, 200_000_001, 200_000_000), False),
        (("Mon, 03 Jun 2024 10:02:00 +0000", "Mon, 03 Jun 2024 10:01:00 +0000", "Mon, 03 Jun 2024 10:00:00 GMT"), True),
        (("2024-06-03 10:02:00 UTC", "2024-06-03 10:01:00 UTC", "2024-06-03 9:00:00 UTC"), True),
        (("2024-06-03 10:02:00 +0000 UTC", "2024-06-03 10:01:00 +0000 UTC", "2024-06-03 9:00:00.5 +0000 UTC"), True),
        (("06/03/2024 10:03 AM", "06/03/2024 9:02 AM", "06/02/2024 10:01 PM"), True),
        (("2/1/2024 12:58", "2/1/2024 1:02", "2/1/2024 1:02"), False),  # of a clock with 12 hours
        (("2/1/2024 10:00", "1/2/2024 10:00", "1/2/2024 10:00"), False),  # 2 January is before 1 February
        (("2024-06-03T10:02:00Z", "2024-99-03T10:02:00Z", "2024-06-03T10:00:00Z"), False),
        (("Jun 3, 2024, 10:02 AM", "Jun 3, 2024, 10:01 AM", "May 31, 2024, 11:00 PM"), True),
        (("Jul 2, 2024, 10:05 AM", "Jun 3, 2024, 10:01 AM", "Jun 3, 2024, 10:01 AM"), True),
        (("03-Jun-24 10:02", "03-Jun-24 10:01", "31-May-24 23:00"), True),
        (("Foo 3, 2024, 10:02", "Foo 3, 2024, 10:01", "Foo 3, 2024, 10:00"), False),
        (("2024/06/03 10:02", "2024/06/03 10:01", "2024/06/02 10:05"), True),
        ((9, 5, 1), False),
        ((1_717_400_002, None, 1_717_400_000), False),
        ((1_717_400_002, 1_717_400_009, 1_717_400_000), False),
    ],
)
def test_messages_that_begin_with_the_newest_are_turned_round(times: tuple[object, ...], turned: bool) -> None:
    cell = [{"created_at": time, "speaker": "Ana", "text": text} for time, text in zip(times, "abc", strict=True)]
    assert dialogue_of(cell, Messages()) == ("Ana: c\nAna: b\nAna: a" if turned else "Ana: a\nAna: b\nAna: c")
    assert dialogue_of({"messages": cell}, Messages()) == dialogue_of(cell, Messages())


@pytest.mark.parametrize(
    "key",
    [
        "created_time",
        "CreatedDate",
        "date_created",
        "createTime",
        "origin_server_ts",
        "Date",
        "publish_time",
        "sentOn",
        "at",
    ],
)
def test_the_time_of_a_message_is_found_under_its_many_names(key: str) -> None:
    newest_first: list[dict[str, object]] = [{"from": "Ana", key: 1_717_400_002_000, "text": "b"}]
    newest_first.append({"from": "Ben", key: 1_717_400_001_000, "text": "a"})
    assert dialogue_of(newest_first, Messages()) == "Ben: a\nAna: b"
    in_order = [
        {**message, "sent_at": at} for at, message in zip((1_717_400_001, 1_717_400_002), newest_first, strict=True)
    ]
    assert dialogue_of(in_order, Messages()) == "Ana: b\nBen: a"


@pytest.mark.parametrize(
    "key",
    [
        "updated_at",
        "sent_from",
        "sender",
        "creator",
        "order",
        "birth_date",
        "user_created_at",
        "delivery_date",
        "booking_date",
        "event_date",
        "appointment_time",
        "client_created_at",
        "last_message_time",
        "validated",
    ],
)
def test_numbers_that_are_no_times_turn_nothing_round(key: str) -> None:
    cell = [
        {"sender_name": "Ana", key: 2_025_550_144, "text": "a"},
        {"sender_name": "Ben", key: 2_025_550_143, "text": "b"},
    ]
    assert dialogue_of(cell, Messages()) == "Ana: a\nBen: b"


@pytest.mark.parametrize("key", ["seq", "sequence_number", "index", "turn_idx", "messageNumber", "turn"])
def test_messages_are_put_in_the_order_of_their_numbers(key: str) -> None:
    turns = [{"from": name, "text": text} for name, text in (("Ana", "a"), ("Ben", "b"), ("Cem", "c"))]
    for numbers in ((3, 1, 2), ("2", "0", "1")):
        cell: list[dict[str, object]] = [{**turn, key: n} for turn, n in zip(turns, numbers, strict=True)]
        assert dialogue_of(cell, Messages()) == "Ben: b\nCem: c\nAna: a"
    at_times = [{**turn, "time": f"2024-06-03T10:0{minute}:00Z"} for minute, turn in enumerate(cell)]
    assert dialogue_of(at_times, Messages()) == "Ana: a\nBen: b\nCem: c"
    merged = [{**turn, "start": start} for start, turn in zip((0.0, 1.2, 2), cell, strict=True)]  # of two channels
    assert dialogue_of(merged, Messages()) == "Ana: a\nBen: b\nCem: c"


@pytest.mark.parametrize(
    ("key", "numbers"), [("seq", (1, 1, 0)), ("index", (9, 5, 1)), ("id", (3, 2, 1)), ("order", (2, 1, 0))]
)
def test_numbers_that_may_be_other_ones_leave_the_order(key: str, numbers: tuple[int, ...]) -> None:
    cell = [{"from": "Ana", "text": text, key: n} for text, n in zip("abc", numbers, strict=True)]
    assert dialogue_of(cell, Messages()) == "Ana: a\nAna: b\nAna: c"


@pytest.mark.parametrize("key", ["replies", "children", "comments"])
def test_nested_replies_stand_below_what_they_answer(key: str) -> None:
    later = {"id": 2, "by": "Ana", "time": "2024-06-03T10:09:00Z", "text": "thanks"}
    reply = {
        "id": 1,
        "by": "Ben",
        "time": "2024-06-03T10:02:00Z",
        "text": "I do",
        key: [{"id": 3, "by": "Cem", "text": "and I"}],
    }
    cell: list[object] = [
        {"id": 1, "by": "Ana", "text": "who tests?", key: [later, reply]},
        {"by": "Cem", "text": "bye"},
    ]
    expected = "Ana: who tests?\nBen: I do\nCem: and I\nAna: thanks\nCem: bye"
    assert dialogue_of(cell, Messages()) == expected
    assert dialogue_of([{**cell[0], key: {"nodes": [reply, later]}}, cell[1]], Messages()) == expected  # type: ignore[dict-item]
    edges = {"edges": [{"node": reply}, {"node": later}]}
    reddit = {"kind": "Listing", "data": {"children": [{"kind": "t1", "data": reply}, {"kind": "t1", "data": later}]}}
    for held in (edges, reddit):
        assert dialogue_of([{**cell[0], key: held}, cell[1]], Messages()) == expected  # type: ignore[dict-item]
    assert dialogue_of([cell[0], later, cell[1]], Messages()).count("thanks") == 1  # type: ignore[union-attr]
    for name in ("_id", "message_id"):
        again = [{name: one["id"], **{k: v for k, v in one.items() if k != "id"}} for one in (later, reply)]
        assert dialogue_of([{"by": "Ana", "text": "who?", key: again}, *again], Messages()) == (
            "Ana: who?\nAna: thanks\nBen: I do\nCem: and I"
        )
    short = {"by": "Ana", "text": "who?", "children": [{"by": "Ben", "text": "I"}]}
    assert dialogue_of([short], Messages()) == "Ana: who?\nBen: I"
    quoted = {"by": "Ben", "text": "I do", "reply_to": {"by": "Ana", "text": "who tests?"}, key: [{"user": "U1"}]}
    assert dialogue_of([quoted], Messages()) == "Ben: I do"


@pytest.mark.parametrize(
    "held",
    [
        {"replies": [{"name": "yes_btn", "text": "Yes"}, {"name": "no_btn", "text": "No"}]},
        {"comments": [{"author": "annotator 1", "text": "sarcastic?"}]},
        {"children": [{"type": "mention", "user": "Ben", "text": "@Ben"}]},
    ],
)
def test_what_nobody_said_is_no_reply(held: dict[str, object]) -> None:
    assert dialogue_of([{"by": "Ana", "text": "is it free?", **held}], Messages()) == "Ana: is it free?"


@pytest.mark.parametrize(
    "words",
    [
        "ENVOYÉ\u00a0!",
        "CAFÉ\u00a0?",
        "Spaß\u00a0!",
        "AMANHÃ\u00a0?",
        "MAÑANA\u00a0¿no?",
        "ROSÉ®",
        "BEYONCÉ´S",
        "CAFÉ»",
    ],
)
def test_correct_words_before_a_no_break_space_or_a_sign_stay(words: str) -> None:
    assert dialogue_of([{"from": "Ana", "text": words}], Messages()) == f"Ana: {words}"
    assert dialogue_of(f"Ana: {words}", Messages()) == f"Ana: {words}"


@pytest.mark.parametrize(
    "words", ["voilà ce café", "à demain", "да", "你好", "Łódź", "😀", "Really?\u00a0 Yes", "Što ima? Škoda"]
)
def test_words_in_a_wrong_encoding_are_put_right(words: str) -> None:
    assert dialogue_of(words.encode().decode("latin-1"), Messages()) == words


def test_html_becomes_text_where_most_messages_are_it() -> None:
    page = {"by": "Ana", "content": "<p>is it <b>free</b>?</p>"}
    answers = [{"by": "Ben", "content": "<div>yes &amp; no</div>"}, {"by": "Ana", "content": "<b> & co?"}]
    assert rendered(page, *answers) == ["Ana: is it free?", "Ben: yes & no", "Ana: <b> & co?"]
    assert rendered(page, answers[1]) == ["Ana: <p>is it <b>free</b>?</p>", "Ana: <b> & co?"]
    silent = [{"by": "Ben", "content": text} for text in ("<p><img src='x'></p>", "<p>&nbsp;</p>")]
    assert rendered(page, *silent) == ["Ana: is it free?"]


@pytest.mark.parametrize("role", ["by", "role"])
def test_html_that_people_talk_about_stays(role: str) -> None:
    asked, answered = '<div class="box">fix me</div>' if role == "by" else "<div>fix me</div>", "<div>fixed</div>"
    chat = [{role: "user", "content": asked}, {role: "assistant", "content": answered}]
    assert rendered(*chat) == [f"user: {asked}", f"assistant: {answered}"]


def test_columns_of_different_lengths_are_no_dialogue() -> None:
    with pytest.raises(MessageError, match="3 texts, and another number of speakers"):
        dialogue_of({"speaker": ["Ana", "Ben"], "text": ["hi", "ho", "so"]}, Messages())


def test_other_values_are_no_dialogue() -> None:
    others: list[object] = [None, 7, [], {}, {"a": [1]}]
    assert [dialogue_of(value, Messages()) for value in others] == [None] * 5


def test_a_row_that_a_table_filled_up_with_nothing_keeps_all_its_turns() -> None:
    filled = [
        {"role": "user", "content": "is it free?", "speaker": None, "text": None},
        {"role": None, "content": None, "speaker": "agent", "text": "yes"},
    ]
    row = {"messages": filled, "summary": "It is."}
    assert check(row, Columns(dialogue="messages")) == Example("user: is it free?\nagent: yes", "It is.")


def test_a_dialogue_in_which_nothing_is_left_is_unusable() -> None:
    row = {"messages": [{"role": "assistant", "tool_calls": []}], "summary": "s"}
    checked = check(row, Columns(dialogue="messages"))
    assert isinstance(checked, Rejected)
    assert checked.reason == "dialogue is not text"
