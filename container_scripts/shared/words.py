"""Words of any language, as ROUGE compares them.

A training job scores with this file, and the client imports the same file as `lorasum.shared.words`. Stemmers are
imported where one is asked for; without them it needs `regex`, which transformers brings.

rouge-score's own tokenizer keeps `[a-z0-9]` only: two equal Thai texts score 0.0 there, and "café" becomes "caf". Here
a word is a run of letters, marks and digits of any script. Scripts that write no spaces between words are compared
character by character, which needs no dictionary.

    English   "Ann's café, 7:30"   ann s café 7 30
    Thai      "ไปตลาด"             ไ ป ต ล า ด
    Chinese   "明天3点"             明 天 3 点
"""

import unicodedata
from collections.abc import Callable
from functools import lru_cache

import regex

_UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
# One character of such a script with its marks (ー lengthens the one before it), or a run of everything else.
_WORD = regex.compile(rf"(?V1)[{_UNSPACED}][\p{{M}}ー]*|[\w--[_{_UNSPACED}]]+")
_ARABIC_DECORATION = regex.compile(r"[\u0640\u064B-\u0652\u0670]")  # tatweel and vowel signs, which people leave out
_SENTENCE_END = regex.compile(r"(?<=[.!?…؟।])\s+|(?<=[。！？])\s*|\n+")
_SNOWBALL = {
    "ar": "arabic",
    "hy": "armenian",
    "eu": "basque",
    "ca": "catalan",
    "da": "danish",
    "nl": "dutch",
    "eo": "esperanto",
    "et": "estonian",
    "fi": "finnish",
    "fr": "french",
    "de": "german",
    "el": "greek",
    "hi": "hindi",
    "hu": "hungarian",
    "id": "indonesian",
    "ga": "irish",
    "it": "italian",
    "lt": "lithuanian",
    "ne": "nepali",
    "no": "norwegian",
    "nb": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sr": "serbian",
    "es": "spanish",
    "sv": "swedish",
    "ta": "tamil",
    "tr": "turkish",
    "yi": "yiddish",
}
"""Snowball's name of each language that it has a stemmer for, by ISO 639-1 code."""
_SHORTEST_STEMMED = 4  # characters; rouge-score stems words longer than 3


class Words:
    """Divides texts of one language into words.

    Args:
        language: ISO 639-1 code. It decides how letters become lower case (Turkish has i and ı) and how words are
            stemmed: English by the Porter stemmer that rouge-score takes, others by Snowball where it has them. Empty:
            words are compared as they are written.
    """

    def __init__(self, language: str) -> None:
        self._turkish = language in ("tr", "az")
        self._stem = _stemmer(language)

    def by_sentence(self, text: str) -> list[list[str]]:
        """The stemmed words of each sentence of `text`."""
        return [self.tokenize(sentence) for sentence in sentences(text)]

    def tokenize(self, text: str) -> list[str]:
        """The stemmed words of `text`, in order."""
        return [self._stem(word) if len(word) >= _SHORTEST_STEMMED else word for word in self._words(text)]

    def _words(self, text: str) -> list[str]:
        text = unicodedata.normalize("NFKC", text)
        if self._turkish:
            text = text.replace("I", "ı").replace("İ", "i")
        text = unicodedata.normalize("NFC", text.casefold())
        text = _ARABIC_DECORATION.sub("", text).replace("i\u0307", "i")  # İ becomes i and a dot in other languages
        return [_ascii_digits(word) for word in _WORD.findall(text)]


def sentences(text: str) -> list[str]:
    """The sentences of `text`: it is divided after the full stops of any script, and at line breaks."""
    return [sentence for part in _SENTENCE_END.split(text) if (sentence := part.strip())]


@lru_cache
def _stemmer(language: str) -> Callable[[str], str]:
    if language == "en":
        from nltk.stem.porter import PorterStemmer

        return lru_cache(maxsize=100_000)(PorterStemmer().stem)
    if (name := _SNOWBALL.get(language)) is None:
        return _unchanged
    import snowballstemmer

    stem: Callable[[str], str] = snowballstemmer.stemmer(name).stemWord
    return stem


def _unchanged(word: str) -> str:
    return word


def _ascii_digits(word: str) -> str:
    """`word` with the digits of other scripts as 0 to 9: ٣ and ३ are 3."""
    if word.isascii():
        return word
    return "".join(str(unicodedata.digit(c)) if c.isdigit() and not c.isascii() else c for c in word)
