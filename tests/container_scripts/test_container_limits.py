"""What a process may take of its machine, in the files that Linux shows and in a real group of limited memory."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import torch

import inference
import launch
from lorasum.lifecycle.hardware import Hardware
from lorasum.system import paths
from shared import container_limits
from shared.names import PROCESSES

MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")  # where version 1 of cgroups lies

Linux = Callable[[str, Mapping[str, str]], None]


@pytest.fixture
def linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Linux:
    """Writes what Linux shows: the group of this process, and the files of groups."""

    def show(ours: str, files: Mapping[str, str]) -> None:
        (tmp_path / "ours").write_text(ours + "\n")
        for name, text in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")

    monkeypatch.setattr(container_limits, "_CGROUP", tmp_path / "groups")
    monkeypatch.setattr(container_limits, "_OURS", tmp_path / "ours")
    return show


def version_2(limit: str, used: int, read: int) -> dict[str, str]:
    return {"memory.max": limit, "memory.current": str(used), "memory.stat": f"anon 1\ninactive_file {read}"}


def version_1(limit: int, used: int, read: int) -> dict[str, str]:
    stat = f"inactive_file 1\ntotal_inactive_file {read}"
    return {"memory.limit_in_bytes": str(limit), "memory.usage_in_bytes": str(used), "memory.stat": stat}


def inside(folder: str, files: Mapping[str, str]) -> dict[str, str]:
    return {f"{folder}/{name}": text for name, text in files.items()}


def test_a_containers_limit_counts_but_not_the_files_that_it_has_read(linux: Linux) -> None:
    without = container_limits.free_main_memory()
    linux("0::/", version_2("9000", 7000, 500))
    assert container_limits.free_main_memory() == 2500 < without
    linux("0::/", version_2("max", 7000, 500))
    assert container_limits.free_main_memory() > 2500


def test_without_proc_a_process_may_take_what_the_machine_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with_proc = container_limits.free_main_memory()
    for name in ("_SYSTEM", "_OURS"):
        monkeypatch.setattr(container_limits, name, tmp_path / "missing")
    assert with_proc < container_limits.free_main_memory() < 2**50


def test_the_limits_of_all_groups_around_a_process_count(linux: Linux) -> None:
    """As Slurm has them: the job's group is limited, and its processes are in a group of each step's task."""
    task = "system.slice/slurmstepd.scope/job_7/step_0/user/task_0"
    job = str(Path(task).parents[2])
    linux(f"0::/{task}", inside(task, version_2("max", 6000, 0)) | inside(job, version_2("9000", 7000, 500)))
    assert container_limits.free_main_memory() == 2500


def test_version_1_counts_seen_from_the_machine_and_from_a_container(linux: Linux) -> None:
    ours = "9:name=systemd:/docker/5f\n4:cpu,memory:/docker/5f\n0::/"
    whole = version_1(9223372036854771712, 7000, 500)
    linux(ours, inside("memory", whole) | inside("memory/docker/5f", version_1(9000, 7000, 500)))
    assert container_limits.free_main_memory() == 2500
    linux("4:memory:/docker/77", inside("memory", version_1(8000, 7000, 500)))
    assert container_limits.free_main_memory() == 1500, "a container has its own group as the root, under no path"


@pytest.fixture
def limited() -> Iterator[Path]:
    """A real group whose processes may take 256 MiB."""
    group = MEMORY_GROUPS / f"lorasum-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text("256M")
    except OSError:
        pytest.skip("takes a system with version 1 of cgroups, and root")
    yield group
    group.rmdir()


def test_a_job_and_the_client_plan_with_the_memory_of_their_group(limited: Path) -> None:
    program = (
        "import os, pathlib, sys\n"
        "pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))\n"
        "from shared import container_limits\n"
        "from lorasum.lifecycle.hardware import Hardware\n"
        "print(container_limits.free_main_memory(), Hardware().ram_bytes(''))\n"
    )
    path = os.pathsep.join([str(paths.container_scripts()), str(Path(paths.__file__).parents[2])])
    command = [sys.executable, "-c", program, str(limited / "cgroup.procs")]
    asked = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    job, client = map(int, asked.stdout.split())
    assert 0 < job < 256 << 20
    assert 0 < client < 256 << 20
    assert Hardware().ram_bytes("") > 256 << 20


def test_processes_share_the_processors_that_they_may_run_on() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        [process] = launch.ranks({PROCESSES: "1", "SM_HOSTS": '["a", "b"]', "SM_CURRENT_HOST": "a"})
    finally:
        os.sched_setaffinity(0, allowed)
    assert process["OMP_NUM_THREADS"] == "1"


def test_a_quota_of_time_counts_as_processors(linux: Linux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(64)))
    linux("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"})
    assert container_limits.processors() == 2, "that of a group around it, and a part of one is one"
    linux("4:cpu,cpuacct:/c\n0::/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"})
    assert container_limits.processors() == 64
    linux("4:cpu,cpuacct:/c", {"cpu/c/cpu.cfs_quota_us": "300000", "cpu/c/cpu.cfs_period_us": "100000"})
    assert container_limits.processors() == 3


@pytest.mark.parametrize(("chosen", "expected"), [(None, 1), ("3", 3)])
def test_torch_keeps_to_a_quota_unless_the_user_decides(
    chosen: str | None, expected: int, linux: Linux, tiny_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linux("0::/", {"cpu.max": "50000 100000"})
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", chosen)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        inference.model_fn(str(tiny_model_dir))
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)
