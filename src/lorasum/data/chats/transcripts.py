"""Turns transcripts with times, WebVTT and SubRip (.srt), into dialogues. Pure. https://www.w3.org/TR/webvtt1/"""

import html
import re

from lorasum.data.chats.chat import Chat

_TIME = r"(?:\d{1,3}:)?\d{1,2}:\d{1,2}[.,]\d{1,3}"
_TIMING = re.compile(rf"^[ \t]*{_TIME}[ \t]+-->[ \t]+{_TIME}(?:[ \t].*)?$", re.MULTILINE)
_BREAK = re.compile(rf"\n[ \t]*\n|\n(?=(?:\d+[ \t]*\n)?[ \t]*{_TIME}[ \t]+-->)")
"""Between cues. Some programs write no empty line there."""
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_TAG = re.compile(r"</?[a-zA-Z][^>]*>|<\d[\d:.]*>|\{\\[^}]*\}")
_STAMP = re.compile(r"<\d{2}:\d{2}:\d{2}\.\d{3}>")
"""A time in front of a word. Automatic captions have them, and show each line again while the next one appears."""
_IDENTIFIER = re.compile(r'^\d+ "([^"\n]{1,80})" \(\d+\)$', re.MULTILINE)
"""What Webex writes above the time of a cue: its number, the speaker, and the number of that one."""
_NAMED = re.compile(r"(?:>> ?|- )?([^\s:][^:]{0,60}): +(?=\S)")


def read_transcript(text: str) -> Chat | None:
    """What was said, without times: one line for what one speaker says in a row. None if `text` is none."""
    if "-->" not in text:
        return None
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    vtt = bool(re.match(r"WEBVTT(?:[ \t\n]|$)", text))
    if not _TIMING.search(text) or not (vtt or re.match(rf"\s*\d+[ \t]*\n{_TIMING.pattern[1:]}", text, re.MULTILINE)):
        return None
    rolling = vtt and bool(_STAMP.search(text))
    lines: list[str] = []
    last: str | None = None
    speaker: str | None = None  # by the line above a cue's time
    shown: list[str] = []  # of the cue before
    blocks = _BREAK.split(text)
    for block, after in zip(blocks, [*blocks[1:], ""], strict=True):
        timing = _TIMING.search(block)
        if above := _IDENTIFIER.search(block[: timing.start()] if timing else block):
            speaker = above[1]
        is_number = block.strip().isdigit() and _TIMING.match(after)
        is_note = vtt and re.match(r"(?:NOTE|STYLE|REGION)\b", block.strip())
        if is_note or (not timing and (vtt or is_number or not lines)):
            continue
        # without a time it goes on with the cue above, which had an empty line in it
        cue = [line for line in block[timing.end() if timing else 0 :].split("\n") if line.strip()]
        new = [line for line in cue if not rolling or _plain(line) not in shown]
        shown = [_plain(line) for line in cue]
        spoken = _spoken(new)
        if speaker:  # then what stands before a colon is said
            spoken = [(speaker, f"{name}: {said}" if name else said) for name, said in spoken]
            speaker = None
        for name, said in spoken:
            if lines and name and name == last:
                lines[-1] += f" {said}"
            else:
                lines.append(f"{name}: {said}" if name else said)
            last = name or last
    return Chat("\n".join(lines), "WebVTT transcript" if vtt else "SubRip transcript")


def _spoken(cue: list[str]) -> list[tuple[str | None, str]]:
    """The speakers and texts in the lines of one cue."""
    spoken: list[tuple[str | None, str]] = []
    for line in cue:
        voices = _VOICE.split(line)
        pieces = [(None, voices[0]), *zip(voices[1::2], voices[2::2], strict=True)]
        for voice, piece in pieces:
            said = _plain(piece)
            named = _NAMED.match(said) if voice is None else None
            name = voice.strip() if voice else named[1].strip("[]()") if named else None
            said = said[named.end() :] if named else said
            if not said:
                continue
            if spoken and name is None:
                spoken[-1] = (spoken[-1][0], f"{spoken[-1][1]} {said}")
            else:
                spoken.append((name, said))
    return spoken


def _plain(line: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", line)).split())
