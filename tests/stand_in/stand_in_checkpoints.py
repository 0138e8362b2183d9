"""How SageMaker keeps a job's checkpoints in S3 while the job runs.

File by file, in no promised order, again and again; what is deleted is deleted there too. Beside each file it leaves a
marker, <file>.sagemaker-uploading and then <file>.sagemaker-uploaded. Nothing is done at once: a job that loses its
instance has in S3 what had come so far, which may be half of a checkpoint.
"""

import random
import threading
from pathlib import Path

from stand_in_aws import Aws

UPLOADING, UPLOADED = ".sagemaker-uploading", ".sagemaker-uploaded"
_BETWEEN_FILES = 0.02  # seconds


class CheckpointSync(threading.Thread):
    """Copies `folder` to `uri` until it is told to stop."""

    def __init__(self, folder: Path, uri: str, aws: Aws) -> None:
        super().__init__(daemon=True)
        self._folder, self._uri, self._aws = folder, uri.rstrip("/") + "/", aws
        self._sent: dict[str, tuple[int, int]] = {}
        self._over = threading.Event()
        self._order = random.Random(0)

    def run(self) -> None:
        while not self._over.wait(_BETWEEN_FILES):
            self._round(self._over)

    def break_off(self) -> None:
        """The instance is gone: what has not come yet will not."""
        self._over.set()
        self.join()

    def finish(self) -> None:
        """The job has ended: everything comes."""
        self.break_off()
        self._round(threading.Event())

    def _round(self, over: threading.Event) -> None:
        files = [
            path for path in self._folder.rglob("*") if path.is_file() and path.suffix not in (UPLOADING, UPLOADED)
        ]
        self._order.shuffle(files)
        for path in files:
            if over.wait(_BETWEEN_FILES if over is self._over else 0):
                return
            self._send(path)
        there = {path.relative_to(self._folder).as_posix() for path in files}
        for key in set(self._sent) - there:
            self._aws.forget(self._uri + key)
            del self._sent[key]

    def _send(self, path: Path) -> None:
        key = path.relative_to(self._folder).as_posix()
        uploading, uploaded = path.with_name(path.name + UPLOADING), path.with_name(path.name + UPLOADED)
        try:
            known = path.stat()
            if self._sent.get(key) == (known.st_mtime_ns, known.st_size):
                return
            uploading.touch()
            self._aws.keep(self._uri + key, path.read_bytes())
            uploading.replace(uploaded)
            self._sent[key] = (known.st_mtime_ns, known.st_size)
        except FileNotFoundError:
            return  # it went while it was being sent
