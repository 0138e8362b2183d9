"""What a training needs of memory and disk, before anything is started: the job's own estimate, made on this machine,
and whether the instance type, or this machine, has it."""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lorasum.backends.records import Check, Room, TrainSpec
from lorasum.config.instances import peak_of, sizes_of
from lorasum.errors import LorasumError
from lorasum.lifecycle.hardware import Hardware
from lorasum.lifecycle.planning import PlannedJob
from lorasum.lifecycle.training_time import band_of, overhead_seconds
from lorasum.reporting import Reporter
from lorasum.results.training import TimeBand
from lorasum.shared.names import GPU_BYTES, PROCESSES, SM_CHANNEL_MODEL, SM_CHANNEL_TRAINING
from lorasum.shared.records import MemoryPlan, Needs, from_json
from lorasum.system import paths
from lorasum.system.cache import keep, read_cache
from lorasum.system.files import folder_digest
from lorasum.system.script_environment import script_environment

_SECONDS = 300  # a model of 70 billion parameters takes one minute
_REMEMBERED = 100  # estimates
_GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a training needs, or why nobody here can tell.

    Attributes:
        needs: None if it is unknown.
        unknown: why it is; empty if it is known.
    """

    job: PlannedJob
    needs: Needs | None
    unknown: str = ""

    @property
    def hardware(self) -> Hardware:
        return self.job.hardware

    def memory(self, name: str) -> MemoryPlan | None:
        """Of this type's GPU, or of this machine; None where it is not known."""
        if self.needs is None or not self.needs.plans:
            return None
        if not self.hardware.types:
            return self.needs.plans[0]
        by_size = dict(zip(self.hardware.gpu_sizes, self.needs.plans, strict=True))
        return by_size.get(self.hardware.gpu_gib(name))

    def host(self, name: str) -> Room | None:
        """The main memory of one instance of this type, or of this machine; None where that is part of `memory`."""
        if self.needs is None or not self.needs.process_bytes:
            return None
        processes, memory = self.hardware.gpus(name) or self.job.spec.processes, self.memory(name)
        merge = 0 if self.job.spec.adapter_only else self.needs.merge_bytes
        parts = {"GPU processes": processes * self.needs.process_bytes, "merge": merge}
        base = {"base model": memory.shared_bytes} if memory and memory.shared_bytes else {}
        return Room(parts | base, self.hardware.ram_bytes(name))

    def disk(self, name: str) -> Room | None:
        """The disk of one instance of this type, or of this machine."""
        if self.needs is None:
            return None
        downloads = self.hardware.types or self.job.spec.model.path is None
        base = {"base model": self.needs.base_bytes} if downloads else {}
        parts = {"merged model": self._merged_bytes(self.needs), "checkpoints": self.needs.checkpoint_bytes}
        return Room(base | parts, self.hardware.disk_bytes(name, shutil.disk_usage(paths.home()).free))

    def band(self, name: str) -> TimeBand | None:
        """The time of the steps by arithmetic, on instances of this type or on this machine; None if it is unknown."""
        memory = self.memory(name)
        if self.needs is None or memory is None or self.refusal(name):
            return None
        if memory.shared_bytes and self.needs.process_bytes:  # how fast the base model comes to GPUs is not known
            return None
        again = self.needs.forward_operations * memory.recomputed_layers / max(memory.layers, 1)
        operations = self.needs.step_operations + again if self.needs.step_operations else 0.0
        if not name:
            return band_of(self.job.work, operations, self.needs.peak, measured=True)
        instances = self.job.spec.processes // self.hardware.gpus(self.hardware.types[0])
        return band_of(self.job.work, operations, instances * peak_of(name), measured=False)

    def overhead_seconds(self, measured: bool) -> float:
        """Seconds of a job on SageMaker besides its steps; 0 on this machine, and where its bytes are not known."""
        if self.needs is None or not self.hardware.types:
            return 0.0
        return overhead_seconds(self.needs.base_bytes, self._merged_bytes(self.needs), measured)

    def _merged_bytes(self, needs: Needs) -> int:
        return 0 if self.job.spec.adapter_only else needs.merged_bytes

    def refusal(self, name: str) -> str:
        """What this type, or this machine, has too little of; empty if all fits, as far as that is known."""
        memory, host, disk = self.memory(name), self.host(name), self.disk(name)
        if memory and memory.refusal:
            return "GPU" if self.hardware.types else "memory"
        return "RAM" if host and not host.fits else "disk" if disk and not disk.fits else ""

    def nearest(self) -> str:
        """The smallest type, of those looked at, into which the training fits; empty if there is none.

        One whose GPU holds the base model goes before those that would have it in main memory, and of those another
        size of the job's own family before other families.
        """
        sizes = sizes_of(self.hardware.tightest)
        fitting = [name for name in (*sizes, *self.hardware.choices) if not self.refusal(name)]
        plans = {name: plan for name in fitting if (plan := self.memory(name))}
        looked_at = [name for name in self.hardware.choices if name in plans and not plans[name].shared_bytes]
        return next(iter([*looked_at, *plans]), "")


