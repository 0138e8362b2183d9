"""What stands among messages, or in one, and nobody said: notices, calls of tools, thoughts, pictures. Pure."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from lorasum.data.chats.calls import without_calls
from lorasum.data.chats.written import written

UNSAID = frozenset((
    "tool_use", "tool_result", "tool_call", "tool_calls", "function_call", "thinking", "redacted_thinking", "reasoning",
    "thoughts", "reasoning_recap", "image", "image_url", "input_image", "audio", "input_audio", "video", "file",
    "input_file", "media", "document", "search_result", "mcp_tool_use", "mcp_tool_result", "server_tool_use",
    "web_search_tool_result", "web_fetch_tool_result", "code_execution_tool_result", "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result", "tool_search_tool_result", "container_upload", "function_call_output",
    "custom_tool_call", "custom_tool_call_output", "reasoning_text", "summary_text", "tool-call", "tool-result",
))  # fmt: skip
"""Types of the parts of a message that nobody says: calls of tools, thoughts, pictures."""
_NOTICES = frozenset((
    "channel_join", "channel_leave", "channel_topic", "channel_purpose", "channel_name", "channel_archive",
    "channel_unarchive", "group_join", "group_leave", "group_topic", "group_purpose", "group_name",
    "group_archive", "group_unarchive", "bot_add", "bot_remove", "pinned_item", "unpinned_item", "tombstone",
    "reminder_add", "channel_convert_to_private", "channel_posting_permissions", "huddle_thread",
    "joiner_notification", "subscribe", "unsubscribe", "guildmemberjoin", "recipientadd",
    "recipientremove", "channelnamechange", "channeliconchange", "channelpinnedmessage", "threadcreated",
    "userpremiumguildsubscription", "usernamechange", "reasoning", "thinking", "channel_canvas_updated",
    "sh_room_created", "sh_room_shared", "channel_convert_to_public", "channel_unshared", "bot_disable",
    "bot_enable", "app_conversation_join", "app_conversation_leave", "message_deleted", "message_replied",
    "ekm_access_denied", "assistant_app_thread", "systemeventmessage", "unsupported", "system_message",
    "joiner_notification_for_inviter", "document_mention", "file_mention", "tabbed_canvas_updated",
))  # fmt: skip
"""Types of messages in exports of Slack, Telegram, Discord, Messenger and Teams, and of models, that nobody said."""
_CALLS_AND_SERVICE = frozenset(("call", "service"))
"""Types of notices of Telegram and Messenger. Elsewhere they say how somebody was reached, or who spoke."""
_CALLS = ("function_call", "tool_call", "tool_calls")
"""Roles of turns that are calls of tools, in the datasets of fine-tuning tools."""


def is_notice(message: Mapping[str, Any], speaker_of: Callable[[Mapping[str, Any]], str] | None = None) -> bool:
    """Whether a message is a notice, such as that somebody joined, left or called, or a model's thought or call.

    Args:
        speaker_of: tells the speaker of a message that stands in a list of no known app.
    """
    for key in ("type", "subtype", "messageType"):
        if not isinstance(kind := message.get(key), str):
            continue
        kind = kind.lower().replace(" ", "")
        if kind in _NOTICES:
            return True
        if kind in _CALLS_AND_SERVICE and not (speaker_of and _is_by_somebody(message, speaker_of)):
            return True
    of_rocket_chat = {"rid", "u"} <= message.keys() and message.get("t") not in (None, "", "e2e", "otr")
    if is_thought(message) or of_rocket_chat:  # its notices have a `t`, and so have messages that were encrypted
        return True
    role = message.get("role", message.get("from"))
    if role == "assistant" and str(message.get("recipient")).startswith("functions."):
        return True
    return role in _CALLS or (role == "assistant" and message.get("channel") == "analysis")  # GPT-OSS thinks there


def _is_by_somebody(message: Mapping[str, Any], speaker_of: Callable[[Mapping[str, Any]], str]) -> bool:
    return speaker_of(message).lower() not in ("", "system", "bot") and "call_duration" not in message


def is_thought(value: Mapping[str, Any]) -> bool:
    """Whether a message or a part of one is what Gemini thinks."""
    return value.get("thought") is True or value.get("isThought") is True


_THOUGHTS = re.compile(
    r"(?:<(?:(think|thinking)>.*?</\1>|tool_call>(?=\s*(?:[{\[<]|[\w.-]+\s*<)).*?</tool_call>)\s*)+", re.DOTALL
)
_HARMONY = re.compile(
    r"(?:<\|start\|>(?P<role>[^<]*))?<\|channel\|>(?P<channel>\w+)(?P<to>[^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(?P<text>.*?)(?:<\|(?:end|return|call)\|>|(?=<\|start\|>)|\Z)\s*",
    re.DOTALL,
)
"""One message in the format of GPT-OSS. The channel `final` is for the user, and so is `commentary` to nobody else."""
_MARKS = (
    "<think",
    "</think>",
    "<tool_call>",
    "[TOOL_CALLS]",
    "<|channel|>",
    "<function=",
    "<|python_tag|>",
    "<|tool",
    "<｜tool",
)


def may_hold_thoughts(text: str) -> bool:
    """Whether `without_thoughts` may change a model's text."""
    return any(mark in text for mark in _MARKS)


def without_thoughts(text: str) -> str:
    """A model's text without the thoughts and calls of tools that it begins with, and the calls that it ends with.

    The tag that begins a thought is missing where it was part of the prompt, as with DeepSeek-R1 and Qwen3. These end
    the line of the other tag, which people who talk of it do not.
    """
    if text.startswith(("<|channel|>", "<|start|>")) and not _HARMONY.sub("", text):
        return "\n".join(said["text"].strip() for said in _HARMONY.finditer(text) if _is_for_user(said))
    thought, ends, answer = text.partition("</think>")
    if ends and "<think>" not in thought and answer[:1] in ("", "\r", "\n"):
        text = answer.lstrip()
    match = _THOUGHTS.match(text)
    text = text[match.end() :] if match else text
    return without_calls(text) if may_hold_thoughts(text) else text


def _is_for_user(said: re.Match[str]) -> bool:
    to_a_tool = "to=" in f"{said['role']}{said['to']}"
    return said["channel"] == "final" or (said["channel"] == "commentary" and not to_a_tool)


def is_bare_call(message: Mapping[str, Any], after: Any) -> bool:
    """Whether a message is a call without marks, as Llama writes it: `{"name": …, "parameters": …}`; a tool answers."""
    if not isinstance(after, Mapping) or after.get("role", after.get("from")) not in _TOOLS:
        return False
    text = message.get("content", message.get("value"))
    call = written(text) if isinstance(text, str) and text.lstrip().startswith("{") else None
    return isinstance(call, Mapping) and "name" in call and ("arguments" in call or "parameters" in call)


_TOOLS = ("tool", "function", "ipython", "observation")
"""Roles of turns that are answers of tools."""


def is_answer_of_a_tool(text: str) -> bool:
    """Whether a user's text is what a tool answered, as Hermes and Qwen put it."""
    return text.startswith("<tool_response>") and text.endswith("</tool_response>")
