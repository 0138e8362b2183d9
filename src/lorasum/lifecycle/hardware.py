"""Where a training would run: the instance types of a config with what they have, or this machine."""

from dataclasses import dataclass

from lorasum.config.instances import SMALLEST, facts_of
from lorasum.config.schema import Config
from lorasum.shared.container_limits import free_main_memory

_USABLE = 0.9  # of the main memory: the system and SageMaker's agent have their part
_GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Hardware:
    """The instance types that a config names; without any, this machine.

    Attributes:
        types: of the training job, the preferred one first.
        endpoint_types: of the endpoint.
        volume_gb: of a training instance that has no disks of its own.
    """

    types: tuple[str, ...] = ()
    endpoint_types: tuple[str, ...] = ()
    volume_gb: int = 0

    @classmethod
    def of(cls, config: Config) -> "Hardware":
        """That of the config."""
        if config.backend != "sagemaker":
            return cls()
        own = config.sagemaker
        return cls(own.training_instance_types, own.endpoint_instance_types, own.volume_size_gb)

    @property
    def choices(self) -> tuple[str, ...]:
        """The config's types and the smallest ones of each kind of GPU, those with the smallest GPU first."""
        if not self.types:
            return ()
        known = {name: facts_of(name) for name in (*SMALLEST, *self.types, *self.endpoint_types)}
        return tuple(sorted(known, key=lambda name: (known[name].gpu_gib, known[name].gpus, known[name].ram_gib)))

    @property
    def gpu_sizes(self) -> tuple[int, ...]:
        """GiB that are free on the GPUs of all these types, the smallest first; none if the job's own is not known."""
        if not all(self.gpu_gib(name) for name in self.types):
            return ()
        return tuple(sorted({self.gpu_gib(name) for name in self.choices} - {0}))

    @property
    def tightest(self) -> str:
        """The training's type with the smallest GPU, of which it may get any; empty for this machine."""
        return min(self.types, key=self.gpu_gib, default="")

    @property
    def only_type(self) -> str:
        """The training's type; empty on this machine, and where it may get one of several."""
        return self.types[0] if len(self.types) == 1 else ""

    def gpu_gib(self, name: str) -> int:
        """GiB that are free on each GPU of a type; 0 for this machine, and where it is not known."""
        return facts_of(name).gpu_gib

    def gpus(self, name: str) -> int:
        """GPUs of a type; 0 for this machine."""
        return facts_of(name).gpus if name else 0

    def ram_bytes(self, name: str) -> int:
        """Main memory that a job may use of an instance of this type, or of this machine; 0 where it is not known."""
        if name:
            return round(facts_of(name).ram_gib * _USABLE) << 30
        return free_main_memory()

    def disk_bytes(self, name: str, free_here: int) -> int:
        """Of an instance of this type: its own disks, or the volume. SageMaker gives one or the other."""
        return (facts_of(name).disk_gb or self.volume_gb) * _GB if name else free_here

    def more_disk(self, name: str, needed: int) -> str:
        """How to get that many bytes."""
        if not name:
            return "free this disk: `lorasum clean` deletes old runs, and LORASUM_HOME names another place"
        if facts_of(name).disk_gb:
            return "choose a larger size: SageMaker gives this type no volume beside its own disks"
        return f"set sagemaker.volume_size_gb to {-(-needed // _GB)} or more"
