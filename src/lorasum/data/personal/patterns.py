"""The patterns of personal data, and of what looks like it. All but CANDIDATE are for the shadow of a text
(finding.py), in which digits, spaces and dashes are ASCII."""

import re

from lorasum.data.personal import words

LEAST_PHONE_DIGITS = 7  # shorter ones are rooms, prices, times

_GAP = r"[ ().\-/]"  # what may stand between the digits of a phone number
_EDGE = r"(?<![\w+])(?<!\d[.,\-])"
_END = r"(?![\w]|[.,:]\d)"


_SPACE = r"[\p{Zs}\p{Cf}]"
CANDIDATE = (
    rf"[@＠﹫]|[%％](?:25)?40|[(（\[{{](?:at|ät)[)）\]}}]|"
    r"[^\P{Nd}0-9]|[Ａ-Ｚａ-ｚ]|"  # a digit of another script, a letter in full width
    rf"(?i:{_SPACE}at{_SPACE}[^ ]+{_SPACE}dot{_SPACE})|"
    r"[0-9](?:[^0-9A-Za-z\n]{0,3}[0-9]){6}"
)
"""Every text whose shadow matches MAYBE matches it, and few other texts do. In the language of RE2, which searches ten
times as fast as Python does."""

MAYBE = re.compile(r"@|%(?:25)?40|[(\[{](?:at|ät)[)\]}]|(?i: at [^ ]+ dot )|\d(?:[ ().\-/%]{0,3}\d){6}")
"""Every shadow of a text with personal data, or with a number of nine digits, matches it."""

# -- email addresses --

_LABEL = r"[^\s\x00@<>()\[\]{},;:\"'.!?…/\\|=&#*`~«»“”„]+"
_FILES = r"(?!(?:png|jpe?g|gif|svg|webp|pdf|mp[34])\b)"  # photo@2x.png
_TOP = rf"{_FILES}(?:xn--[A-Za-z0-9-]+|[A-Za-z]{{2,63}}|[^\s\x00-\x7f«»“”„…]{{2,}})"
_NO_SCRIPT = r"(?![\w.\-]*\.(?:js|css|mjs|umd)(?!\.?[\w\-]))"  # vue%402.6.14.min.js
_DOMAIN = rf"(?:{_LABEL}\.){{1,8}}{_TOP}"
_WORD = r"[\w.+-]{0,62}\w"
_LOCAL = [
    re.compile(
        r"[A-Za-z0-9_À-ɏ][A-Za-z0-9À-ɏ.!#$%&'*+=?^_`{|}~\u200b-\u200d\u2060-]*$"
    ),  # before those of all scripts: 写信给ann@example.org
    re.compile(rf"{_LABEL}(?:\.{_LABEL})*$"),
    re.compile(r"\"[^\"\n@]+\"$"),
]
_SPELT = [re.compile(r"[\w.+-]*\w$")]
_ENCODED = [re.compile(r"(?<!%)(?<!%[0-9A-Fa-f])(?:[\w.!'*~+\-]|%2B)+$", re.IGNORECASE)]  # q%3Dann%40example.org
LONGEST_LOCAL = 64  # characters before the @, RFC 5321
EMAILS = [
    (("@",), re.compile(rf"@{_DOMAIN}"), _LOCAL),
    (("%40", "%2540"), re.compile(rf"%(?:25)?40{_NO_SCRIPT}(?:[\w\-]+\.){{1,8}}{_TOP}"), _ENCODED),
    (
        tuple(f"{at}{end}" for at in ("at", "ät") for end in ")]}"),
        re.compile(
            rf"\s?[(\[{{](?:at|ät)[)\]}}]\s?{_WORD}(?:\s?(?:\.|[(\[{{](?:dot|punkt|point)[)\]}}])\s?{_WORD}){{1,8}}"
        ),
        _SPELT,
    ),
    ((" dot ", " DOT "), re.compile(rf" at {_WORD}(?: dot {_WORD}){{1,8}}", re.IGNORECASE), _SPELT),
]
"""(texts of which one is in it, what begins with the @, what may stand before it). To look for the @ first takes linear
time."""

# -- cards and bank accounts --

