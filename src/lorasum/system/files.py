"""Files and folders that are there whole or not at all, and that nobody else can read.

What lorasum writes holds people's chats: folders are made with mode 0700 and files with 0600, whatever the umask.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from itertools import count
from pathlib import Path
from typing import IO, Any, Final

from filelock import FileLock, Timeout

from lorasum.errors import LorasumError
from lorasum.system import paths

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600
USER_FILE_MODE: Final = 0o666
"""Permissions of files that the user names, such as --output: the umask decides, as it does for every program."""
STDIN: Final = Path("/dev/stdin")
STDOUT: Final = Path("/dev/stdout")
"""What `-` means. It is read and written by its descriptor: opened by its name, a file begins anew, and a socket cannot
be opened."""

_PART = re.compile(r".*\.(\d+)-\d+\.part")
_part_numbers = count()


def first_line(error: BaseException) -> str:
    """What an error says, in one line: the first line of its message, or its type where it has none."""
    name = "interrupted" if isinstance(error, KeyboardInterrupt) else type(error).__name__
    return (str(error).strip() or name).splitlines()[0].rstrip()


@contextmanager
def writing(target: Path, hint: str = "") -> Iterator[None]:
    """Turn an OSError of the block into an error that says that `target` cannot be written.

    Args:
        hint: what to do about it; by default, to look at the disk, or to move lorasum's home if `target` is in it.

    Raises:
        LorasumError: the block raised an OSError, such as a full disk.
        BrokenPipeError: whoever read the target has left, as in `| head -1`.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else first_line(error)
        is_ours = target.is_relative_to(paths.home())
        other = "; LORASUM_HOME moves it to another disk" if is_ours else ", or name a file elsewhere"
        raise LorasumError(
            f"cannot write {target}: {why}", hint or f"free some disk space or check the folder's permissions{other}"
        ) from error


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, each for its owner alone. One that exists keeps its mode.

    Raises:
        OSError: it cannot be made.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=FOLDER_MODE, exist_ok=True)
    if not folder.is_dir():
        raise NotADirectoryError(20, os.strerror(20), str(folder))


def open_source(path: Path) -> IO[bytes]:
    """Open a file of the user's to read, or stdin where it stands.

    Raises:
        OSError: it cannot be read.
    """
    return os.fdopen(os.dup(0), "rb") if path == STDIN else path.open("rb")


def or_stdin(path: Path) -> Path:
    """The path, as STDIN where it is another name of stdin: -, /dev/fd/0 or /proc/self/fd/0."""
    return STDIN if str(path) in ("-", "/dev/fd/0", "/proc/self/fd/0") else path


def open_file(path: Path, mode: str, errors: str = "strict", permissions: int = FILE_MODE) -> IO[Any]:
    """Open a file to write or append. A file that it makes can be read by its owner alone.

    Args:
        mode: as `open` takes it; a text mode means UTF-8 with "\\n" at the end of lines.
        errors: what becomes of text that is not Unicode, as `open` takes it.
        permissions: of a file that is made; USER_FILE_MODE for one that the user has named.
    """
    binary = "b" in mode
    return open(
        path,
        mode,
        encoding=None if binary else "utf-8",
        errors=None if binary else errors,
        newline=None if binary else "\n",
        opener=lambda name, flags: os.open(name, flags, permissions),
    )


