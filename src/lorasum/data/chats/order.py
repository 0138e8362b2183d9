"""Puts messages in order of time, and replies behind what they answer. Pure functions."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from itertools import pairwise, takewhile
from operator import itemgetter
from typing import Any

from lorasum.data.chats.keys import plain_key
from lorasum.data.chats.message import has_text, plain_keys, speaker_in, text_of

_TELLS_TIME = re.compile(
    r"(?=.*(?:time|date|stamp|created|posted|published|received|delivered|sent|ts$|when)|at$)"
    r"(?:message|msg|post|comment|tweet|turn|utterance|origin|server|internal|local|sen[dt]|created?|creation|posted"
    r"|publish(?:ed)?|received?|delivered|date|time|stamp|when|utc|gmt|iso|unix|epoch|seconds|milliseconds|millis|ms|ts|at|on)+"
)
"""Keys of the time at which a message was sent, and not, as `delivery_date`, of what it is about."""
_NUMBERS_MESSAGES = re.compile(
    r"(?:message|msg|turn|utterance|line)?(?:seq|sequence|index|idx)(?:number|num|no|id)?"
    r"|(?:message|msg|turn|utterance|line)(?:number|num|no|order)|turn"
)
"""Keys under which messages are numbered."""
_OF_APPS = ("timestamp_ms", "timestamp", "createdDateTime", "created_at", "sent_at", "date", "time")
"""Keys of that time in the exports of apps."""
_DATE = re.compile(r"(\d{4})([-/])(\d\d)\2(?=\d\d)")
_NO_ISO = re.compile(r" (?=[+-]\d)| ?(?:UTC|GMT)$")
"""What databases write around the zone of an ISO date, `10:02:00 +0000 UTC`, and Python does not read."""
_SHORT_HOUR = re.compile(r"(?<=\d[T ])(?=\d:)")
_MAIL_DATE = re.compile(r"(?:[A-Z][a-z]{2}, )?\d{1,2} [A-Z][a-z]{2} \d{4} \d\d:")
_SLASHED = re.compile(
    r"(\d{1,2})[./-](\d{1,2})[./-](\d{4}),? (\d{1,2}):(\d\d)(?::(\d\d))?(?:[ \u202f]?([ap])\.?m\.?)?", re.IGNORECASE
)
"""A date whose first number may be the month or the day, and a time."""
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_IN_ENGLISH = re.compile(
    r"(?:([A-Z][a-z]{2})[a-z]*\.? (\d{1,2})|(\d{1,2})[ -]([A-Z][a-z]{2})[a-z]*),?[ -](?:20)?(\d\d),?(?: at)?(?= \d)"
)
_ORDERS = (slice(0, 2), slice(1, None, -1))
_DIGITS = re.compile(r"\d{9,19}(?:\.\d+)?")
_EPOCHS = [(1e9 * unit, 4e9 * unit) for unit in (1, 1e3, 1e6, 1e9)]
"""Times of 2001 to 2096, in seconds since 1970 and in parts of one: other numbers are durations or offsets."""
_HOLDS_TIME = ("$date", "$numberLong", "_seconds", "seconds")
"""Keys of a time that is an object, of MongoDB and Firestore."""
_HOLDS_LIST = ("nodes", "edges", "data", "children")
_IDS = frozenset(("id", "uuid", "messageid", "commentid", "replyid"))
_REPLIES = frozenset(("replies", "children", "comments"))


def oldest_first(messages: Sequence[Any]) -> list[Any]:
    """`messages`, turned round if all tell their time and the newest is first, as many services answer. Each one's
    replies follow it."""
    return _with_replies(_turned(messages))


def by_time(messages: Sequence[Any]) -> list[Any]:
    """The messages in order of time, if all tell it. Each one's replies follow it."""
    times = next(_times_of(messages, _OF_APPS), [])
    places = sorted(range(len(times)), key=times.__getitem__)
    return _with_replies([messages[place] for place in places] if times else messages)


def _turned(messages: Sequence[Any]) -> Sequence[Any]:
    """The messages, turned round if the times under some key fall, and under no other key rise. Where times do not
    tell, their numbers do."""
    ends = [messages[0], messages[-1]] if messages else []
    directions = {_direction(times) for times in _times_of(ends)}
    if -1 in directions:  # in few lists
        directions = {_direction(times) for times in _times_of(messages)}
        return messages[::-1] if -1 in directions and 1 not in directions else messages
    return messages if 1 in directions else _by_number(messages)


def _by_number(messages: Sequence[Any]) -> Sequence[Any]:
    """The messages in the order of a key such as `seq`, if it numbers all of them without a gap and no other number
    rises, as `start` does where the speech of two channels was merged."""
    first = messages[0] if messages else None
    keys = [key for key in first if _numbers_messages(key)] if isinstance(first, Mapping) else []
    if not keys or not all(isinstance(message, Mapping) for message in messages):
        return messages
    others = ([message.get(key) for message in messages] for key in messages[0] if key not in keys)
    if any(all(type(one) in (int, float) for one in values) and _direction(values) == 1 for values in others):
        return messages
    for key in keys:
        texts = [str(message.get(key)) for message in messages]
        numbers = [int(text) for text in texts if text.isdecimal()]
        if numbers != sorted(numbers) and {*numbers} == {*range(min(numbers), min(numbers) + len(messages))}:
            return [message for _, message in sorted(zip(numbers, messages, strict=True), key=itemgetter(0))]
    return messages


def _direction(times: Sequence[float]) -> int:
    """1 if times rise, -1 if they fall, 0 if they do neither."""
    if all(one >= following for one, following in pairwise(times)):
        return -1 if times[0] > times[-1] else 0
    return 1 if all(one <= following for one, following in pairwise(times)) else 0