CARDS = [
    re.compile(r"(?<![\w.,+])(?<!\d[\-/])\d(?:[ .\-/]{0,2}\d){13,18}(?![\w]|[.,\-]\d)"),
    re.compile(
        r"(?=\d{4}[ .\-/\n])(?<![\w.,+])(?<!\d[\-/])\d{4}(?:[ .\-/\n]{1,2}\d{4}){3}(?![\w]|[.,\-]\d)"
    ),  # over two lines
]
CARD_SCHEMES = re.compile(
    r"4\d{15}(?:\d{3})?"  # Visa
    r"|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}"  # Mastercard
    r"|3[47]\d{13}"  # American Express
    r"|3(?:0[0-5]|09|[689]\d)\d{11}(?:\d{2})?"  # Diners Club
    r"|(?:6011|65\d\d|64[4-9]\d|62\d\d|35[2-8]\d|60\d\d|8[12]\d\d|508\d|220[0-4])\d{12}"  # Discover, JCB, RuPay, Mir
    r"|(?:62|81)\d{15,17}|(?:50|5[6-8]|6[0-9])\d{14}(?:\d{2,3})?"  # UnionPay, Maestro
)
IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO", 16: "BE", 18: "DK FO FI GL NL", 19: "MK SI", 20: "AT BA EE KZ LT LU XK", 21: "HR LI LV CH",
        22: "BH BG CR DE GE GB IE ME RS VA", 23: "AE GI IL IQ TL", 24: "AD CZ MD PK RO SA SK ES SE TN VG",
        25: "PT LY", 26: "IS TR", 27: "FR GR IT MC MR SM BI DJ", 28: "AL AZ BY CY DO GT HU LB PL SV",
        29: "BR EG PS QA UA", 30: "JO KW MU", 31: "MT SC", 32: "LC", 33: "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
IBAN = re.compile(r"(?<!\w)([A-Z]{2})\d\d(?:[ \-\n]?[A-Z0-9]){11,29}", re.IGNORECASE)

# -- phone numbers --

_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_COMPACT_DATE = rf"{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"  # 20240603
_LINK = (
    r"wa\.me/|(?<![\w\-])t\.me/(?=(?:\+|%2B)\d{7,15}(?![\w\-]))|signal\.me/#p/|viber://\w+\?number="
    r"|[?&;](?:phone|phone_?number|tel|mobile|msisdn)=|\b(?:tel|sms|smsto|callto|facetime):"
)
PHONE_LINKS = [
    re.compile(
        rf"(?:{_LINK})(?P<found>(?:\+|%2B)?(?:\(|%28)?\d(?:(?:[().\-]|%2[089D]){{0,3}}\d){{6,14}})(?!\d)", re.IGNORECASE
    ),
    re.compile(r"(?<![\w.])@(?P<found>\d{10,15})(?![\w.]?\w)"),  # WhatsApp mentions somebody who is no contact
]

_NUMBER = (
    rf"[+(]*\d(?:{_GAP}{{0,3}}\d){{6,14}}(?!\d)"
    # where it has taken the beginning of another one, its end too
    rf"(?:{_GAP}{{1,3}}\d{{1,7}}(?!\d))?(?:{_GAP}{{1,3}}\d{{3,7}}(?!\d)){{0,2}}"
    r"(?:,? ?(?:ext\.?|extension) ?\d{1,7}(?!\d)|,? ?x\d{1,7}(?!\w))?"
)
_NR = r"(?:nr|nummer|number|no|num)?(?![^\W\d_])"  # Handynr, phoneNumber
_TO = (
    r"(?:[\s.:=\-]{0,3}\b(?:no|nr|number|nummer|num|is|ist|es|é|at|on|me|us|him|her|them|back)\b){0,3}"
    r"[\s.:=\-(]{0,3}"
)
_PHONE = rf"(?:\b(?:{words.PHONES}|{words.PHONES_SHORT}){_NR}|{words.PHONES_TOGETHER})"
_ROUND = r"(?:[1-9]\d{0,2}(?:[., ]\d{3})*[., ]000|[1-9]\d*0000)(?![\d.,]*\d)"  # 10 000 000
PHONE_SIGNS = [
    re.compile(
        rf"(?:{_PHONE}|\b(?:{words.CALLS})\s(?:{words.CALLED_ONES})\b){_TO}[#№]\s?:?\s?(?P<found>{_NUMBER})",
        re.IGNORECASE,
    ),
    re.compile(
        rf"\b(?:{words.PHONES_SHORT}){_NR}{_TO}"
        rf"(?!{_COMPACT_DATE}(?!\d)|\d\d?\.\d+[ \-/]+\d\d?\.\d|{_ROUND})(?P<found>{_NUMBER})",
        re.IGNORECASE,
    ),
]
"""A number right behind words such as `cell#` and `mob.`."""
CALL_SIGN = re.compile(rf"\b(?:{words.CALLS}){_NR}{_TO}[#№]\s?(?P<found>{_NUMBER})", re.IGNORECASE)
"""A number right behind words such as `call #`. It may be the number of a call, too."""
CALLED_PHONE = re.compile(
    rf"(?:\b(?:{words.PHONES}|{words.CALLS}|{words.NUMBERS}){_NR}|{words.PHONES_TOGETHER}|{words.NUMBERS_TOGETHER})"
    rf"[^\d\n\x00]{{0,20}}?(?P<found>(?<!\d)(?<!\d[.,]){_NUMBER})",
    re.IGNORECASE,
)
"""A number behind a word such as `call` or `Handy`."""

