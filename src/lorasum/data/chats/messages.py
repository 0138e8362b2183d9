"""Turns lists of messages, as chat APIs, help desks and exports store them, into text. Pure functions.

A message is an object with a text and a speaker. Each has many names, such as `content` or `body`. The first name that
has a value counts, so that the empty columns of a Parquet file do no harm.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from lorasum.config.data import Messages
from lorasum.data.chats.order import oldest_first
from lorasum.data.chats.unsaid import UNSAID, is_notice
from lorasum.data.chats.written import is_html, looks_broken, mended, words_of, written

_TEXTS = (
    "text", "content", "message", "value", "body", "utterance",
    "parts", "utterances", "lines", "transcript", "messagetext", "textcontent", "msg", "line", "sentence", "caption",
    "utt", "refusal", "htmlbody",
)  # fmt: skip
_MAY_BE_NUMBERS = frozenset(_TEXTS[:6])  # a `line` that is a number counts lines
_SPEAKERS = (
    "sendername", "speakername", "authorname", "fromname", "participantname", "displayname", "nickname",
    "sender", "speaker", "author", "from", "name", "username", "user", "participant", "agent", "who", "role",
    "senderid", "speakerid", "authorid", "fromid", "participantid", "userid",
    "creator", "createdby", "sentby", "postedby", "writer", "character", "person", "member",
    "senderrole", "speakerrole", "authorrole", "participantrole", "agentrole",
    "sendertype", "speakertype", "authortype", "participanttype", "direction",
)  # fmt: skip
_MINE = ("isfromme", "fromme", "isoutgoing", "outgoing")
"""Whether a message is of the phone's owner: backups of phones tell that, and with whom the owner talks."""
_PARTNERS = ("contact", "contactname", "handle", "handleid")
_ROLES = (
    "human", "ai", "user", "assistant", "system", "developer", "tool", "function", "agent", "customer", "bot", "client",
    "incoming", "outgoing",
)  # fmt: skip
"""What `type` may say of a speaker, in LangChain or Signal, and the first of a pair of texts."""
_NAMES = (
    "nickname", "displayname", "globalname", "realname", "fullname", "name", "firstname",
    "username", "screenname", "handle", "login", "profile", "user", "title", "label", "email", "phone", "role", "id",
    "userid",
)  # fmt: skip
"""Keys of a speaker that is an object: names for people first, then those for programs."""
_LISTS = (
    "messages", "conversations", "conversation", "turns", "dialogue", "dialog", "utterances", "segments", "history",
    "chat", "log", "comments", "conversationparts", "chatmessages", "contents",
    "transcript", "data", "items", "value",
)  # fmt: skip


class MessageError(ValueError):
    """A value is no dialogue; the message says what is wrong with it."""


def render_messages(messages: Iterable[Any], how: Messages) -> str:
    """One line a message. A message without text (a picture, a call of a tool, a notice) is left out.

    Raises:
        MessageError: one of them is no message, or none has text.
    """
    given = list(messages)
    lines = lines_of(given, how)
    if not lines:
        keys = dict.fromkeys(key for message in given if isinstance(message, Mapping) for key in message)
        listed = f"; their keys are {', '.join(map(str, list(keys)[:12]))}" if keys else ""
        raise MessageError(f"no message has text under {', '.join(_TEXTS[:6])}{listed}")
    return "\n".join(lines)


def lines_of(messages: Iterable[Any], how: Messages) -> list[str]:
    """The lines of the messages that have text.

    Raises:
        MessageError: one of them is no message.
    """
    lines = []
    for number, message in enumerate(messages, 1):
        if message is None or (isinstance(message, str) and not message.strip()):
            continue
        if isinstance(message, str):
            lines.append(message.strip())
            continue
        if not isinstance(message, Mapping):
            raise MessageError(f"message {number} is not an object")
        if is_notice(message):
            continue
        plain = _plain_keys(message)
        if text := _text_in(plain, number):
            name = _speaker_in(plain)
            shown = how.speakers.get(name, name)
            lines.append(how.format.replace("{speaker}", shown).replace("{text}", text) if shown else text)
    return lines


