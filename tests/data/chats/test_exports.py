"""Files that people give: encodings, archives, transcripts."""

import io
import json
import re
import zipfile
from pathlib import Path

import pytest

from lorasum.config.data import Columns
from lorasum.data.chats.app_json import NoChatError
from lorasum.data.chats.exports import read_bytes, read_path
from lorasum.data.chats.transcripts import read_transcript
from lorasum.data.records import Example
from lorasum.data.validate import check

CHAT = "03/06/2024, 18:01 - Ana: olé\n03/06/2024, 18:02 - Ben: hi\n"


def zipped(files: dict[str, str]) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return held.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_in_each_unicode_encoding(encoding: str, tmp_path: Path) -> None:
    file = tmp_path / "chat.txt"
    file.write_bytes(CHAT.replace("\n", "\r\n").encode(encoding))
    assert read_path(file).dialogue == "Ana: olé\nBen: hi"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_each_way(end: str) -> None:
    assert read_bytes(CHAT.replace("\n", end).encode()).dialogue == "Ana: olé\nBen: hi"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"<!DOCTYPE html>\n<html><body>x</body></html>", "a web page"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "a PDF document"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00", "no text file"),
        (b"\x1f\x8b\x08\x00", "compressed with gzip"),
    ],
)
def test_a_file_that_is_no_text_is_named_for_what_it_is(content: bytes, what: str) -> None:
    with pytest.raises(NoChatError, match=f"it is {what}, and no chat"):
        read_bytes(content)


@pytest.mark.parametrize(
    "table",
    [
        'AuthorID,Author,Date,Content,Attachments\n"1","Ana","2024","hi, you",""\n"2","Ben","2024","ho",""\n',
        'Date;User;Message\n"2024-06-03";"Ana";"hi, you"\n"2024-06-03";"Ben";"ho"\n',
        "sep=;\nUser;Message\nAna;hi, you\nBen;ho\n",
        "User|Message\nAna|hi, you\nBen|ho\n",
    ],
)
def test_a_table_with_a_message_in_each_row_is_a_chat(table: str, tmp_path: Path) -> None:
    (tmp_path / "chat.csv").write_text("\ufeff" + table, encoding="utf-8")
    assert read_path(tmp_path / "chat.csv").dialogue == "Ana: hi, you\nBen: ho"
    (tmp_path / "chat.csv").write_text("dialogue,summary\nAna: hi,x\n", encoding="utf-8")
    with pytest.raises(NoChatError, match=r"1 rows: give them to --input"):
        read_path(tmp_path / "chat.csv")


DISCORD = """\
==============================================================
Guild: Fair
Channel: text / ops
Topic: stands
==============================================================

[6/3/2024 6:01 PM] wilma
who brings chairs?

{Reactions}
:ok: (2)

[6/3/2024 6:02 PM] otto (pinned)
I bring four, see https://x.org
[and a table]

[10:30] is better

{Embed}
Fair
https://x.org

[6/3/2024 6:03 PM] wilma

{Attachments}
https://x.org/a.png

[6/3/2024 6:04 PM] eve
Joined the server.

[6/3/2024 6:05 PM] Wilma B.
thanks


==============================================================
Exported 5 message(s)
==============================================================
"""


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_discordchatexporter_writes_as_text_is_read(end: str) -> None:
    chat = read_bytes(DISCORD.replace("\n", end).encode())
    four = "I bring four, see https://x.org\n[and a table]\n\n[10:30] is better"
    expected = f"wilma: who brings chairs?\notto: {four}\nWilma B.: thanks"
    assert (chat.dialogue, chat.left_out) == (expected, {"media": 1, "notices": 1})
    row = {"dialogue": DISCORD, "summary": "They bring chairs."}
    assert check(row, Columns()) == Example(expected, "They bring chairs.")


def test_boxes_and_logs_in_discords_text_are_words() -> None:
    log = "[10:22:01.123] ERROR x: failed"
    box = "CI\n\n{Embed}\nBuild failed\nstep 3\n\n{Reactions}\n:ok: (1)"
    held = DISCORD.replace("wilma\n\n{Attachments}\nhttps://x.org/a.png", box).replace("thanks", f"thanks\n\n{log}")
    assert read_bytes(held.encode()).dialogue.splitlines()[-4:] == [
        "CI: Build failed step 3",
        "Wilma B.: thanks",
        "",
        log,
    ]


PASSED_ON = """
{Forwarded Message}
I quit
Originally sent: 6/3/2024 5:00 PM

{Reactions}
:ok:
"""


def test_boxes_and_what_is_passed_on_in_discords_text_are_read() -> None:
    """As PlainTextMessageWriter.cs of DiscordChatExporter writes them."""
    held = DISCORD.replace("\n\n{Attachments}\nhttps://x.org/a.png\n", f"\n{PASSED_ON}")
    assert "wilma: I quit\n" in read_bytes(held.encode()).dialogue
    held = DISCORD.replace("thanks", "Alert\n\n{Embed}\nBuild 7\nfailed")
    assert read_bytes(held.encode()).dialogue.endswith("Wilma B.: Alert Build 7 failed")