NUMBER_AND_MORE = re.compile(
    rf"{_EDGE}(?!(?:\d\d ){{5}}\d\d(?![\dh:]))[(+]*\d(?:(?:\.|[ ()\-/]{{0,3}})\d){{9,18}}(?!\d)"
)
"""Digits that may be a number and another one behind it, such as a time or a count of people."""
PRICES_OR_COUNTS = re.compile(r"\d+\.\d\d |(?!0)\d\d? (?=\d\d? )")
"""How several prices, or numbers of one or two digits, begin."""

PHONE_FORMS = [
    re.compile(rf"(?<![\w+])\+ ?\(?\d(?:{_GAP}{{0,3}}\d){{7,14}}(?!\d)"),  # with a country's code, ITU-T E.123
    re.compile(rf"{_EDGE}\(?00[1-9](?:{_GAP}{{0,3}}\d){{8,13}}{_END}"),  # the same, dialled
    re.compile(
        rf"{_EDGE}(?!(?:\d\d ){{5}}\d\d)\(?0[1-9](?:{_GAP}{{0,3}}\d){{7,10}}{_END}"
    ),  # with the 0 of most countries' own numbers
]
"""Forms of phone numbers, of any country, that no other number has."""

NUMBERS = re.compile(r"\d(?:[ ().,:;\-/'+h%]{0,3}\d){6,}")
"""A stretch of text that may hold a phone number, or what looks like one."""
BEFORE, AFTER = 60, 40  # characters around NUMBERS in which a word can say what it is
GLUED = re.compile(r"(?:[A-Za-z_]|(?<!\d)\d{1,3}[.,])$")
"""The end of a text whose next digit belongs to a word, a version or a decimal. No hyphen: `Mob-9876543210`."""
SOME_NUMBER = re.compile(rf"\d(?:{_GAP}{{0,4}}\d){{6}}")
LONG_NUMBER = re.compile(r"\d(?<![\w.,]\d)(?:[ .\-/]?\d){8,}(?!\w)")

# -- what is not a phone number --

_HOUR, _MINUTE = r"(?:[01]?\d|2[0-4])", r"[0-5]\d"
_BYTE = r"(?:25[0-5]|2[0-4]\d|1?[1-9]?\d)"
_NO_MORE = r"(?![./-]?\d)"
_AMOUNT = r"(?:[1-9]\d{0,2}(?:[., ']\d{3})+|\d+)(?:[.,]\d{1,2})?(?!\d)"
_OF_ORDER = rf"(?:[\s:#=.\-]{{0,4}}(?:(?:{words.NUMBER_WORDS})(?!\w)|n\.?[º°])){{0,3}}[\s:#=.'\"(\-]{{0,4}}"
_NO_SPEAKER = rf"(?!(?:(?<![^\n])|(?<=\] ))(?:{words.SPEAKERS}) ?:)"  # Customer: 4155550123
_ORDER = (
    rf"{_NO_SPEAKER}(?:\b(?:{words.ORDER}|(?:{words.ORDER_STEMS})[\- ]?(?:nr|nummer))|(?>{words.ORDER_TOGETHER}))"
    rf"{_OF_ORDER}"
)
_CASE = rf"{_NO_SPEAKER}\b(?:{words.CASE}|(?:{words.CASE_STEMS})[\- ]?(?:nr|nummer)){_OF_ORDER}"
_GROUPED = "|".join(  # as people write phone numbers: an order number is mostly of one piece
    (
        r"0\d{1,5}[ /\-]\d{2}",  # 030 2312
        r"(?:\d ?\()?\d{2,5}\) ?\d",  # (030) 2312, 8 (495) 123
        r"(?:1[ \-])?\(?\d{3}\)?[ .\-]\d{3}[ .\-]\d{4}\b",  # 1-202-555-0143
        r"\d{5}[ \-]\d{5}\b",  # 98765 43210
        r"\d{2,4}[ \-]\d{4,5}[ \-]\d{4}\b",  # 138 1234 5678
        r"(?:\d[ \-])?\d{2,3}[ \-]\d{3}[ \-]\d\d[ \-]\d\d\b",  # 22 123 45 67, 8-912-345-67-89
        r"\d\d \d{3} \d{4}\b",  # 21 234 5678
        r"\d{3}(?: \d\d){3}\b",  # 612 34 56 78
        r"\d{3} (?:\d{3}|\d\d) \d{3}\b",  # 612 345 678
        r"(?:\d\d ){3}\d\d\b",  # 20 12 34 56
        r"\d{4} \d{4}\b",  # 6123 4567
        r"\d{3} \d{7}\b",  # 347 1234567
    )
)
_NO_PHONE = rf"(?!{_GROUPED})"
_CODE = rf"(?!\+|(?:{words.PHONES}|{words.PHONES_SHORT})\d)\w{{0,20}}\d[\w\-./]{{0,60}}"

