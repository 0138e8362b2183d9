"""Recognises what Facebook Messenger and Instagram themselves write into a chat. Pure.

Their exports put it under the name of the person who did something, as text, like a message.
"""

import re
from collections.abc import Mapping
from typing import Any

from lorasum.data.chats.written import mended

_ATTACHED = ("photos", "videos", "gifs", "files", "audio_files", "sticker", "share")
_CALL = r"(?:(?:audio|video|group|voice) ?)*(?:call|chat)"
_WITH = r"(?: (?:from|with) (?-i:[^\W\d_a-z])[^,?!]{1,40})?"  # a name, and not `from the dentist`
_DONE = re.compile(
    r"(?:sent|shared) (?:an?|\d+) (?:attachment|photo|video|gif|sticker|voice message|link|story|post|reel|file"
    r"|location)s?|named the group .+|set (?:the nickname for|your nickname|the (?:quick reaction|emoji)) .+"
    r"|set (?:\w+ )?own nickname .+|cleared .* nickname.*"
    r"|changed the (?:group (?:photo|name)|theme|chat (?:theme|colou?rs?)|colou?rs?)\b.*"
    r"|(?:added|removed) .+ (?:to|from) the group|(?:left|created|joined) the group|made .+ (?:a group |an )?admin"
    rf"|(?:started|joined|ended) (?:an?|the) {_CALL}|missed (?:your|an?) {_CALL}{_WITH}"
    r"|created a poll: .+|voted for .+ in the poll|changed \w+ vote to .+|(?:un)?pinned a message|unsent a message"
    r"|turned (?:on|off) disappearing messages.*|waved at .+|called you|reacted .{1,12} to .{1,30}",
    re.IGNORECASE,
)
"""What stands behind the name of who did it, or behind `You`."""
_SENTENCES = re.compile(
    r"liked a message|reacted .{1,12} to your message ?|[\w.]{2,30} sent an attachment\."
    rf"|this poll is no longer available\.|you missed an? {_CALL}{_WITH}\.|the {_CALL} ended\."
    r"|you (?:can now message and call each other|are now connected on messenger)\b.*|say hi to your new .+"
    r"|.{1,40} poll has multiple updates\.",
    re.IGNORECASE,
)
"""Whole sentences."""


def is_about_the_chat(message: Mapping[str, Any]) -> bool:
    """Whether the app wrote a message's text, such as `Mia sent a photo.` or `Mia named the group Trip.`"""
    text = message.get("content", message.get("text"))
    if not isinstance(text, str):
        return False
    text = mended(text).strip()
    sender = mended(str(message.get("sender_name") or message.get("senderName") or ""))
    if text.startswith(f"{sender} ") and any(key in message for key in _ATTACHED):
        return True  # in each language
    names = (sender, sender.split(" ")[0], "You")
    done = next((text[len(name) + 1 :] for name in names if name and text.startswith(f"{name} ")), "")
    ended = text.endswith(".") or "poll" in text
    return bool((ended and _DONE.fullmatch(done.removesuffix("."))) or _SENTENCES.fullmatch(text))
