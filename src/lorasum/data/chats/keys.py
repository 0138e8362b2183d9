"""Tells what the keys of a message hold: its text, its speaker, or on which side that one is. Pure functions.

Keys are compared without case and separators: `senderName` and `Sender Name` are the same key. A key that is in no
table is known by the words it is made of: `speaker_label` and `agent_name` name a speaker, `raw_text` is a text.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

TEXTS = (
    "text", "content", "message", "value", "body", "utterance",
    "parts", "utterances", "lines", "transcript", "messagetext", "textcontent", "msg", "line", "sentence", "caption",
    "utt", "refusal", "htmlbody", "messageparts", "sentences", "mes", "txt", "said", "speech", "statement", "tweet",
    "transcription", "alternatives", "nbest", "words", "word", "segment", "elements",
    "display",
)  # fmt: skip
MAY_BE_NUMBERS = frozenset(TEXTS[:6])  # a `line` that is a number counts lines
SPEAKERS = (
    "sendername", "speakername", "authorname", "fromname", "participantname", "displayname", "nickname",
    "sender", "speaker", "author", "from", "name", "username", "user", "participant", "agent", "who", "role",
    "senderid", "speakerid", "authorid", "fromid", "participantid", "userid",
    "creator", "createdby", "sentby", "postedby", "writer", "character", "person", "member", "senders", "u",
    "senderrole", "speakerrole", "authorrole", "participantrole", "agentrole",
    "sendertype", "speakertype", "authortype", "participanttype", "direction",
)  # fmt: skip
PARTNERS = ("contact", "contactname", "handle", "handleid")
"""With whom the phone's owner talks, in backups of phones."""
ROLES = (
    "human", "ai", "user", "assistant", "system", "developer", "tool", "function", "agent", "customer", "bot", "client",
    "incoming", "outgoing",
)  # fmt: skip
"""What `type` may say of a speaker, in LangChain or Signal, and the first of a pair of texts."""
NAMES = (
    "nickname", "displayname", "globalname", "realname", "fullname", "name", "firstname", "first",
    "username", "screenname", "handle", "login", "profile", "user", "title", "label", "email", "phone", "role", "id",
    "userid",
)  # fmt: skip
"""Keys of a speaker that is an object: names for people first, then those for programs."""
LISTS = (
    "messages", "conversations", "conversation", "turns", "dialogue", "dialog", "utterances", "segments", "history",
    "chat", "log", "comments", "conversationparts", "chatmessages", "contents",
    "transcript", "data", "items", "value",
)  # fmt: skip

_WHO = (
    "speaker|sender|author|from|user|participant|agent|creator|poster|writer|character|char|person|member|talker|caller"
    "|operator|visitor|customer|client|actor|persona|role|spk|owner|commenter"
)
SIDES = frozenset((*ROLES, *_WHO.split("|"), "me", "them"))
"""What a speaker may be called after the role or the side."""
_OF_WHOM = "name|label|display|full|first|screen|nick|id|idx|role|type|tag|email|handle|alias"
_NAMES_A_SPEAKER = re.compile(
    rf"(?!useragent)(?:message|msg|turn|chat)?(?:{_OF_WHOM})*(?:{_WHO})(?:{_WHO}|{_OF_WHOM}|purpose)*"
    r"|nick|(?:full|first|real|screen)name|by|party|identity"
)
_IS_A_TEXT = re.compile(
    r"(?=.*(?:text|content|body|message|utterance|transcript))(?:raw|full|plain|clean|stripped|normali[sz]ed|original"
    r"|display|rendered|spoken|turn|chat|comment|post|html|message|msg|utterance|sentence|transcript|text|content|body)+"
)
_SPEAKERS_OF_LINES = re.compile("(?:speaker|sender|author|role|spk)(?:name|label|role|id|idx)?s?")
_SIDE = re.compile(
    r"(?:is|from|isfrom|by|sentby)?(?:(user|human|customer|client|visitor|bot|ai|assistant|agent|operator|staff)"
    r"|(me|mine|self|(?<=is)sen[dt]|outgoing|outbound)|(?:incoming|inbound))(?:message|msg)?"
)
_OTHER_SIDE = {"user": "assistant", "human": "bot", "agent": "customer", "operator": "customer", "staff": "customer"}
_TRUTHS = {True: True, False: False, "true": True, "false": False, "1": True, "0": False}


@lru_cache(10_000)
def plain_key(key: object) -> str:
    """A key without case and separators."""
    return str(key).replace("_", "").replace("-", "").replace(" ", "").lower()


@lru_cache(1_000)
def texts_among(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a message's keys that may hold its text, the likeliest first."""
    return (
        *(key for key in TEXTS if key in keys),
        *(key for key in keys if _IS_A_TEXT.fullmatch(key) and key not in TEXTS),
    )


@lru_cache(1_000)
def speakers_among(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a message's keys that may name its speaker, the likeliest first."""
    known = [key for key in SPEAKERS if key in keys]
    others = [key for key in keys if _NAMES_A_SPEAKER.fullmatch(key) and key not in SPEAKERS]
    ordered = [*known, *sorted(others, key=lambda key: ("name" not in key, key.endswith(("id", "role", "type"))))]
    names = [key for key in others if "name" in key and "role" not in key and "type" not in key]
    for name in names:  # `sender_full_name` says more than `sender_id`
        before = ordered[: ordered.index(name)]
        if other := next((key for key in before if (stem := _stem(key)) and name.startswith(stem)), None):
            ordered.remove(name)
            ordered.insert(ordered.index(other), name)
    return tuple(ordered)


def _stem(key: str) -> str:
    """`sender` of `senderid`, `senderrole` and `sendertype`; empty for other keys."""
    end = next((end for end in ("id", "role", "type") if key.endswith(end)), key)
    return key.removesuffix(end)


@lru_cache(1_000)
def speaker_columns(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Those columns beside that of the lines that may hold their speakers."""
    return tuple(column for column in columns if _SPEAKERS_OF_LINES.fullmatch(plain_key(column)))


def side_of(message: Mapping[str, Any], partner: str) -> str:
    """Which side a message is from, by a key such as `is_user` or `from_me` that is true or false; empty if none tells.

    Args:
        partner: with whom the phone's owner talks.
    """
    for key, value in message.items():
        side = _side(key)
        value = (
            _TRUTHS.get(value.lower() if isinstance(value, str) else value)
            if isinstance(value, str | int | float)
            else None
        )
        if side and value is not None:
            mine, others = side
            return (mine if value else others) or partner or "them"
    return ""


@lru_cache(10_000)
def _side(key: str) -> tuple[str, str] | None:
    """The speaker where a key is true, and where it is false; empty for the owner's partner."""
    match = _SIDE.fullmatch(key)
    if not match:
        return None
    if match[1]:
        return match[1], _OTHER_SIDE.get(match[1], "user" if match[1] in ("bot", "ai", "assistant") else "agent")
    return ("me", "") if match[2] else ("", "me")
