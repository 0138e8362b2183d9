"""Opens text files: decompresses them and turns any encoding into UTF-8, without a byte order mark."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lorasum.errors import DataError
from lorasum.system.files import first_line

_MARKS = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd", ".bz2": b"BZh", ".xz": b"\xfd7zXZ"}
"""First bytes of compressed files, by their suffix."""
_UNPACKED: dict[str, Callable[[IO[bytes]], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
COMPRESSED = tuple(_MARKS)
LONGEST_ROW = 16 * 2**20  # bytes; anything longer is not a row, but a file of another type

Say = Callable[[str, str], None]
"""Called with a file's name and what is odd about it, such as `read as Windows-1252`."""

_START = 512  # bytes by which the type of a file that may be binary is recognised
_HEAD = 2**18  # bytes by which the type and encoding of a file are recognised
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHERS = {  # by their first bytes: the type of the file, and the hint
    b"PK\x03\x04": ("a zip file or an Excel workbook", "unpack it; in Excel, save it as 'CSV UTF-8'"),
    b"\x1f\x8b": ("compressed with gzip", "add .gz to its name"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "add .zst to its name"),
    b"PAR1": ("a Parquet file", "call it .parquet"),
    b"ARROW1": ("an Arrow file", "call it .arrow"),
    b"SQLite format 3": ("an SQLite database", "export its table as CSV"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook or Word document", "in Excel, save it as 'CSV UTF-8'"),
    b"\xfd7zXZ": ("compressed with xz", "add .xz to its name"),
    b"BZh": ("compressed with bzip2", "add .bz2 to its name"),
    b"7z\xbc\xaf": ("a 7-Zip archive", "unpack it"),
    b"Rar!": ("a RAR archive", "unpack it"),
    b"%PDF": ("a PDF document", "export its text"),
    b"{\\rtf": ("an RTF document", "save it as plain text"),
    b"<!doctype html": ("a web page", "get the data itself: export or download it as JSON, CSV or text"),
    b"<html": ("a web page", "get the data itself: export or download it as JSON, CSV or text"),
}
_NO_TEXT = ("no text file", "its name tells another type than its content: call it by its type, or convert it to text")
_CONTROLS = bytes(range(7)) + bytes(range(14, 26)) + bytes(range(28, 32))
_MOST_CONTROLS = 0.1  # of the first bytes of a text
_LFS = b"version https://git-lfs"
_WESTERN = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüœŒ"
_SIGNS = "‘’“”„…–—•€£§°«»¿¡·´©®™²³½¼ªº\xa0"
_UNLIKELY = re.compile(r"\w[£§°«»¿¡©®²³½¼ªº]\w|õ(?![es])")  # Polish or Hungarian, read as Windows-1252
_MOST_ACCENTS = 0.25  # of the letters of a Western language


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that is being read.

    Attributes:
        plain: binary stream of UTF-8.
        head: its first bytes, at most 256 KiB. `plain` yields them too.
        whole: whether `head` is the whole file.
        size: bytes of the file on disk.
    """

    plain: Any
    head: bytes
    whole: bool
    disk: IO[bytes]
    size: int

    def share(self) -> float:
        """How much of the file on disk has been read, 0 to 1."""
        return self.disk.tell() / self.size if self.size else 1.0


@contextmanager
def opened(path: Path, say: Say) -> Iterator[Opened]:
    """Open a text file to read it.

    Raises:
        DataError: it cannot be opened or read to its end, or it is not text.
    """
    with _bytes_of(path) as (start, _):
        head = start.read(_HEAD)
        whole = not start.read(1)
    check_is_text(path, head)
    encoding = encoding_of(head, whole)
    if encoding == "cp1252":
        say(path.name, "not UTF-8: read as Windows-1252; if letters look wrong, save it as UTF-8")
    elif encoding:
        say(path.name, f"read as {encoding.upper()}")
    with _bytes_of(path) as (plain, disk):
        stream = plain
        if encoding:
            head = head.decode(encoding, "ignore").encode()
            stream = io.BufferedReader(_Chunks(_recoded(path, plain, encoding)), _HEAD)
        while not encoding and head.startswith(codecs.BOM_UTF8):  # joined files may begin with several
            head = head.removeprefix(codecs.BOM_UTF8)
            plain.read(len(codecs.BOM_UTF8))
        yield Opened(stream, head, whole, disk, path.stat().st_size)


def check_is_text(path: Path, head: bytes) -> None:
    """Check that a file is text, and not one of the types that often have a wrong suffix.

    Raises:
        DataError: it is of such a type; the message names it.
    """
    _check_is_no_pointer(path, head)
    if other := other_than_text(head):
        raise DataError(f"{path.name} is {other[0]}", other[1])


def other_than_text(head: bytes) -> tuple[str, str] | None:
    """What a file is, and what to do about it, by its first bytes; None if it may be text."""
    start = head[:_START].removeprefix(codecs.BOM_UTF8).lstrip()
    start = start.lower() if start.startswith(b"<") else head
    known = next((other for mark, other in _OTHERS.items() if start.startswith(mark)), None)
    if known or encoding_of(head, whole=False).startswith("utf"):
        return known
    first = head[:4096]
    controls = len(first) - len(first.translate(None, _CONTROLS))
    return _NO_TEXT if controls > _MOST_CONTROLS * len(first) else None


def check_is_data(path: Path, mark: bytes) -> None:
    """Check that a file of a binary type is none of another type, and not a Git LFS pointer.

    Args:
        mark: the first bytes of files of its type.

    Raises:
        DataError: it is of another type or a pointer, or it cannot be read.
    """
    with _bytes_of(path) as (plain, _):
        head = plain.read(_START)
    _check_is_no_pointer(path, head)
    other = other_than_text(head)
    if head and other is None:
        raise DataError(f"{path.name} is text", "call it by its type, such as .jsonl or .csv")
    if other and other is not _NO_TEXT and not head.startswith(mark):
        raise DataError(f"{path.name} is {other[0]}", "call it by its type, or unpack it")


def _check_is_no_pointer(path: Path, head: bytes) -> None:
    if head.startswith(_LFS):
        raise DataError(
            f"{path.name} is a Git LFS pointer, not the data itself",
            "run `git lfs pull` in its folder",
        )


@contextmanager
def _bytes_of(path: Path) -> Iterator[tuple[Any, IO[bytes]]]:
    """A file's decompressed bytes, and the file on disk. An error while they are read becomes a DataError."""
    try:
        with path.open("rb") as disk:
            _check_compression(path, disk)
            if unpacked := _UNPACKED.get(path.suffix.lower()):
                with unpacked(disk) as plain:
                    yield plain, disk
            elif path.suffix.lower() == ".zst":
                import pyarrow as pa

                with pa.input_stream(disk, compression="zstd") as stream:
                    yield io.BufferedReader(stream), disk
            else:
                yield disk, disk
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        what = "gzip" if path.suffix.lower() == ".gz" else "compressed"
        raise DataError(f"{path.name}: not a whole {what} file ({error})", "copy it again, or unpack it") from error
    except OSError as error:  # pyarrow's too, for a broken .zst
        if path.suffix.lower() == ".zst" and error.errno is None:
            raise DataError(f"{path.name}: not a whole zstd file ({first_line(error)})", "copy it again") from error
        raise DataError(
            f"cannot read {path}: {error.strerror or first_line(error)}", "check the file and its permissions"
        ) from error


def _check_compression(path: Path, disk: IO[bytes]) -> None:
    """Check that a file that is called .gz, .zst or so is compressed in this way, and go back to its beginning."""
    start = disk.read(_START)
    disk.seek(0)
    mark = _MARKS.get(path.suffix.lower(), b"")
    if start and not start.startswith(mark):
        what, _ = other_than_text(start) or ("not compressed", "")
        raise DataError(f"{path.name} is {what}", f"call it by its type, without {path.suffix}")


def encoding_of(head: bytes, whole: bool) -> str:
    """The encoding of a file that is not in UTF-8; empty for UTF-8, even with damaged bytes."""
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding if _decodes(head, encoding, whole) else ""
    for encoding in ("utf-16-le", "utf-16-be") if b"\0" in head else ():  # without a byte order mark
        if _decodes(head, encoding, whole) and _is_written(head.decode(encoding, "ignore")):
            return encoding
    if head.isascii() or _decodes(head, "utf-8", whole):
        return ""
    return "cp1252" if _is_western(head) else ""


def _is_written(text: str) -> bool:
    """Whether a text has lines or quotes, and hardly a character that nobody writes; those are of other bytes."""
    odd = sum(1 for sign in text if not (sign.isprintable() or sign.isspace()))
    return ("\n" in text or '"' in text) and odd <= _MOST_ODD * len(text)


_MOST_ODD = 0.01  # invisible and new characters


def _decodes(head: bytes, encoding: str, whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(head, final=whole)
    except UnicodeDecodeError:
        return False
    return True


def _is_western(head: bytes) -> bool:
    """Whether bytes that are not UTF-8 are Windows-1252, as Excel writes Western European languages.

    UTF-8 with a broken byte is not, and neither is another code page: read as Windows-1252, its words would be damaged
    without a warning.
    """
    if not head.decode("utf-8", "ignore").isascii():
        return False
    try:
        text = head.decode("cp1252")
    except UnicodeDecodeError:
        return False
    beyond = [sign for sign in text if sign > "\x7f"]
    letters = sum(1 for sign in text if sign.isalpha())
    accented = sum(1 for sign in beyond if sign.isalpha())
    return (
        all(sign in _WESTERN or sign in _SIGNS for sign in beyond)
        and accented <= _MOST_ACCENTS * letters
        and not _UNLIKELY.search(text)
    )


def _recoded(path: Path, plain: Any, encoding: str) -> Iterator[bytes]:
    """The stream's text in UTF-8, in chunks."""
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    try:
        while chunk := plain.read(_HEAD):
            yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
        yield decoder.decode(b"", final=True).encode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name}: the beginning is {encoding.upper()}, and not all of it is", "save it as UTF-8"
        ) from error


class _Chunks(io.RawIOBase):
    """Chunks of bytes as a stream."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