def estimate_of(job: PlannedJob, report: Reporter) -> Estimate:
    """What a training on a prepared dataset needs. Of instance types, the answer is remembered; this machine's free
    memory is another one each time."""
    hardware = job.hardware
    if hardware.types and not hardware.gpu_sizes:
        return Estimate(job, None, f"what {hardware.types[0]} has is not known")
    if importlib.util.find_spec("torch") is None:
        return Estimate(job, None, "that takes torch: pip install 'lorasum[local]'")
    flags, variables = _asked(job.spec, hardware)
    identity = json.dumps([flags, variables, job.spec.model.location, folder_digest(paths.container_scripts())])
    key = hashlib.sha256(identity.encode()).hexdigest()
    known = read_cache("needs") if hardware.types else {}
    if key in known:
        return Estimate(job, from_json(Needs, known[key]))
    report.step("estimating memory and time of the training")
    told = _tell(flags, variables)
    if isinstance(told, str):
        return Estimate(job, None, told)
    if hardware.types:
        keep("needs", key, json.dumps(asdict(told)), _REMEMBERED)
    return Estimate(job, told)


def _asked(spec: TrainSpec, hardware: Hardware) -> tuple[list[str], dict[str, str]]:
    """Flags and environment variables of container_scripts/memory_plan.py."""
    flags = [text for name, value in spec.hyperparameters.items() for text in (f"--{name}", value)]
    return flags, {
        SM_CHANNEL_TRAINING: str(spec.dataset),
        **({SM_CHANNEL_MODEL: str(spec.model.path)} if spec.model.path else {}),
        GPU_BYTES: json.dumps([gib << 30 for gib in hardware.gpu_sizes]),
        PROCESSES: str(spec.processes),
    }


def _tell(flags: list[str], variables: Mapping[str, str]) -> Needs | str:
    """What memory_plan.py tells, or why it does not."""
    command = [sys.executable, str(paths.container_scripts() / "memory_plan.py"), *flags]
    environ = {**script_environment(os.environ), **variables}
    try:
        told = subprocess.run(  # noqa: S603
            command, env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it takes longer than {_SECONDS // 60} minutes"
    if told.returncode:
        return (told.stderr.strip().splitlines() or ["it failed"])[-1]
    return from_json(Needs, told.stdout.splitlines()[-1])


def checks(estimate: Estimate) -> list[Check]:
    """Whether the training fits into the memory, and what it leaves on the disk; nothing where that is unknown."""
    tightest = estimate.hardware.tightest
    memory, host, disk = estimate.memory(tightest), estimate.host(tightest), estimate.disk(tightest)
    found = [_memory_check(estimate, memory)] if memory else []
    of = f" of {tightest}" if tightest else ""
    if host and host.there_bytes:
        fix = f"train on an {nearest}, which has more" if (nearest := estimate.nearest()) else "choose a larger size"
        found.append(_room_check("main memory", host, 2**30, "GiB", of, fix))
    if disk and disk.there_bytes:
        found.append(_room_check("disk", disk, _GB, "GB", of, estimate.hardware.more_disk(tightest, disk.needed_bytes)))
    return found


def _memory_check(estimate: Estimate, memory: MemoryPlan) -> Check:
    tightest = estimate.hardware.tightest
    if not memory.refusal:
        where = f" of {tightest}" if tightest else ""
        base = f", with {memory.shared_bytes / 2**30:.1f} GiB of the base model in main memory"
        shared = base if memory.shared_bytes else ""
        return Check("memory", True, f"it fits into the {memory.memory_free_bytes / 2**30:.1f} GiB{where}{shared}")
    message, _, hint = memory.refusal.partition("\n")
    nearest = f"; or train on an {name}, into which it fits" if (name := estimate.nearest()) else ""
    return Check("memory", False, message, f"{hint}{nearest}")


def _room_check(what: str, room: Room, unit: int, name: str, of: str, fix: str) -> Check:
    needed, there = f"{room.needed_bytes / unit:,.1f} {name}", f"{room.there_bytes / unit:,.0f} {name}{of}"
    if room.fits:
        return Check(what, True, f"{needed} fit into the {there}")
    return Check(what, False, f"this training needs {needed}, and there are {there}", fix)


def fitted(job: PlannedJob, report: Reporter) -> Estimate:
    """The estimate of a job that is paid for. On this machine nothing is estimated: the job itself looks at once.

    Raises:
        LorasumError: it does not fit.
    """
    if not job.hardware.types:
        return Estimate(job, None)
    estimate = estimate_of(job, report)
    for check in checks(estimate):
        if not check.ok:
            raise LorasumError(check.found, check.fix)
    return estimate
