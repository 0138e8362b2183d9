"""Turns lists of messages, as chat APIs, help desks and exports store them, into text. Pure functions.

message.py reads one of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lorasum.config.data import Messages
from lorasum.data.chats.broken import looks_broken
from lorasum.data.chats.keys import LISTS, ROLES, SIDES, SPEAKERS, TEXTS, plain_key, speaker_columns
from lorasum.data.chats.message import (
    NO_NAMES,
    MessageError,
    has_text,
    is_assistants,
    plain_keys,
    speaker_in,
    speaker_of,
    text_in,
    text_of,
)
from lorasum.data.chats.order import oldest_first
from lorasum.data.chats.unsaid import is_answer_of_a_tool, is_bare_call, is_notice, may_hold_thoughts, without_thoughts
from lorasum.data.chats.written import begun, is_formatted, mended, objects, words_of, written
from lorasum.formatting import listing


def render_messages(messages: Iterable[Any], how: Messages) -> str:
    """One line a message. A message without text (a picture, a call of a tool, a notice) is left out.

    Raises:
        MessageError: one of them is not a message, or none has text.
    """
    given = list(messages)
    lines = lines_of(given, how)
    if not lines:
        keys = dict.fromkeys(key for message in given if isinstance(message, Mapping) for key in message)
        have = f"; their keys are {listing([*map(str, keys)], 12)}" if keys else ""
        raise MessageError(f"no message has text under {', '.join(TEXTS[:6])}{have}")
    return "\n".join(lines)


def lines_of(messages: Iterable[Any], how: Messages) -> list[str]:
    """The lines of the messages that have text.

    Raises:
        MessageError: one of them is not a message.
    """
    said: list[tuple[dict[str, Any], str]] = []  # an object without keys stands for a line without a speaker
    given = list(messages)
    for number, message in enumerate(given, 1):
        if message is None or (isinstance(message, str) and not message.strip()):
            continue
        if isinstance(message, str):
            said.append(({}, message.strip()))
            continue
        if not isinstance(message, Mapping):
            raise MessageError(f"message {number} is not an object")
        plain = plain_keys(message)
        if is_notice(message, speaker_of) or is_bare_call(message, *given[number : number + 1] or [None]):
            continue
        if text := text_in(plain, number):
            if is_answer_of_a_tool(text) and speaker_in(plain).lower() in ("user", "human"):
                continue
            thinks = text.startswith(("<think", "<tool_call>")) or (may_hold_thoughts(text) and is_assistants(message))
            if not thinks or (text := without_thoughts(text)):
                said.append((plain, text))
        else:
            said += [({"speaker": name}, text) for name, text in _turns_by_role(message)]
    said = _without_format(said)
    names = _speakers([plain for plain, _ in said])
    shown = [(how.speakers.get(name, name), text) for name, (_, text) in zip(names, said, strict=True)]
    return [how.format.replace("{speaker}", name).replace("{text}", text) if name else text for name, text in shown]


def _without_format(said: list[tuple[dict[str, Any], str]]) -> list[tuple[dict[str, Any], str]]:
    """Messages without their HTML if most are HTML, as some platforms store them; people paste a page now and then.

    Those without words, such as a picture, are left out. A model and who asks it may talk of the HTML itself.
    """
    formatted = sum(is_formatted(text) for _, text in said)
    if 2 * formatted <= len(said) or any(plain.get("role") == "assistant" for plain, _ in said):
        return said
    bare = [(plain, words_of(text) if is_formatted(text) else text) for plain, text in said]
    return [(plain, text) for plain, text in bare if text]


def _turns_by_role(message: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The turns of an object whose keys are the speakers: `{"user": "is it free?", "assistant": "yes"}`."""
    given = {str(key): value for key, value in message.items() if value is not None}
    turns = [(key, value.strip()) for key, value in given.items() if plain_key(key) in ROLES and isinstance(value, str)]
    others = [value for key, value in given.items() if plain_key(key) not in ROLES]
    numbered = len(turns) > 1 and all(isinstance(value, int) for value in others)  # {"turn": 1, "user": …}
    return [turn for turn in turns if turn[1]] if numbered or not others else []