def text_of(message: Mapping[str, Any], number: int = 1) -> str:
    """The text of a message: the first of its texts that is not empty.

    Raises:
        MessageError: the value is no text.
    """
    return _text_in(_plain_keys(message), number)


def _text_in(plain: Mapping[str, Any], number: int) -> str:
    keys = (key for key in _TEXTS if key in plain and (key in _MAY_BE_NUMBERS or isinstance(plain[key], str | list)))
    text, key = next(((text, key) for key in keys if (text := _text(plain[key], number))), ("", ""))
    if key in ("body", "htmlbody") and is_html(text):
        return words_of(text)  # of a help desk
    inner = (
        (plain[key] for key in ("data", "kwargs", "audio") if isinstance(plain.get(key), Mapping)) if not text else ()
    )
    return text or next((nested for one in inner if (nested := text_of(one, number))), "")


def speaker_of(message: Mapping[str, Any]) -> str:
    """The speaker of a message; empty if it has none. A message may be inside another one (`{message: {role: …}}`)."""
    return _speaker_in(_plain_keys(message))


def _speaker_in(plain: Mapping[str, Any]) -> str:
    of_a_tool = plain.get("role") in ("tool", "function")
    keys = (key for key in _SPEAKERS if key in plain and not (of_a_tool and key == "name"))
    if name := next((name for key in keys if (name := _name(plain[key]))), ""):
        return name
    if plain.get("type") in _ROLES:
        return str(plain["type"])
    within = ("message", "content", "text", "value", "data", "kwargs")
    inner = (speaker_of(plain[key]) for key in within if isinstance(plain.get(key), Mapping))
    if name := next((name for name in inner if name), ""):
        return name
    mine = next((bool(plain[key]) for key in _MINE if key in plain), None)
    partner = next((name for key in _PARTNERS if (name := _name(plain.get(key)))), "them" if mine is False else "")
    return "me" if mine else partner


def messages_in(value: Any) -> list[Any] | None:
    """The messages in a cell: a list, a column of lists, an object that holds one, or any of these written as text.

    None for anything else, which may be text.
    """
    if isinstance(value, str):
        value = written(value)
    if isinstance(value, Mapping):
        return _of_object(value)
    if hasattr(value, "tolist") and not isinstance(value, str):
        value = value.tolist()  # numpy's, from Parquet
    if not isinstance(value, list | tuple) or not value:
        return None
    if all(isinstance(pair, list) and len(pair) == 2 and all(isinstance(one, str) for one in pair) for pair in value):
        names = {name for name, _ in value}
        named = len(names) < len(value) or names <= {*_ROLES}
        return [{"speaker": name, "text": text} for name, text in value] if named else list(value)
    return oldest_first([_as_object(message) for message in value])


def _as_object(message: Any) -> Any:
    """A message as an object, if it is JSON text or one of Arrow's maps. Other values are returned unchanged."""
    if isinstance(message, str) and message.lstrip().startswith("{"):
        read = written(message)
        return read if isinstance(read, Mapping) and _has_text(read) else message
    if isinstance(message, list) and message and all(isinstance(pair, tuple) and len(pair) == 2 for pair in message):
        return dict(message)
    return message


def looks_like_messages(messages: Sequence[Any]) -> bool:
    """Whether a list holds only messages, or only lines of text. This tells dialogues from other JSON data."""
    given = [message for message in messages if message is not None]
    if given and all(isinstance(message, str) for message in given):
        return len(given) > 1
    return bool(given) and all(isinstance(message, Mapping) for message in given) and any(map(_has_text, given))


def dialogue_of(value: Any, how: Messages) -> str | None:
    """The text of a dialogue that is stored as text, as messages, or as messages in JSON or in Python's notation.

    None if `value` is none of these.

    Raises:
        MessageError: it is a list of messages with something wrong in it.
    """
    messages = messages_in(value)
    if messages is not None and (not isinstance(value, str) or looks_like_messages(messages)):
        return render_messages(messages, how)
    if not isinstance(value, str):
        return None
    if value.strip() in ("[]", "{}"):
        raise MessageError("it is an empty list")
    if messages is None and looks_broken(value):
        raise MessageError("it looks like messages, and is neither JSON nor what Python prints: it may be cut off")
    return mended(value)


