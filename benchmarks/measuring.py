"""What the benchmarks share: a process for each run, peak memory, and results as JSON and as a Markdown table."""

import json
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"


def run_alone(script: str, *arguments: object, python: Path = Path(sys.executable)) -> dict[str, Any]:
    """Run a script in a process of its own; returns the JSON of its last line, or how it failed."""
    command = [str(python), script, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"failed": f"exit status {done.returncode}"}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def reset_peak() -> None:
    """Forget the peak so far, the loading's."""
    import torch

    if has_gpu():
        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM


def peak() -> int:
    """Bytes: the allocator's peak on a GPU, the resident set's elsewhere."""
    import torch

    return torch.cuda.max_memory_allocated() if has_gpu() else resident_peak()


def resident_peak() -> int:
    """Bytes of this process's resident set at most: not getrusage's, which has the parent's in it from before exec."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def device() -> str:
    """The GPU's name, or the processor's with the number of threads."""
    import torch

    if has_gpu():
        return torch.cuda.get_device_name(0)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
    return f"{name}, {torch.get_num_threads()} threads"


def save(name: str, title: str, libraries: Sequence[str], body: Sequence[str], figures: dict[str, Any]) -> None:
    """Print the Markdown `body` under a title with device, date and versions; write it and the figures to results/."""
    versions = {library: version(library) for library in libraries}
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    about = " · ".join([device(), today, ", ".join(f"{library} {number}" for library, number in versions.items())])
    text = "\n".join([f"### {title}", "", about, "", *body])
    print(text)
    kind = "gpu" if has_gpu() else "cpu"
    report = {"title": title, "device": device(), "date": today, "versions": versions, **figures}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}-{kind}.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (RESULTS / f"{name}-{kind}.md").write_text(text + "\n", encoding="utf-8")
