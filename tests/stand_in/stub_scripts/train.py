"""A training that takes no time: it leaves an artifact and says so. If two run at once, `two-at-once` is left."""

import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

from shared.events import DoneEvent, event_line
from shared.names import RECORD_FILE, serving_files
from shared.records import ArtifactRecord, FileFacts, record_text


def main() -> None:
    here, model = Path(__file__).parent, Path(os.environ["SM_MODEL_DIR"])
    checkpoints = Path(sys.argv[sys.argv.index("--checkpoint_dir") + 1])
    manifest = json.loads((Path(os.environ["SM_CHANNEL_TRAINING"]) / "manifest.json").read_bytes())
    with (checkpoints / "alone").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            (checkpoints / "two-at-once").touch()
            raise
        time.sleep(0.2)
        for name, source in serving_files(here).items():
            (model / "code" / name).parent.mkdir(parents=True, exist_ok=True)
            if source.exists():
                shutil.copyfile(source, model / "code" / name)
        (model / "model.safetensors").write_bytes(b"weights")
        files = {path.relative_to(model).as_posix(): path for path in model.rglob("*") if path.is_file()}
        facts = {n: FileFacts(p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()) for n, p in files.items()}
        done = DoneEvent(1.5, 1.25, 900, 90.0, 10.0, 9)
        record = ArtifactRecord(
            1, "tiny", "tiny", None, manifest["template"], 2, (), manifest["fingerprint"], {}, done, {}, files=facts
        )
        (model / "record.part").write_text(record_text(record))
        (model / "record.part").rename(model / RECORD_FILE)
        with (Path(os.environ["SM_OUTPUT_DATA_DIR"]) / "metrics.jsonl").open("a") as file:
            file.write(event_line(done) + "\n")


if __name__ == "__main__":
    main()