def _of_object(value: Mapping[str, Any]) -> list[Any] | None:
    plain = _plain_keys(value)
    begins = plain.get("source") if "conversationparts" in plain else None  # what opened a conversation of Intercom
    opening = [begins] if isinstance(begins, Mapping) and _has_text(begins) else []
    if listed := _listed(plain):
        return [*opening, *oldest_first(listed)]
    if not _has_text(value):
        within = [_listed(_plain_keys(inner)) for inner in value.values() if isinstance(inner, Mapping)]
        if len(found := [listed for listed in within if listed]) == 1:
            return [*opening, *oldest_first(found[0])]  # {"results": {"utterances": […]}}
    texts = next((plain[key] for key in _TEXTS if isinstance(plain.get(key), list)), None)
    if texts is not None and (rows := _of_columns(plain, texts)):
        return rows
    if value and all(isinstance(message, Mapping) and _has_text(message) for message in value.values()):
        return list(value.values())  # by number, as pandas writes an index
    return [value] if _has_text(value) else None


def _of_columns(plain: Mapping[str, Any], texts: list[Any]) -> list[Any]:
    """The messages in columns that are lists; empty if they are none, but the parts of one message's text."""
    lists = {key: column for key, column in plain.items() if isinstance(column, list)}
    if any(key in lists and len(lists[key]) != len(texts) for key in _SPEAKERS):
        raise MessageError(f"it has {len(texts)} texts, and another number of speakers")
    same = {key: column for key, column in lists.items() if len(column) == len(texts)}
    rows = [dict(zip(same, row, strict=True)) for row in zip(*same.values(), strict=True)]
    return rows if len(same) == len(lists) and looks_like_messages(rows) else []


def _listed(plain: Mapping[str, Any]) -> list[Any]:
    """The list of messages under one of its names; empty if there is none."""
    lists = (plain[key] for key in _LISTS if isinstance(plain.get(key), list))
    return next((messages for messages in lists if messages and looks_like_messages(messages)), [])


def _has_text(message: Mapping[str, Any]) -> bool:
    plain = _plain_keys(message)
    return any(isinstance(plain.get(key), str | list | Mapping) for key in _TEXTS)


def _plain_keys(message: Mapping[Any, Any]) -> dict[str, Any]:
    """The values that are set, by key without case and separators: `senderName` and `Sender Name` are the same key."""
    plain: dict[str, Any] = {}
    for key, value in message.items():
        if value is not None:
            plain.setdefault(_plain_key(key), value)
    return plain


@lru_cache(10_000)
def _plain_key(key: object) -> str:
    return str(key).replace("_", "").replace("-", "").replace(" ", "").lower()


def _name(value: Any) -> str:
    """A speaker's name. Numbers are names too, even 0."""
    if isinstance(value, str):
        return mended(value).strip().removesuffix(":")
    if isinstance(value, list) and len(value) == 1:
        return _name(value[0])
    if isinstance(value, Mapping):
        plain = _plain_keys(value)
        key = next((key for key in _NAMES if _name(plain.get(key))), None)
        if key is None:
            return next((name for name in map(_name, plain.values()) if name), "") if len(plain) == 1 else ""
        last = _name(plain.get("lastname")) if key == "firstname" else ""
        return f"{_name(plain[key])} {last}".strip()
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}" if value == value else ""  # a number that is missing is NaN
    return str(value) if isinstance(value, int) else ""


def _text(value: Any, number: int) -> str:
    """A message's text: one piece, or the text pieces of several."""
    if isinstance(value, str):
        return mended(value).strip()
    if isinstance(value, Mapping):
        if str(value.get("type", value.get("content_type"))) in UNSAID:
            return ""
        text = text_of(value, number)
        return words_of(text) if value.get("contentType") == "html" else text
    if isinstance(value, list):
        pieces = [piece if isinstance(piece, str) else _text(piece, number) for piece in value]
        runs = any(isinstance(piece, str) for piece in value) and any(isinstance(piece, Mapping) for piece in value)
        between = "" if runs else " "  # Telegram cuts a text where a link begins; others list paragraphs
        return mended(between.join(piece for piece in pieces if piece)).strip()
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MessageError(f"message {number} is not text ({type(value).__name__})")
    return str(value)
