"""Recognises what Facebook Messenger and Instagram themselves write into a chat. Pure.

Their exports put it under the name of the person who did something, as text, like a message. It is certain where it
tells of its own sender by name, or where it is one of the apps' sentences, with its full stop.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from lorasum.data.chats.written import mended

_ATTACHED = ("photos", "videos", "gifs", "files", "audio_files", "sticker", "share")
_CALL = r"(?:(?:audio|video|voice|group) ?)*(?:call|chat)"
_WITH = r"(?: (?:from|with) (?-i:[^\W\d_a-z])[^,?!]{1,40})?"  # a name, and not `from the dentist`
_DONE = re.compile(
    r"(?:sent|shared) (?:an?|\d+) (?:attachment|photo|video|gif|sticker|voice message|link|story|post|reel|file"
    r"|(?:live )?location)s?|named the group .+|set (?:the nickname for|your nickname|the (?:quick reaction|emoji)) .+"
    r"|set (?:\w+ )?own nickname .+|cleared .* nickname.*"
    r"|changed the (?:group (?:photo|name)|theme|chat (?:theme|colou?rs?)|colou?rs?)\b.*"
    r"|(?:added|removed) .+ (?:to|from) the group|(?:left|created|joined) the group|made .+ (?:a group |an )?admin"
    rf"|(?:started|joined|ended) (?:an?|the) {_CALL}|missed (?:your|an?) {_CALL}{_WITH}"
    r"|voted for .+ in the poll|changed \w+ vote to .+|(?:un)?pinned a message|unsent a message"
    r"|turned (?:on|off) disappearing messages.*|waved at .+|called you|reacted .{1,12} to .{1,30}",
    re.IGNORECASE,
)
"""What stands behind the name of who did it, or behind `You`."""
_SENTENCES = re.compile(
    r"liked a message\.?|reacted .{1,12} to your message ?|[\w.]{2,30} sent an attachment\."
    rf"|this poll is no longer available\.|you missed an? {_CALL}{_WITH}\.|the {_CALL} ended\."
    r"|(?-i:Video chat|Audio call|Video call) ended\.?"
    r"|you (?:can now message and call each other|are now connected on messenger)\b.*|say hi to your new .+"
    r"|.{1,40} poll has multiple updates\."
    r"|(?:gefällt eine nachricht|curtiu uma mensagem|gostou de uma mensagem|a aimé un message"
    r"|(?:le gustó|indicó que le gusta) un mensaje|(?:ha messo|piace) [\"“«]?mi piace[\"”»]? a un messaggio"
    r"|vindt een bericht leuk)\.?"
    r"|du hast einen anhang gesendet\.|(?:enviaste|has enviado) un archivo adjunto\."
    r"|(?:vous avez|tu as) envoyé une pièce jointe\.|(?:você enviou|enviaste) um anexo\.|hai inviato un allegato\.",
    re.IGNORECASE,
)
"""Whole sentences."""
_THING = (
    r"(?:anhang|bild|imagen|imagem|immagine|fotos?|photos?|videos?|vidéos?|vídeos?|gifs?|stickers?|sprachnachricht|links?|lien|enlace"
    r"|(?:archivo )?adjunto|pièce jointe|message vocal|mensaje de voz|anexo|mensagem de voz|figurinha|autocolante"
    r"|allegato|messaggio vocale|adesivo|bijlage|beitrag|story|historia|publicación|publication|publicação|post|reel)"
)
_OWN_DEEDS = re.compile(
    rf"@ (?:sent an attachment|hat (?:eine?n?|\d+) {_THING}(?:n|s)? (?:gesendet|geteilt)"
    rf"|(?:envió|ha enviado|mandó|compartió|ha compartido) (?:una?|\d+) {_THING}"
    rf"|a (?:envoyé|partagé) (?:une?|\d+) {_THING}|(?:enviou|partilhou|compartilhou) (?:uma?|\d+) {_THING}"
    rf"|ha (?:inviato|condiviso) (?:un['’oa]?|\d+) ?{_THING}"
    rf"|heeft (?:een|\d+) {_THING} (?:verzonden|verstuurd|gestuurd)"
    r"|hat deinen (?:\w{0,8}anruf|\w{0,8}chat) verpasst|perdió tu (?:video)?llamada"
    r"|a manqué (?:votre|ton) appel(?: \w+)?"
    r"|perdeu (?:a )?(?:sua|tua) (?:ligação|chamada)(?: de \w+)?|ha perso la tua (?:video)?chiamata"
    r"|hat dich angerufen|te llamó|te ha llamado|(?:vous|t['’])\s?a appelée?|ligou para você|ti ha chiamato)"
    rf"|you missed an? {_CALL} (?:from|with) @"
    r"|du hast einen (?:\w{0,8}anruf|\w{0,8}chat) (?:von|mit) @ verpasst"
    r"|(?:perdiste|has perdido) una (?:video)?llamada de @|(?:vous avez|tu as) manqué un appel(?: \w+)? de @"
    r"|(?:você perdeu|perdeste) uma (?:ligação|chamada)(?: de \w+)? de @|hai perso una (?:video)?chiamata da @",
    re.IGNORECASE,
)
"""What somebody did, who is `@` in it and also its sender. Nobody speaks so of themselves."""
_REACTION = re.compile(
    r"(?:hat (?:mit|auf)|reaccionó|ha reaccionado|a réagi|reagiu|ha reagito|heeft met|reageerde|reagerade|reagerte"
    r"|reagerede|har reagere?t|har reagerat|reagoi|respondió)\b"
    r"(?=.*(?:\b(?:d?eine|tu|un|votre|ton|[st]ua|uma|al tuo|je|een|dit|ditt|din|en|et|ett) "
    r"(?:nachricht|mensaje|message|mensagem|messaggio|bericht|meddel|besked)|melding\w* din|viestiisi))[^\n.?!]{8,50}",
    re.IGNORECASE,
)
"""That somebody reacted to a message with an emoji: `Hat mit ❤ auf deine Nachricht reagiert `."""
_ABOUT = re.compile(
    r"attach|anhang|adjunt|pièce jointe|allegat|anexo|bijlage|foto|photo|imagen|immagine|imagem|video|vidéo|sticker|gif"
    r"|group|gruppe|groep|grupo|gruppo|nickname|spitzname|apodo|surnom|soprannome|apelido|bijnaam|theme|thema|tema"
    r"|poll|umfrage|encuesta|sondage|sondaggio|enquete",
    re.IGNORECASE,
)
"""What people send, or set for a chat."""
_OWN_NAME = re.compile(r"[ \d_.]")
"""What no single word of a sentence has: the name of an account, or a first and a last name."""


def is_about_the_chat(message: Mapping[str, Any]) -> bool:
    """Whether the app wrote a message's text, such as `Mia sent a photo.` or `Mia named the group Trip.`"""
    text = message.get("content", message.get("text"))
    if message.get("type") == "placeholder":
        return True  # of an encrypted message that is not at hand
    if not isinstance(text, str):
        return False
    text = mended(text).strip()
    sender = mended(str(message.get("sender_name") or message.get("senderName") or ""))
    asks = "created a poll: " in text
    if text.startswith(f"{sender} ") and (any(map(message.get, _ATTACHED)) or (_tells(sender, text) and not asks)):
        return True  # in each language
    names = [name for name in (sender, sender.split(" ")[0]) if name]
    if any(_is_own_deed(text, name, whole=name == sender) for name in names):
        return True
    name = next((name for name in (*names, "You") if text.startswith(f"{name} ")), "")
    done = text[len(name) + 1 :] if name else ""
    # who is called I or Will may speak of themselves: I left the group, Will set the theme later
    sure = name == sender and (bool(_OWN_NAME.search(sender)) or not (len(sender) < 3 or done.startswith("set ")))
    if (text.endswith(".") or "poll" in text or sure) and _DONE.fullmatch(done.removesuffix(".")):
        return True
    return bool(_SENTENCES.fullmatch(text)) or (_has_emoji(text) and bool(_REACTION.fullmatch(text)))


def _is_own_deed(text: str, name: str, whole: bool) -> bool:
    """Whether a text tells what its sender did. A first name may be somebody else's too: there a full stop tells."""
    told = text.removesuffix(".").replace(name, "@")
    return (whole or text.endswith(".") or not told.startswith("@")) and bool(_OWN_DEEDS.fullmatch(told))


def _has_emoji(text: str) -> bool:
    return any(unicodedata.category(sign) in ("So", "Cn") for sign in text)  # the newest are not in Python's table yet


def _tells(sender: str, text: str) -> bool:
    """Whether a text tells what its sender sent or set, and names him: `Ben Li hat einen Anhang gesendet.`"""
    return " " in sender and text.endswith(".") and len(text) < 120 and bool(_ABOUT.search(text))
