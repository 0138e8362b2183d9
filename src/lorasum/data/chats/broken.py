"""Tells texts that look like messages and cannot be read, because a program has cut them off or printed them. Pure.

Such a text is no dialogue, so its row is refused. People also talk of code: what they begin with counts only in a text
that ends as a value does, or where two of its parts are turns.
"""

import re


def looks_broken(text: str) -> bool:
    """Whether a text that `written` cannot read begins as messages do, such as JSON that was cut off or escaped."""
    ends = text.rstrip("; \n").endswith(("]", "}"))
    return bool(
        _BEGUN.match(text)
        or (ends and _WHOLE.match(text))
        or (_OBJECT.match(text) and not _TALK.search(text))
        or _TEXTS.match(text)
        or _PRINTED.match(text)
    )


_QUOTE = r"(?:\\*['\"“”]|&quot;|&#34;)"
_KEY = "(?:role|from|sender|speaker|author|user|content|text|value|message|msg|utterance|name|id)"
_IS = r"\s*(?::|=>)"  # between a key and its value
_OTHERS = rf"(?:{_QUOTE}\w+{_QUOTE}\s*:\s*(?:{_QUOTE}[^'\"“”\n]{{0,80}}{_QUOTE}|[\w.:+-]{{1,40}})\s*,\s*){{0,8}}"
"""Keys before the one that tells messages apart, such as a number or a time, with short values."""
_BEGUN = re.compile(
    rf"\s*(?:\{{\s*{_OTHERS}{_QUOTE}\w+{_QUOTE}\s*:\s*)?\[\s*\{{\s*{_OTHERS}{_QUOTE}{_KEY}{_QUOTE}\s*:"
    r"|\s*\[\s*\w*(?:Message|Turn|Utterance)\w*\("  # as Python prints the objects of a library
)
_WHOLE = re.compile(
    rf"\s*(?:\{{\s*{_QUOTE}\w+{_QUOTE}{_IS}\s*)?\[\s*\{{\s*(?:{_QUOTE}|:)?{_KEY}{_QUOTE}?{_IS}"  # JavaScript, Ruby
    rf"|\s*[\w.]+ ?= ?\[\s*\{{\s*{_QUOTE}\w+{_QUOTE}\s*:"  # of Twitter's archive
    r"|\s*\[\s*[A-Z]\w*\((?:\w+=['\"]|\[\()"  # as Python prints objects
    rf"|\s*(?:\{{\w+=)?\[\s*\{{(?:\w+=[^,=\[\]{{}}]{{0,80}}, ){{0,8}}{_KEY}="  # as Athena, Hive and Java print them
    rf"|\s*\[\s*\{{\s*{_QUOTE}\w+{_QUOTE}\s*,\s*{_QUOTE}"  # Polars
    r"|\s*\[\{(?:user|assistant|system|human|agent|customer|bot), "  # Spark
)
"""What people also begin to talk of code with, and so counts only in a text that ends as a value does."""
_SPEAKER, _TEXT = "(?:role|from|sender|speaker|author|user)", "(?:content|text|value|message|body|utterance)"
_OBJECT = re.compile(
    rf"\s*\{{\s*{_OTHERS}{_QUOTE}{_SPEAKER}{_QUOTE}\s*:\s*{_QUOTE}[^'\"\n]{{1,80}}{_QUOTE}\s*,\s*"
    rf"{_OTHERS}{_QUOTE}{_TEXT}{_QUOTE}\s*:"
)
"""A message, with others behind it that are cut off, perhaps."""
_TALK = re.compile(r"\n[^\W\d][^\n:{}'\"]{0,40}: ")
_TURN = r"['\"][^'\"\n:]{1,40}: "
_TEXTS = re.compile(rf"\s*[\[{{(]\s*{_TURN}[\s\S]{{0,20000}}?['\"][\s,;….]*{_TURN}")
"""A list, tuple, set or array of turns that are texts."""
_PRINTED = re.compile(
    r"\s*(?:"
    r"\[(?=[^\[\]]*\]\s*\Z)[^:\n]{1,40}: .*, [^:,\n]{1,40}: "  # a list of texts, as databases print it
    r"|(?:WrappedArray|ArraySeq|ArrayBuffer|List|Vector|Seq|Array)\((?=.*\)\s*\Z)[^:\n]{1,40}: .*, [^:,\n]{1,40}: "
    r"|(?:WrappedArray|ArraySeq|ArrayBuffer)\([\[{].*[\]}]\)\s*\Z"
    r"|(?:deque|(?:odict_)?dict_(?:values|items)|frozenset|array|list|tuple|set)\([\[({]\s*['\"({\[]"  # Python
    r"|shape: \(\d+,\)\s+Series: |-- is_valid: |<pyarrow\."
    r"|0 +.*\bdtype: \w+\s*\Z"  # pandas
    r"|\{\"(?:\(|\{\\\")"  # PostgreSQL
    r"|(?:\[object Object\][,\s]*)+\Z"
    r"|\[L[\w.]+;@[0-9a-f]+\s*\Z"  # Java
    r"|\[?(?:<[\w. ]+ object\b[^<>]*\bat 0x[0-9a-f]+>[,\s]*)+(?:\]\s*)?\Z"
    r")",
    re.DOTALL,
)
"""Values as programs print them, and hardly anything that people say."""
