"""Finds the calls of tools that a model's text ends with. Pure.

A call is certain where nothing but marks and well-formed arguments stands from its mark to the end: people and models
talk of these marks, too.
"""

import ast
import re
from collections.abc import Mapping

from lorasum.data.chats.written import written

_TAGGED = re.compile(
    r"(?:<tool_call>((?:(?!</?tool_call>).)*)</tool_call>"  # Hermes, Qwen, GLM
    r"|<function=[\w.-]+>((?:(?!</?function\b).)*)</function>)\s*",  # Llama
    re.DOTALL,
)
_ALL_TAGGED = re.compile(rf"(?:{_TAGGED.pattern})+", re.DOTALL)
_MARK = re.compile(
    r"<[|｜](?P<tool>/?tool[▁_][^<>|｜\s]{1,40})[|｜]>"  # DeepSeek, Kimi
    r"|\[(?P<mistral>TOOL_CALLS|CALL_ID|ARGS)\]"
    r"|<\|(?P<llama>python_tag)\|>"
)
_BEGINS = re.compile(r"tool[▁_]calls?(?!\w*end$)|TOOL_CALLS|python_tag")
_NAME = re.compile(r"[\w.:-]*")
_NAMED_CALL = re.compile(r"\[?[\w.]+(?:\.call\(|\(\w+ ?=)")
_ENDS = ("</s>", "<|eom_id|>", "<|eot_id|>", "<|im_end|>", "<｜end▁of▁sentence｜>")


def without_calls(text: str) -> str:
    """A model's text without the calls of tools at its end."""
    whole = text.rstrip()
    while whole.endswith(_ENDS):
        whole = whole.rpartition("<")[0].rstrip()
    for tagged in _ALL_TAGGED.finditer(whole):
        if tagged.end() == len(whole) and all(map(_is_tagged_call, _TAGGED.finditer(tagged[0]))):
            return text[: tagged.start()].rstrip()
    begins = _begin_of_marked(whole)
    return text if begins is None else text[:begins].rstrip()


def _begin_of_marked(text: str) -> int | None:
    """Where the calls with marks begin that a text ends with, or None."""
    begins, called, end = None, False, len(text)
    for mark in reversed([*_MARK.finditer(text)]):
        behind = text[mark.end() : end].strip()
        arguments = behind if mark["llama"] else _arguments(behind)
        if mark["llama"]:
            fits = _is_llamas(arguments, alone=not text[: mark.start()].strip())
        else:
            fits = not arguments or _are_objects(written(arguments))
        if not fits:
            break
        called, end = called or bool(arguments), mark.start()
        if _BEGINS.match(mark["tool"] or mark["mistral"] or mark["llama"]):
            begins = mark.start()
    return begins if called else None


def _arguments(behind: str) -> str:
    """What stands behind a mark but for the tool's name and a fence: `track{"id": 7}`."""
    name = _NAME.match(behind)
    held = behind[name.end() if name else 0 :].strip()
    return held.removeprefix("```json").removesuffix("```").strip()


def _is_llamas(call: str, alone: bool) -> bool:
    """Whether a text is what Llama calls: `{"name": …}`, `search(query="x")`, or, where it is alone, Python."""
    if call.startswith("{"):
        return _are_objects(written(call.replace("};", "},")))
    if not alone and not _NAMED_CALL.match(call):
        return False
    try:
        code = ast.parse(call)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return any(isinstance(node, ast.Call) for node in ast.walk(code))


def _are_objects(value: object) -> bool:
    return isinstance(value, Mapping) or (
        isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)
    )


def _is_tagged_call(tagged: re.Match[str]) -> bool:
    """Whether a tool is called between two tags: `{"name": "track", "arguments": {"id": 7}}`."""
    call, arguments = tagged.groups()
    if call is None:
        return arguments.lstrip().startswith("<parameter=") or isinstance(written(arguments), Mapping)
    held = written(call)
    named = isinstance(held, Mapping) and isinstance(held.get("name"), str)
    return named or re.match(r"\s*(?:<function=|[\w.-]+\s*<arg_key>)", call) is not None
