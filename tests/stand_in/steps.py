"""The steps of a program at which a signal can raise KeyboardInterrupt, one by one.

Python runs signal handlers in the main thread: when a function begins, after a call, and when a loop begins anew. A
signal that is sent after some seconds almost always meets a wait, and almost never the one step between a lock that is
taken and the `try` that releases it. Here each such step is one that a test can choose.

A step is one of its own for each pair of callers: the lock of a run is taken in the same lines as any other file's.
"""

import dis
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_ASKS = {"RESUME", "CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD", "CALL_KW"}
"""Instructions that let signal handlers run when they are done."""
_OF_PYTHON = ("contextlib.py", "subprocess.py", "threading.py", "tempfile.py", "shutil.py", "queue.py", "weakref.py")
_OF_OTHERS = ("filelock",)


def watch_steps(count: Callable[[str], object]) -> None:
    """Call `count` at each new step of this thread from now on, in lorasum, in its container scripts, and in what
    they take and release with.

    It is told where that is: the line, and those of its callers.
    """
    seen: set[object] = set()

    def calls(frame: FrameType, event: str, argument: Any) -> Any:
        if not _is_watched(frame.f_code):
            return None
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return steps

    def steps(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "opcode" and frame.f_lasti in _after(frame.f_code):
            caller = frame.f_back
            second = caller.f_back if caller else None
            key = [(one.f_code, one.f_lasti) for one in (frame, caller, second) if one]
            if (place := tuple(key)) not in seen:
                seen.add(place)
                count(_told(frame))
        return steps

    sys.settrace(calls)


@cache
def _is_watched(code: CodeType) -> bool:
    path = Path(code.co_filename)
    ours = ("lorasum" in path.parts and "src" in path.parts) or "container_scripts" in path.parts
    return (
        ours or (path.name in _OF_PYTHON and path.parent.name.startswith("python3")) or path.parent.name in _OF_OTHERS
    )


@cache
def _after(code: CodeType) -> frozenset[int]:
    """The offsets of the instructions that follow those which let signal handlers run."""
    found, asked = set(), False
    for instruction in dis.get_instructions(code):
        if asked:
            found.add(instruction.offset)
        asked = instruction.opname in _ASKS
    return frozenset(found)


def _told(frame: FrameType | None) -> str:
    """The line of a frame, and those of eight callers."""
    lines: list[str] = []
    while frame and len(lines) < 9:
        lines.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(lines)
