"""Container scripts that suspend themselves, so that a test need not be faster than a job."""

import shutil
from pathlib import Path

import psutil
from local_world import REAL

_HOLDS = {
    "engine/checkpoint.py": """

_save = Checkpoints.save

def _save_and_wait(self, *arguments):
    is_first = not self._found()
    _save(self, *arguments)
    if is_first:
        os.kill(os.getpid(), 19)

Checkpoints.save = _save_and_wait
""",
    "answer.py": """

_answer = _answer_all

def _answer_all(*arguments):
    os.kill(os.getpid(), 19)
    _answer(*arguments)
""",
}
"""What is added to scripts. Signal 19 is SIGSTOP."""


def held_scripts(folder: Path) -> Path:
    """Make scripts whose training waits after its first checkpoint, and whose batch job before it answers.

    SIGCONT lets them go on. A training that begins with a checkpoint does not wait.
    """
    shutil.copytree(REAL, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name, added in _HOLDS.items():
        lines = (folder / name).read_text()
        code, guard, main = lines.partition('\n\nif __name__ == "__main__":')
        (folder / name).write_text(code + added + guard + main)
    return folder


def is_held(pid: int) -> bool:
    """Whether the process has suspended itself."""
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED
