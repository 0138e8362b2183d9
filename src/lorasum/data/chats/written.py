"""Reads what a text holds: JSON, Python's notation, HTML, or words in a wrong encoding. Pure functions."""

import ast
import html
import io
import itertools
import json
import re
import tokenize
from collections.abc import Mapping
from typing import Any

from lorasum.data.files.opening import encoding_of

HEAD = 2**16  # bytes by which another type and an encoding are recognised
_LONGEST_LITERAL = 1_000_000  # characters; Python's parser takes a hundred times as much memory


_BEGINS = ("[", "{", '"[', '"{', '"\\"', "'[", "'{", "b'[", "b'{", 'b"[', 'b"{', "array(", "({")
_ENDS = ("]", "}", '"', "'", ")")
_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n```", re.DOTALL)
"""A block of code, which models put around the JSON that they are asked for."""


def written(text: str) -> Any:
    """The list or object that `text` is, as JSON or as Python or numpy print it; None for other text.

    Objects one after another are a list. Quotes may be escaped once more, as in a cell of a table written twice.
    """
    text = text.strip().removeprefix("\ufeff")
    if fenced := _FENCED.fullmatch(text):
        text = fenced[1].strip()
    if not text.startswith(_BEGINS) or not text.endswith(_ENDS):
        return None
    if text[0] == "'" == text[-1]:
        return written(text[1:-1])
    if text[0] == "b":
        return _printed_bytes(text)
    try:
        value = json.loads(text, strict=False)  # a line break in a text does no harm
        return written(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return _one_after_another(text) or _literal(text) or _unescaped(text)


def decoded(content: bytes) -> str:
    """The text of a file in UTF-8 or UTF-16.

    Raises:
        UnicodeDecodeError: it is text in another encoding.
    """
    encoding = encoding_of(content[:HEAD], whole=len(content) <= HEAD)
    return content.decode(encoding if encoding.startswith("utf") else "utf-8")


def _printed_bytes(text: str) -> Any:
    """The value of text that was stored as bytes, and whose bytes were printed: `b'[{"role": …'`."""
    try:
        value = ast.literal_eval(text) if len(text) <= _LONGEST_LITERAL else None
        return written(value.decode()) if isinstance(value, bytes) else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _one_after_another(text: str) -> list[Any]:
    """The objects of a text that has several, on a line each or with commas between them; empty for other text."""
    decoder, rows, at = json.JSONDecoder(strict=False), [], 0
    try:
        while gap := _GAP.match(text, at):
            row, at = decoder.raw_decode(text, gap.end())
            rows.append(row)
    except (ValueError, RecursionError):
        return []
    return rows if at == len(text) else []


_GAP = re.compile(r"[\s,]*(?=\{)")


def _unescaped(text: str) -> Any:
    """The value of a text whose quotes are escaped: `[{""role"": …`, `[{\\"role\\": …` or `[{&quot;role&quot;: …`."""
    if not (escaped := _ESCAPED.match(text)):
        return None
    if escaped[1] == '""':
        return written(text.replace('""', '"'))
    if escaped[1].startswith("&"):
        return written(html.unescape(text))
    try:
        return written(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return None


_ESCAPED = re.compile(r'[\[{\s]+(""|&quot;|&#34;|\\+")\w')


def _literal(text: str) -> Any:
    if len(text) > _LONGEST_LITERAL or not re.match(r"(?:array\()?[\[{(]\s*['\"{\[(]", text):
        return None
    try:
        # numpy prints no commas; in a literal, a line never ends inside a string
        text = _with_commas(text) if _SIDE_BY_SIDE.search(text) else _ENDED.sub(r"\1,\n\2", text)
        return _value(ast.parse(text, mode="eval").body)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return None


_ENDED = re.compile(r"([}'\"])[ \t]*\n\s*([{'\"])")
_SIDE_BY_SIDE = re.compile(r"['\"][ \t]+['\"]")


def _with_commas(text: str) -> str:
    """A literal with commas between texts and objects that stand side by side. Python would join the texts."""
    tokens = [one for one in tokenize.generate_tokens(io.StringIO(text).readline) if one.type != tokenize.NL]
    pieces = []
    for token, following in itertools.pairwise(tokens):
        ends = token.type == tokenize.STRING or token.string == "}"
        pieces.append(token.string)
        if ends and (following.type == tokenize.STRING or following.string == "{"):
            pieces.append(",")
    return " ".join(pieces)


_WORDS = {"true": True, "false": False, **dict.fromkeys(("null", "nan", "NaN", "NaT", "inf", "Infinity"))}


def _value(node: Any) -> Any:
    """What a piece of Python stands for. A call of one value is that value: `array([…])`, `Timestamp("2024-06-03")`.

    Raises:
        ValueError: it is something else, such as an object of a library.
    """
    match node:
        case ast.Constant(value=value) if value is not ...:  # numpy's, for what it left out
            return value
        case ast.List(elts=several) | ast.Tuple(elts=several):
            return [_value(one) for one in several]
        case ast.Dict(keys=keys, values=values):
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.Call(args=[one]):
            return _value(one)
        case ast.Call(args=[ast.Constant(value=int()), *_], keywords=[]):
            return None  # datetime.datetime(2024, 6, 3)
        case ast.UnaryOp(operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Name(id=word) if word in _WORDS:
            return _WORDS[word]
    raise ValueError(f"no literal: {type(node).__name__}")


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list in decoded JSON; none where there is no list."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def begun(text: str) -> tuple[Any, str]:
    """The list or object in JSON that a text begins with, and the words behind it; both are empty for other text."""
    text = text.strip()
    if not text.startswith(("[", "{")):
        return None, ""
    try:
        value, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return None, ""
    return value, text[end:].strip()


def mended(text: str) -> str:
    """`text` with its encoding repaired, if its UTF-8 was read as Latin-1, as in the files of Facebook Messenger.

    Correct text hardly becomes valid UTF-8 this way: nobody writes `Ã©`. What people do write is a letter before a
    no-break space or a sign, as in `ENVOYÉ !`, `MANHÃ ?` and `ROSÉ®`.
    """
    if text.isascii() or not _MAY_BE_MOJIBAKE.search(text) or not _MOJIBAKE.search(text):
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


_MAY_BE_MOJIBAKE = re.compile("[\u00c2-\u00f4][\u0080-\u00bf]")  # five times as fast
_MOJIBAKE = re.compile(
    "[\u00c2-\u00f4][\u0080-\u009f]|[\u00c2-\u00c5\u00e0-\u00f4][\u00a1-\u00bf]"
    "|(?<![A-Z])(?:[\u00c6-\u00df][\u00a1-\u00bf]|[\u00c2\u00c3\u00c5]\u00a0)"
)


def with_plain_breaks(text: str) -> str:
    """`text` with plain line breaks in the place of those of Windows, of old Macs, of Excel's files (`_x000D_`), and of
    what is written between the turns of a dialogue instead: a backslash and an n, or tags of HTML."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "_x000D_" in text:
        text = text.replace("_x000D_\n", "\n").removesuffix("_x000D_").strip()
    if ("\\n" in text or "<" in text) and "\n" not in text.strip():
        turns = [turn.strip() for turn in _INSTEAD.split(text) if turn.strip()]
        if len(turns) > 1 and all(_TURN.match(turn) and turn.count('"') % 2 == 0 for turn in turns):
            return "\n".join(
                turns if "\\n" in text else (html.unescape(_INLINE.sub("", turn)).strip() for turn in turns)
            )
    return text


_INLINE = re.compile(r"</?(?:a|b|i|u|s|em|strong|span|font)(?: [\w-]+=[^<>]*)?>")
"""Tags inside of a turn. Other angle brackets may be words: `<file_photo>`, `Vec<T>`, `x<b and y>z`."""
_INSTEAD = re.compile(r"(?:\\+r)?\\+n|</?(?i:br|p|div)\b[^<>]*>")


_TURN = re.compile(
    r"(?:[^\W\d_a-z]|[#+]|(?:user|human|agent|customer|assistant|bot|client|system)\b)[^:\\]{0,40}: ?[^\s:]"
)
"""A turn, as far as that is certain: there are also folders `C:\\new`, formulas with `\\nu`, and code, whose
quotes the turns would part."""


def is_unicode(text: str) -> bool:
    """False for text with half a character (a lone surrogate), which no file in UTF-8 and no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def words_of(page: str) -> str:
    """The text of a piece of HTML, in one line."""
    return " ".join(html.unescape(_TAG.sub("", _BREAK.sub(" ", page))).split())


def is_html(text: str) -> bool:
    """Whether a text is a piece of HTML from its first to its last character, such as `<p>hi</p>`."""
    return text.startswith("<") and text.endswith(">") and bool(_PAGE.match(text))


def is_formatted(text: str) -> bool:
    """Whether a piece of HTML has only what a platform formats messages with. People who talk of HTML name classes."""
    return is_html(text) and all(map(_FORMAT.fullmatch, _TAG.findall(text)))


def unformatted(text: str) -> str:
    """A text without the tags of HTML that it is formatted with, if it has no other angle brackets."""
    return words_of(text) if all(map(_FORMAT.fullmatch, _TAG.findall(text))) and _MARKED.search(text) else text


_MARKED = re.compile(r"<[^<>]*>|&(?:\w+|#\d+);")
_PAGE = re.compile(r"<(?:!doctype html|html|body|div|p|span|table|br|ul|ol|blockquote)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_FORMAT = re.compile(
    r"</?(?:p|div|span|br|a|b|i|u|s|em|strong|del|ul|ol|li|blockquote|img|attachment|at|emoji)\b(?![^<>]*\bclass=)[^<>]*>",
    re.IGNORECASE,
)
_BREAK = re.compile(r"<(?:br|/?p|/?div|/?li|/?tr)\b[^<>]*>", re.IGNORECASE)