PLAINLY_NOT_PHONES = re.compile(
    r"(?=[\d-])(?:"  # how all of them begin: to look there first is twice as fast
    + "|".join(
        (
            rf"(?<![\d+])(?<!\d[./-]){_YEAR}(?P<a>[./-]) ?{_MONTH}(?P=a) ?{_DAY}(?!\d)",  # 2024-06-03
            rf"(?<![\d+])(?<!\d[./-]){_DAY}(?P<b>[./-]) ?{_DAY}(?P=b) ?(?:{_YEAR}|\d\d){_NO_MORE}",  # 03.06.2024
            rf"(?<![\d+])(?<!\d[./ -]){_YEAR} ?[-/] ?{_YEAR}{_NO_MORE}",  # 2019-2024
            rf"(?<![\d+])(?<!\d[./-]){_MONTH}[./]{_YEAR} ?- ?{_MONTH}[./]{_YEAR}{_NO_MORE}",  # 05/2024 - 06/2025
            rf"(?<![\d.]){_HOUR}[.:h]{_MINUTE} ?(?:-|to|bis|à|a) ?{_HOUR}[.:h]{_MINUTE}(?![.\d])",  # 9.30-11.45
            r"(?<!\d)\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?(?!\d)",  # 18:01
            rf"(?<![\d.]){_HOUR}[.h]{_MINUTE}(?= ?(?:uhr|am|pm|a\.m|p\.m|h)\b)",  # 18.30 Uhr
            rf"(?<![\w.])(?:{_BYTE}\.){{3}}{_BYTE}(?![\w]|\.\d)",  # 192.168.178.21
            r"(?<![\w.])-?(?!\d{3}\.\d{7}\b)(?:0|[1-9]\d{0,2})[.,]\d{5,}(?![\w.])",  # 52.520008
            r"(?<![\w])97[89](?:[ -]?\d){10}(?!\d)",  # ISBN
        )
    )
    + ")",
    re.IGNORECASE,
)
"""Dates, times and the like, which are certain without a word beside them. They are many, and blanked out first."""

_SITE = r"(?:[\w-]++\.)++[a-z]{2,}/[A-Za-z]"  # looked for where a name begins: behind each hyphen takes quadratic time
NOT_PHONES = [
    re.compile(rf"(?:https?://|www\.|(?<![\w@.\-]){_SITE})\S+"),  # youtube.com/watch?v=12345678901
    re.compile(
        rf"(?:(?<=@)|(?<=\.\.)|(?<![\w@.\-])\.)(?:\w|\.(?!\.)|-(?=\.))*+-(?P<found>{_SITE}\S+)"
    ),  # @to-site.org/a: no name begins behind an @ or a dot
    re.compile(rf"(?<!\w)(?:{words.CURRENCIES}) ?(?!0\d){_AMOUNT}", re.IGNORECASE),
    re.compile(
        r"(?<![\w(])(?<!\d[ ./-])[+-]?(?!0\d)"
        rf"(?:{_AMOUNT} ?- ?)?{_AMOUNT} ?(?:{words.CURRENCIES}|{words.UNITS})(?![\w]|\d)",
        re.IGNORECASE,
    ),
    re.compile(rf"{_ORDER}(?P<found>{_NO_PHONE}{_CODE})", re.IGNORECASE),
    re.compile(rf"{_CASE}(?P<found>(?!0){_NO_PHONE}{_CODE})", re.IGNORECASE),
]
"""Prices, order numbers and web addresses."""
SIGNED_NUMBER = re.compile(rf"[#№] ?(?P<found>{_NO_PHONE}\d[\d\-]*)")
"""A number of a ticket or the like."""

RATHER_NOT_PHONES = [
    re.compile(rf"(?<![\w+.\-]){_COMPACT_DATE}(?:[T_-]?{_MINUTE}{_MINUTE}(?:{_MINUTE})?)?(?!\d)"),
    re.compile(rf"(?<=[A-Za-z]-){_COMPACT_DATE}(?:-\d{{1,6}}|\d{{4}}(?:\d\d)?)?(?![\d-])"),  # build-20260812-03
    re.compile(rf"(?=\d\d? \d)(?<![\d+])(?<!\d[./ -]){_DAY} {_MONTH} {_YEAR}(?! ?[./-]?\d)"),  # 06 12 2024
    re.compile(r"(?<![\w+(])1[4-8]\d{8}(?:\d{3})?(?:\.\d+)?(?![\w-])"),  # seconds or milliseconds since 1970
]
"""Dates and times without separators. A phone number can look the same, so the word before it decides."""