@pytest.mark.parametrize(
    ("guild", "words", "notices"),
    [
        ("Fair", "Started a thread.", 1),
        ("Fair", "Removed a recipient.", 1),
        ("Fair", "Started a call that lasted 1,204 minutes.", 1),
        ("Direct Messages", "Added otto to the group.", 1),
        ("Direct Messages", "Changed the channel name: Tents", 1),
        ("Fair", "Changed the channel name: it was too long", 0),
        ("Fair", "Added otto to the group.", 0),
        ("Fair", "Started a thread. Look there.", 0),
    ],
)
def test_discords_notices_are_known_by_their_words(guild: str, words: str, notices: int, tmp_path: Path) -> None:
    """The sentences of PlainTextMessageExtensions.cs of DiscordChatExporter, which writes CSV and text with them."""
    held = DISCORD.replace("Guild: Fair", f"Guild: {guild}").replace("thanks", words)
    chat = read_bytes(held.encode())
    assert (chat.left_out["notices"], chat.dialogue.count(words)) == (1 + notices, 1 - notices)
    (tmp_path / "chat.csv").write_text(
        f'AuthorID,Author,Date,Content\n"1","Ana","2024","{words}"\n"1","Ana","2024","hi"\n'
    )
    certain = guild == "Fair" and notices
    assert read_path(tmp_path / "chat.csv").left_out == ({"notices": 1} if certain else {})


def test_discords_text_with_dates_alone_stays_as_it_is() -> None:
    dates = re.sub(r" \d:\d\d PM", "", DISCORD)
    assert read_bytes(dates.encode()).dialogue.strip() == dates.strip()
    assert (
        read_bytes(DISCORD.replace(DISCORD[DISCORD.index("[6/3") : DISCORD.index("\n\n=")], "").encode()).dialogue == ""
    )


def test_a_chat_in_utf16_needs_no_mark() -> None:
    assert [read_bytes(CHAT.encode(encoding)).dialogue for encoding in ("utf-16-le", "utf-16-be")] == [
        "Ana: olé\nBen: hi"
    ] * 2


def test_text_in_another_encoding_is_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        read_bytes("Ana: olé".encode("cp1252"))


def test_the_archive_that_whatsapp_makes_is_read() -> None:
    files = {"_chat.txt": "[6/3/24, 6:01:00 PM] Wilma: hi", "notes.txt": "x", "00000001-PHOTO.jpg": ""}
    assert read_bytes(zipped(files)).dialogue == "Wilma: hi"
    assert read_bytes(zipped({"WhatsApp Chat with Ana.txt": CHAT, "plan.txt": "x"})).dialogue == "Ana: olé\nBen: hi"
    named = {"WhatsApp Chat with Ana": CHAT, "IMG-20240603-WA0001.jpg": "", "STK-20240603-WA0001": ""}
    assert read_bytes(zipped(named)).dialogue == "Ana: olé\nBen: hi"
    assert read_bytes(zipped({"_chat": CHAT, "photos/": ""})).dialogue == "Ana: olé\nBen: hi"
    assert read_bytes(zipped({"Чат WhatsApp с Ana.txt": CHAT, "__MACOSX/._x.txt": ""})).dialogue == "Ana: olé\nBen: hi"
    with pytest.raises(NoChatError, match=r"a document of Word or Excel"):
        read_bytes(zipped({"[Content_Types].xml": "", "word/document.xml": ""}))
    with pytest.raises(NoChatError, match=r"holds JSON: unpack it"):
        read_bytes(zipped({"users.json": "", "general/2024-06-03.json": ""}))
    with pytest.raises(NoChatError, match=r"holds 0 texts, not the one chat"):
        read_bytes(zipped({"photo.jpg": ""}))
    with pytest.raises(NoChatError, match=r"holds 2 texts"):
        read_bytes(zipped({"a.txt": "", "b.txt": ""}))