@contextmanager
def new_file(path: Path, mode: str = "w", permissions: int = FILE_MODE, errors: str = "strict") -> Iterator[IO[Any]]:
    """A file that becomes `path` when the block ends well, and is removed when it does not.

    It is written under another name beside `path`. What a killed process left there is removed by the next one.

    Args:
        mode: "w" for UTF-8 text, "wb" for bytes.
        permissions: as `open_file` has them, and `errors` too.

    Raises:
        OSError: it cannot be written; an earlier `path` is as it was.
    """
    make_folder(path.parent)
    remove_stale_part_files(path.parent, escape(path.name))
    part = path.with_name(f".{path.name}.{os.getpid()}-{next(_part_numbers)}.part")
    try:
        with open_file(part, mode, errors, permissions) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_file(path: Path, content: str | bytes, permissions: int = FILE_MODE) -> None:
    """Write a whole file, or leave what was there before.

    Raises:
        OSError: it cannot be written.
    """
    with new_file(path, "wb", permissions) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """Twelve hex digits: a hash of the names and contents of all Python files and requirements below a folder."""
    files = sorted(path for pattern in ("*.py", "*.txt") for path in folder.rglob(pattern))
    listed = "\n".join(f"{file_digest(path)} {path.relative_to(folder).as_posix()}" for path in files)
    return hashlib.sha256(listed.encode()).hexdigest()[:12]


def disk_usage(folder: Path, without: str = "") -> tuple[int, float]:
    """The bytes that a folder takes of the disk, and when its newest file was written. A hard link counts once.

    Args:
        without: the name of files that do not count.
    """
    sizes: dict[tuple[int, int], int] = {}
    newest = folder.stat().st_mtime if folder.is_dir() else 0.0
    for place, _, names in os.walk(folder):
        for name in names:
            if name == without:
                continue
            try:
                there = os.lstat(Path(place) / name)
            except FileNotFoundError:
                continue  # a job that runs removes old checkpoints
            sizes[there.st_dev, there.st_ino] = there.st_blocks * 512
            newest = max(newest, there.st_mtime)
    return sum(sizes.values()), newest


def read_rows(content: bytes) -> Iterator[dict[str, object]]:
    """The objects of JSON Lines. Other lines are ignored, such as half a line that a killed process left."""
    for line in content.splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row


@contextmanager
def maker_lock(target: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Let one process at a time make folders beside `target`. `waiting` is called if another process is making one.

    The lock file stands beside the parent, not in it: a failed attempt leaves no folder behind. The system releases
    the lock of a process that dies.

    Raises:
        LorasumError: the lock file cannot be written.
    """
    with writing(target):
        make_folder(target.parent.parent)
    lock = FileLock(target.parent.with_name(f"{target.parent.name}.lock"), mode=FILE_MODE)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder that becomes `target` when the block ends well, and is removed when it does not.

    Hold `maker_lock(target)`: what an earlier, killed attempt left is removed first, as is a broken `target`.

    Raises:
        LorasumError: an OSError while making it, such as a full disk; nothing is left of it.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        with writing(target):
            shutil.rmtree(partial, ignore_errors=True)
            make_folder(partial)
            yield partial
            _finish(partial)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # it holds other folders, so it stays
            target.parent.rmdir()
        raise


def links_out(paths: Iterable[Path], folder: Path) -> list[Path]:
    """Those of `paths` that are links which lead out of `folder`.

    A folder from somebody else must not read the user's private files through a link. A folder inside a repository (of
    Git, or of the hub's cache, where files are links to blobs) may link to the whole repository.
    """
    links = [path for path in paths if path.is_symlink()]
    root = folder.resolve()
    root = next((one for one in (root, *root.parents) if _is_repository(one)), root) if links else root
    return [path for path in links if not path.resolve().is_relative_to(root)]


def _is_repository(folder: Path) -> bool:
    return folder.name.startswith(("datasets--", "models--")) or (folder / ".git").exists()


def remove_stale_part_files(folder: Path, name: str = "*") -> None:
    """Remove the unfinished files that killed processes left in `new_file`.

    Args:
        name: pattern of the file that was to be made. In a folder of the user's, give the whole name: others may be
            theirs.
    """
    for left in folder.glob(f".{name}.*.part"):
        match = _PART.fullmatch(left.name)
        if match and not _runs(int(match.group(1))):
            left.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _finish(folder: Path) -> None:
    """Make all of a folder private and have it on the disk before the folder is renamed.

    Without that a power cut could leave empty files behind. Libraries write some of the files with the umask's mode.
    """
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            path.chmod(FOLDER_MODE if path.is_dir() else FILE_MODE)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