def _speakers(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The speaker of each message; empty if it has none. A name that all messages have, such as that of the account,
    is nobody's if other keys tell the speakers apart."""
    names = [speaker_in(message) for message in messages]
    if len(names) > 1 and len(set(names)) == 1:
        others = [speaker_in(message, but=names[0]) for message in messages]
        if all(others) and len(set(others)) > 1:
            return others
    for word in NO_NAMES.intersection(names):
        names = _without_word(word, names, messages)
    return names


def _without_word(word: str, names: Sequence[str], messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names, without a word that may stand for a missing one. Somebody may also be called `nan` or `None`.

    It is no name if other keys tell several people apart who have it, or tell a role that nobody else has.
    """
    others = [speaker_in(message, but=name) for message, name in zip(messages, names, strict=True)]
    of_word = {other for name, other in zip(names, others, strict=True) if name == word}
    of_names = {other for name, other in zip(names, others, strict=True) if name != word}
    missing = "" not in of_word and (
        len(of_word) > 1 or ({one.lower() for one in of_word} <= SIDES and not of_word & of_names)
    )
    return [other if name == word and missing else name for name, other in zip(names, others, strict=True)]


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
        named = len(names) < len(value) or value[0][0] in ROLES  # who talks to a bot may ask for an `agent` later
        return [{"speaker": name, "text": text} for name, text in value] if named else list(value)
    if (isinstance(value[0], Mapping) and not has_text(value[0])) or isinstance(value[0], list):
        parts = [
            part if isinstance(part, list) else _of_object(part) for part in value if isinstance(part, list | Mapping)
        ]
        if len(parts) == len(value) and all(part and all(isinstance(one, Mapping) for one in part) for part in parts):
            return [message for part in parts for message in part or ()]  # of several sessions
    return oldest_first([_as_object(message) for message in value])


def _as_object(message: Any) -> Any:
    """A message as an object, if it is JSON text or one of Arrow's maps. Other values are returned unchanged."""
    if isinstance(message, str) and message.lstrip().startswith("{"):
        read = written(message)
        return read if isinstance(read, Mapping) and has_text(read) else message
    if isinstance(message, list) and message and all(isinstance(pair, tuple) and len(pair) == 2 for pair in message):
        return dict(message)
    return message


def looks_like_messages(messages: Sequence[Any]) -> bool:
    """Whether a list holds only messages, or only lines of text. This tells dialogues from other JSON data."""
    given = [message for message in messages if message is not None]
    if given and all(isinstance(message, str) for message in given):
        return len(given) > 1
    return bool(given) and all(isinstance(message, Mapping) for message in given) and any(map(has_text, given))


def dialogue_of(value: Any, how: Messages) -> str | None:
    """The text of a dialogue that is stored as text, as messages, or as messages in JSON or in Python's notation.

    None if `value` is none of these.

    Raises:
        MessageError: it is a list of messages with something wrong in it.
    """
    messages = messages_in(value)
    are_given = bool(messages) and all(isinstance(one, Mapping) or _are_texts(one) for one in messages or ())
    if messages is not None and (not isinstance(value, str) or are_given or looks_like_messages(messages)):
        return render_messages(messages, how)
    if not isinstance(value, str):
        return None
    if value.strip() in ("[]", "{}"):
        raise MessageError("it is an empty list")
    if are_broken(value):
        raise MessageError("it looks like messages, and is neither JSON nor what Python prints: it may be cut off")
    return mended(value)


def are_broken(text: str) -> bool:
    """Whether a text that holds no messages looks like some that cannot be parsed. People also begin with other JSON,
    and then talk of it."""
    if not looks_broken(text):
        return False
    whole, rest = begun(text)
    is_one = isinstance(whole, Mapping) and has_text(whole)
    return not rest or rest[0] in "[]{}();,.…" or (not is_one and _are_spoken(messages_in(whole) or []))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _of_object(value: Mapping[str, Any]) -> list[Any] | None:
    plain = plain_keys(value)
    begins = plain.get("source") if "conversationparts" in plain else None  # what opened a conversation of Intercom
    opening = [begins] if isinstance(begins, Mapping) and has_text(begins) else []
    listed = _listed(plain)
    if listed and all(isinstance(line, str) for line in listed):
        return beside_speakers(listed, plain)
    if not (_name_speakers(listed) or _has_sentences(listed) or speaker_in(plain)):
        listed = _only_spoken(value) or listed
    if listed:
        return [*opening, *oldest_first(listed)]
    texts = next((plain[key] for key in TEXTS if isinstance(plain.get(key), list)), None)
    if texts is not None and (rows := _of_columns(plain, texts)):
        return rows
    if value and all(isinstance(message, Mapping) and has_text(message) for message in value.values()):
        keys = [*map(str, value)]
        numbered = all(map(str.isdecimal, keys)) and keys == sorted(keys)  # 1, 10, 2: sorted as texts
        return [value[key] for key in (sorted(value, key=int) if numbered else value)]
    return [value] if has_text(value) else None


def beside_speakers(lines: list[str], beside: Mapping[str, Any]) -> list[Any]:
    """Lines with their speakers, where a list of as many names stands beside them: `{"utt": […], "speaker": […]}`."""
    columns = (beside[column] for column in speaker_columns(tuple(beside)))
    lists = (written(one) if isinstance(one, str) else one for one in columns)
    names = next((one for one in lists if isinstance(one, list) and len(one) == len(lines) > 1), None)
    return (
        list(lines) if names is None else [{"speaker": n, "text": line} for n, line in zip(names, lines, strict=True)]
    )


def keys_without_speaker(value: Any) -> list[str]:
    """The keys of messages of which none tells its speaker; empty for other cells, and where one does."""
    messages = messages_in(value) or []
    told = not all(isinstance(message, Mapping) for message in messages) or _name_speakers(messages)
    return (
        [] if told or len(messages) < 2 else [str(key) for key in dict.fromkeys(key for one in messages for key in one)]
    )


def _name_speakers(messages: Iterable[Any]) -> bool:
    return any(isinstance(message, Mapping) and speaker_of(message) for message in messages)


def _has_sentences(messages: Iterable[Any]) -> bool:
    """Whether some message is longer than a word: recognised speech also lists each word with its speaker."""
    return any(isinstance(message, Mapping) and " " in text_of(message) for message in messages)


def _only_spoken(value: Mapping[str, Any]) -> list[Any]:
    """The list of messages with speakers at any place in decoded JSON; empty if there is none, or several."""
    found = [*_lists_in(value)]
    found = [one for one in found if _has_sentences(one)] or found
    return found[0] if len(found) == 1 else []


def _lists_in(value: Any, depth: int = 8) -> Iterator[list[Any]]:
    """The lists of messages with speakers, but not those inside of messages."""
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for one in inner if depth else ():
        if isinstance(one, list) and one and _are_spoken(one):
            yield one
        else:
            yield from _lists_in(one, depth - 1)


def _are_spoken(given: list[Any]) -> bool:
    """Whether a list is one of messages with speakers, and not of fields such as `{"name": "To", "value": "Ana"}`."""
    messages = [one for one in given if isinstance(one, Mapping)]
    fields = all({"name", "value"} <= plain_keys(one).keys() for one in messages)
    return looks_like_messages(given) and bool(messages) and not fields and _name_speakers(messages)


def _of_columns(plain: Mapping[str, Any], texts: list[Any]) -> list[Any]:
    """The messages in columns that are lists; empty if they are none, but the parts of one message's text."""
    lists = {key: column for key, column in plain.items() if isinstance(column, list)}
    if any(key in lists and len(lists[key]) != len(texts) for key in SPEAKERS):
        raise MessageError(f"it has {len(texts)} texts, and another number of speakers")
    same = {key: column for key, column in lists.items() if len(column) == len(texts)}
    rows = [dict(zip(same, row, strict=True)) for row in zip(*same.values(), strict=True)]
    return rows if len(same) == len(lists) and looks_like_messages(rows) else []


def _listed(plain: Mapping[str, Any]) -> list[Any]:
    """The list of messages under one of its names, which may be JSON text; empty if there is none."""
    for key in LISTS:
        value = plain.get(key)
        messages = objects(written(value)) if isinstance(value, str) else value
        if isinstance(messages, list) and messages and looks_like_messages(messages):
            return messages
    return []