def _times_of(messages: Sequence[Any], among: Sequence[str] = ()) -> Iterator[list[float]]:
    """For each key under which all messages tell their time, and each way to read its dates: the times, as numbers that
    can be compared.

    Args:
        among: the only keys to look at, the likeliest first, if an app is known to have written the messages. Then
            any number is a time.
    """
    first = messages[0] if messages else None
    keys = [key for key in among or first if key in first and _tells_time(key)] if isinstance(first, Mapping) else []
    if not keys or not all(isinstance(message, Mapping) for message in messages):
        return
    for key in keys:
        values = [message.get(key) for message in messages]
        given = values[0] if isinstance(values[0], str) else ""
        in_numbers = _in_numbers(given)
        slashed = _WAYS if in_numbers == given else _WAYS[:2]  # an English date tells its month
        for read in slashed if _SLASHED.fullmatch(in_numbers) else (partial(_time, sure=bool(among)),):
            times = list(takewhile(lambda time: time is not None, map(read, values)))
            if len(times) == len(messages):
                yield [time for time in times if time is not None]


@lru_cache(1_000)
def _numbers_messages(key: object) -> bool:
    return bool(_NUMBERS_MESSAGES.fullmatch(plain_key(key)))


@lru_cache(1_000)
def _tells_time(key: object) -> bool:
    return bool(_TELLS_TIME.fullmatch(plain_key(key)))


def _time(value: Any, sure: bool) -> float | None:
    """A number that grows with the time; None if `value` is no time."""
    while isinstance(value, Mapping):
        value = next((value[key] for key in _HOLDS_TIME if key in value), None)
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value if sure or any(first <= value < last for first, last in _EPOCHS) else None
    if not isinstance(value, str):
        return None
    try:
        if _DATE.match(value):
            date = _DATE.sub(r"\1-\3-", value, count=1)
            time = datetime.fromisoformat(_SHORT_HOUR.sub("0", _NO_ISO.sub("", date)))
        elif _MAIL_DATE.match(value):
            time = parsedate_to_datetime(value)
        else:
            return None
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _in_numbers(time: str) -> str:
    """A time with its date in numbers, if that is in English: `6/3/2024 10:01 AM` for `Jun 3, 2024, 10:01 AM`."""
    if not (date := _IN_ENGLISH.match(time)):
        return time
    place = _MONTHS.find(date[1] or date[4])
    return f"{place // 3 + 1}/{date[2] or date[3]}/20{date[5]}{time[date.end() :]}" if place % 3 == 0 else time


def _slashed(value: Any, month_and_day: slice, twelve: bool) -> float | None:
    """The time of a slashed date; None if it cannot be read in this way.

    Args:
        twelve: a time without AM or PM is one of a clock with 12 hours.
    """
    if not (isinstance(value, str) and (match := _SLASHED.fullmatch(_in_numbers(value)))):
        return None
    hour, minute, second = (int(part or 0) for part in match.groups()[3:6])
    if twelve and hour > 12:
        return None
    if twelve or match[7]:
        hour = hour % 12 + 12 * ((match[7] or "a") in "pP")
    month, day = (int(part) for part in match.groups()[:2][month_and_day])
    try:
        return datetime(int(match[3]), month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return None


_WAYS = [partial(_slashed, month_and_day=part, twelve=hours) for part in _ORDERS for hours in (False, True)]


def _with_replies(messages: Sequence[Any]) -> list[Any]:
    """The messages, each followed by its replies and by theirs; none that is in the list itself."""
    if not any(isinstance(message, Mapping) and not _REPLIES.isdisjoint(message) for message in messages):
        return list(messages)
    known = {_identity(message) for message in messages if isinstance(message, Mapping) and has_text(message)}
    ordered: list[Any] = []
    waiting = list(reversed(messages))
    while waiting:
        message = waiting.pop()
        key, replies = _replies_to(message)
        ordered.append({name: value for name, value in message.items() if name != key} if replies else message)
        waiting += [reply for reply in reversed(replies) if _identity(reply) not in known]
    return ordered


def _identity(message: Mapping[str, Any]) -> tuple[str, str]:
    """What is the same of a reply where it is nested and where it is in the list itself."""
    if "id" in message:
        return str(message["id"]), text_of(message)
    return "", repr({key: value for key, value in message.items() if key not in _REPLIES})


def _unwrapped(reply: Any) -> Any:
    """A reply that is inside of another object, as GraphQL's edges and Reddit have it."""
    inner = reply.get("node", reply.get("data")) if isinstance(reply, Mapping) and not has_text(reply) else None
    return inner if isinstance(inner, Mapping) else reply


def _is_reply(key: str, value: Any) -> bool:
    """Whether somebody said `value`. A button has a name too; a mention has a type, and a note of who labels data is a
    comment: they have no id and no time."""
    if not (isinstance(value, Mapping) and has_text(value)):
        return False
    plain = {name: held for name, held in plain_keys(value).items() if name != "name"}
    may_be_other = key == "comments" or "type" in plain
    return bool(speaker_in(plain)) and (not may_be_other or any(name in _IDS or _tells_time(name) for name in plain))


def _replies_to(message: Any) -> tuple[str, list[Any]]:
    """The key of a message's replies, and these, the oldest first; messages have speakers."""
    for key in message if isinstance(message, Mapping) else ():
        held = message[key] if key in _REPLIES else None
        while isinstance(held, Mapping):
            held = next((held[name] for name in _HOLDS_LIST if name in held), None)
        replies = [_unwrapped(one) for one in held] if isinstance(held, list) else []
        if replies and all(_is_reply(key, one) for one in replies):
            return key, list(_turned(replies))
    return "", []
