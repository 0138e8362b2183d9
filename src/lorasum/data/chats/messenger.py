"""Recognises what Facebook Messenger and Instagram themselves write into a chat. Pure.

Their exports put it under the name of the person who did something, as text, like a message.
"""

import re
import unicodedata
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
    r"|.{1,40} poll has multiple updates\.|gefällt eine nachricht|curtiu uma mensagem|a aimé un message"
    r"|(?:le gustó|indicó que le gusta) un mensaje",
    re.IGNORECASE,
)
"""Whole sentences."""
_REACTION = re.compile(
    r"(?=.*(?:react|reakt|reag|réagi|reacc|respond))"
    r"(?=.*(?:nachricht|mensaje|mensagem|messag|bericht|meddel|besked|melding|viesti))[^\n.?!]{8,60}",
    re.IGNORECASE,
)
"""That somebody reacted to a message with an emoji: `Hat mit ❤ auf deine Nachricht reagiert `."""
_ABOUT = re.compile(
    r"attach|anhang|adjunt|pièce jointe|allegat|anexo|bijlage|foto|photo|imagen|immagine|imagem|video|vidéo|sticker|gif"
    r"|group|gruppe|groep|grupo|gruppo|nickname|spitzname|apodo|surnom|soprannome|apelido|bijnaam|theme|thema|tema"
    r"|poll|umfrage|encuesta|sondage|sondaggio|enquete",
    re.IGNORECASE,
)
"""What people send, or set for a chat."""


def is_about_the_chat(message: Mapping[str, Any]) -> bool:
    """Whether the app wrote a message's text, such as `Mia sent a photo.` or `Mia named the group Trip.`"""
    text = message.get("content", message.get("text"))
    if not isinstance(text, str):
        return False
    text = mended(text).strip()
    sender = mended(str(message.get("sender_name") or message.get("senderName") or ""))
    if text.startswith(f"{sender} ") and (any(key in message for key in _ATTACHED) or _tells(sender, text)):
        return True  # in each language
    names = (sender, sender.split(" ")[0], "You")
    done = next((text[len(name) + 1 :] for name in names if name and text.startswith(f"{name} ")), "")
    ended = text.endswith(".") or "poll" in text
    if (ended and _DONE.fullmatch(done.removesuffix("."))) or _SENTENCES.fullmatch(text):
        return True
    return any(unicodedata.category(sign) == "So" for sign in text) and bool(_REACTION.fullmatch(text))


def _tells(sender: str, text: str) -> bool:
    """Whether a text tells what its sender sent or set, and names him: `Ben Li hat einen Anhang gesendet.`"""
    return " " in sender and text.endswith(".") and len(text) < 120 and bool(_ABOUT.search(text))
