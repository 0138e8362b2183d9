"""Finds the dialogue and the summary in a row of training data. Pure functions.

A row that has the columns of `data.columns` is read by these. If they are not set and the row has neither, it may be in
a form of fine-tuning tools, such as prompt and completion. Its answer is then the summary.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lorasum.config.data import Columns
from lorasum.data.chats.keys import speaker_columns
from lorasum.data.chats.message import is_assistants, speaker_of, text_of
from lorasum.data.chats.messages import beside_speakers, looks_like_messages, messages_in
from lorasum.data.chats.unsaid import without_thoughts
from lorasum.data.chats.written import written
from lorasum.data.files.json_shapes import are_dialogues

KNOWN = "messages or conversations that end with the assistant's turn, prompt and completion, instruction and output"
"""The forms, for messages to people."""

_TURNS = ("messages", "conversations", "conversation", "contents")
_SYSTEMS = ("system", "systemInstruction", "system_instruction")
_PAIRS = (("prompt", "completion"), ("prompt", "response"), ("input", "output"), ("source", "target"))
_INSTRUCTED = (("instruction", "output"), ("instruction", "response"))


class Fields(NamedTuple):
    """What a row holds: a dialogue (text or messages), a summary, and further reference summaries if it has any."""

    dialogue: Any
    summary: Any
    other_references: tuple[str, ...] = ()

    @property
    def holds_something(self) -> bool:
        """Whether there is a dialogue or a summary."""
        return self.dialogue is not None or self.summary is not None


def fields_of(row: Mapping[str, Any], columns: Columns) -> Fields:
    """The dialogue and the summary of a row; each is None if the row has none."""
    given = Fields(_dialogue_of(row, columns.dialogue), _summary_of(row, columns))
    if given.holds_something or columns != Columns():
        first, *others = _references(given.summary)
        return Fields(given.dialogue, first, tuple(others))
    for key in _TURNS:
        messages = messages_in(row.get(key))
        if messages and looks_like_messages(messages):
            return _of_turns(messages, next(filter(None, map(row.get, _SYSTEMS)), None))
    for prompt, completion in _PAIRS:
        if row.get(prompt) is not None and row.get(completion) is not None and "instruction" not in row:
            return _answered(_asked(row[prompt]), row[completion])
    for instruction, output in _INSTRUCTED:
        if row.get(instruction) is not None and row.get(output) is not None:
            return _answered(_instructed(row.get("system"), row[instruction], row), row[output])
    return given


def _instructed(system: Any, instruction: Any, row: Mapping[str, Any]) -> Any:
    """An instruction and its input, behind the pairs of turns in `history`, if there are some."""
    texts = [part.strip() for part in (instruction, row.get("input")) if isinstance(part, str) and part.strip()]
    begins = [system.strip()] if isinstance(system, str) and system.strip() else []
    history = row.get("history")
    pairs = [pair for pair in history if isinstance(pair, list)] if isinstance(history, list) else []
    if not pairs:
        return "\n\n".join([*begins, *texts])
    said = [*(zip(("user", "assistant"), pair, strict=False) for pair in pairs), [("user", "\n\n".join(texts))]]
    turns = [{"role": role, "content": text} for turn in said for role, text in turn]
    return [*({"role": "system", "content": text} for text in begins), *turns]


def mark_against(row: Mapping[str, Any], columns: Columns) -> str:
    """What marks a row as one that a model must not learn, such as `label: false`; empty if nothing does."""
    if "_task_hash" in row and row.get("answer") in ("reject", "ignore"):  # of Prodigy
        return f"answer: {row['answer']}"
    if str(row.get("label")).lower() == "false" and {"prompt", "completion"} <= {*row}:  # of TRL, for KTO
        return "label: false"
    if columns.dialogue in row or any(one in row for one in columns.summaries) or columns != Columns():
        return ""
    for key in _TURNS:
        held = row.get(key)
        marked = isinstance(held, list) or (isinstance(held, str) and any(mark in held for mark in _LEARNT))
        last = turns[-1] if marked and (turns := messages_in(held)) else None
        keys = last if isinstance(last, Mapping) else {}
        if mark := next((mark for mark in _LEARNT if keys.get(mark) in (0, False)), ""):
            return f"{mark}: {keys[mark]}"
    return ""


_LEARNT = ("weight", "train", "training")
"""Keys of a turn, of OpenAI and axolotl, that are 0 or false if a model must not learn it."""


def batch_in(row: Mapping[str, Any], columns: Columns) -> int:
    """How many dialogues a row holds beside as many summaries, as a library's batch of rows does; 0 if it holds one."""
    held = [value_at(row, column) for column in (columns.dialogue, *columns.summaries)]
    if all(isinstance(one, str) and one.startswith("[") for one in held):  # printed, in a cell of CSV
        held = [written(one) for one in held]
    dialogues, *summaries = held
    if count := _as_many(dialogues, *summaries):
        return count if _are_dialogues(dialogues) else 0
    if dialogues is not None or columns != Columns():
        return 0
    for prompt, completion in (*_PAIRS, *_INSTRUCTED):
        if (count := _as_many(row.get(prompt), row.get(completion))) and not isinstance(row[prompt][0], Mapping):
            return count
    chats = (row[key] for key in _TURNS if isinstance(row.get(key), list))
    return next((len(several) for several in chats if len(several) > 1 and all(map(_is_answered, several))), 0)