def test_the_folder_of_an_export_is_read(tmp_path: Path) -> None:
    for name, content in {
        "whatsapp/_chat.txt": CHAT,
        "android/WhatsApp Chat with Ana.txt": CHAT,
        "android/notes.txt": "x",
        "telegram/result.json": json.dumps(
            {"id": 1, "type": "personal_chat", "messages": [{"from": "Ana", "text": "hi"}]}
        ),
        "messenger/message_1.json": json.dumps(
            {"messages": [{"sender_name": "Ben", "timestamp_ms": 2, "content": "ho"}]}
        ),
        "messenger/message_2.json": json.dumps(
            {"messages": [{"sender_name": "Ana", "timestamp_ms": 1, "content": "hi"}]}
        ),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_path(tmp_path / "whatsapp").dialogue == "Ana: olé\nBen: hi"
    assert read_path(tmp_path / "telegram").dialogue == "Ana: hi"
    assert read_path(tmp_path / "messenger").dialogue == "Ana: hi\nBen: ho"


VTT = """WEBVTT - a meeting

NOTE made by a machine

STYLE
::cue { color: red }

1
00:00:01.000 --> 00:00:03.000 align:start
<v Ana Lee>Can we <b>ship</b> on Friday?</v>

00:00:03.500 --> 00:00:05.000
<v Ana Lee>Or is it too early &amp; risky?</v>

intro
00:05.000 --> 00:06.000
<v.loud Ben>Friday is fine.</v>
"""
SRT = """1
00:00:01,000 --> 00:00:03,000
Ana: can we ship
on <i>Friday</i>?

2
00:00:03,500 --> 00:00:05,000
Ben: Friday is fine.

3
00:00:06,000 --> 00:00:07,000
{\\an8}See you
"""
ZOOM = "WEBVTT\r\n\r\n1\r\n00:00:01.000 --> 00:00:03.000\r\nAna Lee: can we ship at 10:30?\r\n"


def test_transcripts_are_read_without_times() -> None:
    vtt, srt, zoom = read_transcript(VTT), read_transcript(SRT), read_transcript(ZOOM)
    assert vtt is not None
    assert srt is not None
    assert zoom is not None
    assert vtt.dialogue == "Ana Lee: Can we ship on Friday? Or is it too early & risky?\nBen: Friday is fine."
    assert (vtt.form, srt.form) == ("WebVTT transcript", "SubRip transcript")
    assert srt.dialogue == "Ana: can we ship on Friday?\nBen: Friday is fine.\nSee you"
    assert zoom.dialogue == "Ana Lee: can we ship at 10:30?"


@pytest.mark.parametrize("written", [SRT, VTT])
def test_cues_need_no_empty_line_between_them(written: str) -> None:
    close = written.replace("?\n\n", "?\n").replace(".\n\n", ".\n").replace("</v>\n\n00", "</v>\n00")
    assert close != written
    assert read_transcript(close) == read_transcript(written)


def test_no_words_of_a_transcript_are_lost() -> None:
    srt = (
        "1\n00:00:01,000 --> 00:00:03,000\n[Ana]: Can we\n\nship?\n\n2\n0:0:3,5 --> 0:0:5,25\nBen: Yes.\n\n\n3\n"
        "00:00:06,000 --> 00:00:07,000\nBen: Fri.\n\nday\n"
    )
    assert read_bytes(srt.encode()).dialogue == "Ana: Can we\nship?\nBen: Yes. Fri.\nday"


def test_lines_that_a_machine_shows_twice_are_read_once() -> None:
    rolling = """WEBVTT

00:01.000 --> 00:02.000
so <00:00:01.500><c>we</c>

00:02.000 --> 00:03.000
so we

00:03.000 --> 00:04.000
so we
ship <00:00:03.500><c>it</c>
"""
    chat = read_transcript(rolling)
    assert chat is not None
    assert chat.dialogue == "so we\nship it"


def test_words_that_people_say_twice_are_read_twice() -> None:
    chat = read_transcript(
        "WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ana>I said no\n\n00:02.000 --> 00:03.000\n<v Ana>no\n"
    )
    assert chat is not None
    assert chat.dialogue == "Ana: I said no no"


def test_the_line_above_a_cue_names_its_speaker() -> None:
    cue = '{} "{}" (31201{})\n00:00:0{}.000 --> 00:00:0{}.900\n{}\n\n'
    said = [("Ana Lee", "can we ship?"), ("Ben", "yes"), ("Ben", "one thing: tests")]
    cues = (cue.format(n, name, n, n, n, words) for n, (name, words) in enumerate(said, 1))
    chat = read_transcript("WEBVTT\n\n" + "".join(cues) + "00:00:09.000 --> 00:00:09.900\n(music)\n")
    assert chat is not None
    assert chat.dialogue == "Ana Lee: can we ship?\nBen: yes one thing: tests\n(music)"


@pytest.mark.parametrize("text", ["a --> b", "WEBVTT is a format", "see 00:00:01.000 --> 00:00:03.000 in it", ""])
def test_text_about_transcripts_is_none(text: str) -> None:
    assert read_transcript(text) is None


@pytest.mark.parametrize(
    "cell",
    [
        f"\n  {CHAT}",
        "Mar 14, 2024, 09:02 - Ana: olé\nMar 14, 2024, 09:03 - Ben: hi",
        "WhatsApp Chat with Ana\n\n03/06/2024, 18:00 - Messages are end-to-end encrypted\n" + CHAT,
        "Messages and calls are end-to-end encrypted.\n[6/3/24, 9:02:11 AM] Ana: olé\n[6/3/24, 9:02:12 AM] Ben: hi",
    ],
)
def test_a_cell_is_an_export_however_that_begins(cell: str) -> None:
    example = check({"dialogue": cell, "summary": "s"}, Columns())
    assert isinstance(example, Example)
    assert example.dialogue.split("\n")[-2:] == ["Ana: olé", "Ben: hi"]


def test_a_cell_that_holds_an_export_is_read_as_the_file_would_be() -> None:
    assert check({"dialogue": CHAT, "summary": "s"}, Columns()) == Example("Ana: olé\nBen: hi", "s")
    assert check({"dialogue": SRT, "summary": "s"}, Columns()) == Example(
        "Ana: can we ship on Friday?\nBen: Friday is fine.\nSee you", "s"
    )