def _as_many(*columns: Any) -> int:
    """The length that several lists have in common; 0 if it is 1, or if they are no such lists."""
    lists = [one for one in columns if isinstance(one, list) and len(one) > 1]
    return len(lists[0]) if len(lists) == len(columns) and len({*map(len, lists)}) == 1 else 0


def _are_dialogues(values: Sequence[Any]) -> bool:
    """Whether each of a list is a dialogue, and so not a turn of one: a text of several turns, or messages."""
    turns = [messages_in(one) for one in values if not isinstance(one, str)]
    several = [one for one in turns if one and len(one) > 1 and all(isinstance(turn, Mapping) for turn in one)]
    return len(several) == len(values) or are_dialogues(values)


def _is_answered(chat: Any) -> bool:
    return isinstance(chat, list) and bool(chat) and isinstance(chat[-1], Mapping) and is_assistants(chat[-1])


def _dialogue_of(row: Mapping[str, Any], column: str) -> Any:
    """The value of the dialogue's column. Beside it stands the first message in a row of Intercom, and lists of
    speakers in rows of other sources."""
    value = value_at(row, column)
    if speaker_columns(tuple(row)):
        lines = messages_in(value)
        if lines and all(isinstance(line, str) for line in lines):
            return beside_speakers(lines, row)
    return {"source": row.get("source"), column: value} if column == "conversation_parts" and value else value


def _summary_of(row: Mapping[str, Any], columns: Columns) -> Any:
    """The value of the summary's column; of several columns, a list of what they hold."""
    if isinstance(columns.summary, str):
        return value_at(row, columns.summary)
    held = [one for column in columns.summary for one in _references(value_at(row, column))]
    return [one for one in held if one is not None and one == one] or None  # not NaN


def value_at(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column. `annotations.summary` is the key `summary` of the object in the column `annotations`."""
    if column in row or "." not in column:
        value = row.get(column)
        return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    outer, _, inner = column.partition(".")
    return value_at(row[outer], inner) if isinstance(row.get(outer), Mapping) else None


def _of_turns(messages: Sequence[Any], system: Any = None) -> Fields:
    """Turns of a chat with a model. The assistant's last turn is the summary, and the turns before are the dialogue."""
    turns = [turn for turn in messages if isinstance(turn, Mapping)]
    if not turns or not is_assistants(turns[-1]):
        return Fields(list(messages), None)
    before = list(messages[:-1])
    if isinstance(system, str | list | Mapping) and text_of({"content": system}):
        before.insert(0, {"role": "system", "content": system})
    return Fields(_asked(before), without_thoughts(text_of(turns[-1])))


def _asked(prompt: Any) -> Any:
    """A prompt: text, or turns. If the user has one turn, that is the dialogue, after the system's text."""
    turns = messages_in(prompt) if not isinstance(prompt, str) else None
    if turns is None or not all(isinstance(turn, Mapping) for turn in turns):
        return prompt
    users = [turn for turn in turns if speaker_of({**turn, "name": None}).lower() not in ("system", "developer")]
    return "\n\n".join(filter(None, map(text_of, turns))) if len(users) == 1 else turns


def _answered(dialogue: Any, completion: Any) -> Fields:
    """A dialogue and its completion: text, several of them, or the assistant's turn in a list of messages."""
    turns = messages_in(completion) if not isinstance(completion, str) else None
    answers = [text_of(turns[-1])] if turns and isinstance(turns[-1], Mapping) else _references(completion)
    first, *others = [without_thoughts(one) if isinstance(one, str) else one for one in answers]
    return Fields(dialogue, first, tuple(others))


def _references(summary: Any) -> list[Any]:
    """A summary, or each of several references that has text, or the answer that turns end with; at least one item. A
    text is one summary, also if it is a JSON list: a model may have to answer with one. Label Studio writes several as
    `{"text": […]}`."""
    held = written(summary) if isinstance(summary, str) and summary.startswith('{"text"') else summary
    if isinstance(held, Mapping) and [*held] == ["text"] and isinstance(held["text"], list):
        summary = held["text"]
    if isinstance(summary, list) and summary and all(isinstance(one, Mapping) for one in summary):
        return [without_thoughts(text_of(summary[-1]))] if is_assistants(summary[-1]) else [summary]
    if isinstance(summary, list) and summary and all(isinstance(one, str) or one is None for one in summary):
        return [one for one in summary if one and one.strip()] or [""]
    return [summary]
