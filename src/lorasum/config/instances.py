"""Checks instance types and regions offline, without asking AWS.

Only what is certainly wrong is a problem. A family or region that AWS added after this table passes.
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class InstanceFacts:
    """What an instance type has; 0 for what is not known.

    Attributes:
        gpu_gib: GiB that are free on each GPU before a model is loaded.
        ram_gib: GiB of main memory.
        disk_gb: GB of its own disks; 0 if SageMaker gives it a volume of any size.
    """

    gpus: int
    gpu_gib: int
    ram_gib: int
    disk_gb: int


_G_SIZES = "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge 48xlarge"
_GPU_FAMILIES: dict[str, tuple[int, str, str, str]] = {
    "g4dn": (14, "xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge", "16 32 64 128 192 256", "125 225 225 900 900 900"),
    "g5": (21, _G_SIZES, "16 32 64 128 192 256 384 768", "250 450 600 900 3800 1900 3800 7600"),
    "g6": (21, _G_SIZES, "16 32 64 128 192 256 384 768", "250 450 600 900 3760 1880 3760 7520"),
    "gr6": (21, "4xlarge 8xlarge", "128 256", "600 900"),
    "g6e": (43, _G_SIZES, "32 64 128 256 384 512 768 1536", "250 450 600 900 3800 1900 3800 7600"),
    "g7e": (
        93,
        "2xlarge 4xlarge 8xlarge 12xlarge 24xlarge 48xlarge",
        "64 128 256 512 1024 2048",
        "1900 1900 1900 3800 7600 15200",
    ),
    "p3": (15, "2xlarge 8xlarge 16xlarge", "61 244 488", "0 0 0"),
    "p3dn": (31, "24xlarge", "768", "1800"),
    "p4d": (38, "24xlarge", "1152", "8000"),
    "p4de": (78, "24xlarge", "1152", "8000"),
    "p5": (78, "4xlarge 48xlarge", "256 2048", "3800 30400"),
    "p5e": (138, "48xlarge", "2048", "30400"),
    "p5en": (138, "48xlarge", "2048", "30400"),
    "p6-b200": (177, "48xlarge", "2048", "30400"),
    "p6-b300": (265, "48xlarge", "4096", "30400"),
    "p6e-gb200": (183, "36xlarge", "0", "0"),
}
"""By family: GiB that are free on each GPU before a model is loaded, the sizes, their main memory in GiB, and their own
disks in GB, without which SageMaker gives a volume. NVIDIA's data sheets say a few GiB more of GPUs: the driver and
CUDA's context take theirs first. 0 GiB of main memory: not known. Source: EC2's DescribeInstanceTypes."""
_GPUS = {
    **dict.fromkeys(("g4dn.12xlarge", "g5.12xlarge", "g5.24xlarge", "g6.12xlarge", "g6.24xlarge"), 4),
    **dict.fromkeys(("g6e.12xlarge", "g6e.24xlarge", "g7e.24xlarge", "p3.8xlarge", "p6e-gb200.36xlarge"), 4),
    **dict.fromkeys(("g5.48xlarge", "g6.48xlarge", "g6e.48xlarge", "g7e.48xlarge", "p3.16xlarge", "p3dn.24xlarge"), 8),
    **dict.fromkeys(("p4d.24xlarge", "p4de.24xlarge", "p5.48xlarge", "p5e.48xlarge", "p5en.48xlarge"), 8),
    **dict.fromkeys(("p6-b200.48xlarge", "p6-b300.48xlarge"), 8),
    "g7e.12xlarge": 2,
}
"""GPUs of the sizes that have more than one."""
SMALLEST = (
    "ml.g4dn.xlarge",
    "ml.g5.xlarge",
    "ml.g6.xlarge",
    "ml.g6e.xlarge",
    "ml.p5.4xlarge",
    "ml.g7e.2xlarge",
    "ml.p5en.48xlarge",
)
"""The smallest type of each kind of GPU that a job is likely to be moved to, the smallest GPU first."""
_SERVING = ("g4dn", "g5", "g6", "g6e", "g7e", "p4d", "p4de", "p5", "p5e", "p5en")
"""Families that an endpoint is likely to be moved to."""
_TFLOPS = {"g4dn": 65, "p3": 125, "p3dn": 125, "g5": 70, "g6": 121, "gr6": 121, "g6e": 362} | {
    **dict.fromkeys(("p4d", "p4de"), 312),
    **dict.fromkeys(("p5", "p5e", "p5en"), 989),
    "p6-b200": 2250,
}
"""By family: what one of its GPUs reaches at most in bf16 products (fp16 on g4dn and p3), 10^12 operations a second, by
NVIDIA's data sheets, without sparsity. Families whose sheets leave that open are not here."""
_GPU_TYPES = [f"ml.{family}.{size}" for family, (_, sizes, *_) in _GPU_FAMILIES.items() for size in sizes.split()]
_NO_GPU = re.compile(r"(?:[cmrtix]\d+[a-z]*|trn\d[a-z]*|inf\d)(?:-flex)?$")
_SIZE = re.compile(r"(?:\d*x?large|medium|small|metal(?:-\d+xl)?)$")

_REGIONS = re.findall(
    r"\S+",
    """
    af-south-1 ap-east-1 ap-east-2 ap-northeast-1 ap-northeast-2 ap-northeast-3 ap-south-1 ap-south-2 ap-southeast-1
    ap-southeast-2 ap-southeast-3 ap-southeast-4 ap-southeast-5 ap-southeast-6 ap-southeast-7 ca-central-1 ca-west-1
    cn-north-1 cn-northwest-1 eu-central-1 eu-central-2 eu-north-1 eu-south-1 eu-south-2 eu-west-1 eu-west-2 eu-west-3
    il-central-1 me-central-1 me-south-1 mx-central-1 sa-east-1 us-east-1 us-east-2 us-gov-east-1 us-gov-west-1
    us-west-1 us-west-2
    """,
)
_CITIES = {
    "bahrain": "me-south-1",
    "california": "us-west-1",
    "cape town": "af-south-1",
    "dublin": "eu-west-1",
    "frankfurt": "eu-central-1",
    "germany": "eu-central-1",
    "hong kong": "ap-east-1",
    "hyderabad": "ap-south-2",
    "ireland": "eu-west-1",
    "jakarta": "ap-southeast-3",
    "london": "eu-west-2",
    "milan": "eu-south-1",
    "montreal": "ca-central-1",
    "mumbai": "ap-south-1",
    "ohio": "us-east-2",
    "oregon": "us-west-2",
    "osaka": "ap-northeast-3",
    "paris": "eu-west-3",
    "sao paulo": "sa-east-1",
    "seoul": "ap-northeast-2",
    "singapore": "ap-southeast-1",
    "spain": "eu-south-2",
    "stockholm": "eu-north-1",
    "sydney": "ap-southeast-2",
    "tel aviv": "il-central-1",
    "tokyo": "ap-northeast-1",
    "virginia": "us-east-1",
    "zurich": "eu-central-2",
}
_AREAS = "af ap ca cn eu il me mx sa us us-gov us-iso us-isob us-isof eu-isoe eusc-de"
_REGION = re.compile(
    rf"(?:{_AREAS.replace(' ', '|')})-(?:north|south|east|west|central|northeast|northwest|southeast|southwest)-\d$"
)


def instance_problem(name: str) -> str:
    """What is wrong with an instance type, and the one that was probably meant; empty if nothing is."""
    family, _, size = name.removeprefix("ml.").partition(".")
    if not name.startswith("ml."):
        meant = f"did you mean ml.{name}?" if f"ml.{name}" in _GPU_TYPES else "such as ml.g5.2xlarge"
        return f"must begin with ml., {meant}"
    if family in _GPU_FAMILIES:
        sizes = _GPU_FAMILIES[family][1].split()
        if size not in sizes:
            return f"no such size, ml.{family} comes in {', '.join(sizes)}"
    elif not size or not _SIZE.match(size):
        return f"no such instance type, {_nearest(name)}"
    elif _NO_GPU.match(family):
        return "has no NVIDIA GPU, which training and serving need there; the smallest is ml.g4dn.xlarge"
    elif not re.match(r"[gp]\d", family):
        return f"no such instance type, {_nearest(name)}"
    return ""


def gpus_of(name: str) -> int:
    """GPUs of an instance type; 1 for a type that is not in the table."""
    return _GPUS.get(name.removeprefix("ml."), 1)


def facts_of(name: str) -> InstanceFacts:
    """What an instance type has; zeros for what the table does not know."""
    family, _, size = name.removeprefix("ml.").partition(".")
    gpu_gib, sizes, memories, disks = _GPU_FAMILIES.get(family, (0, "", "", ""))
    rows = {
        own: (int(ram), int(disk))
        for own, ram, disk in zip(sizes.split(), memories.split(), disks.split(), strict=True)
    }
    return InstanceFacts(gpus_of(name), gpu_gib, *rows.get(size, (0, 0)))


@lru_cache(1)
def by_gpu_memory() -> tuple[str, ...]:
    """The types of usual families, those with the least memory on all of their GPUs first, and then in main memory."""
    types = [f"ml.{family}.{size}" for family in _SERVING for size in _GPU_FAMILIES[family][1].split()]
    facts = {name: facts_of(name) for name in types}
    return tuple(sorted(types, key=lambda name: (facts[name].gpus * facts[name].gpu_gib, facts[name].ram_gib)))


def sizes_of(name: str) -> tuple[str, ...]:
    """The types of the same family, those with the fewest GPUs first, and then with the least main memory."""
    prefix, _, _ = name.rpartition(".")
    types = [other for other in _GPU_TYPES if other.rpartition(".")[0] == prefix]
    return tuple(sorted(types, key=lambda other: (facts_of(other).gpus, facts_of(other).ram_gib)))


def peak_of(name: str) -> float:
    """Operations a second that all GPUs of an instance type reach at most; 0.0 for a family that is not in the list."""
    return _TFLOPS.get(name.removeprefix("ml.").partition(".")[0], 0) * 1e12 * gpus_of(name)


def region_problem(name: str) -> str:
    """What is wrong with the name of a region, and the one that was probably meant; empty if nothing is."""
    if name in _REGIONS or _REGION.match(name):
        return ""
    words = re.sub(r"[-_\s]+", " ", name.lower()).strip()
    city = get_close_matches(words, _CITIES, n=1, cutoff=0.8)
    near = get_close_matches(words.replace(" ", "-")[:20], _REGIONS, n=1)
    meant = _CITIES[city[0]] if city else near[0] if near else ""
    return f"is not an AWS region, {f'did you mean {meant}?' if meant else 'such as us-east-1'}"


def _nearest(name: str) -> str:
    near = get_close_matches(name[:30], _GPU_TYPES, n=1)
    return f"did you mean {near[0]}?" if near else "such as ml.g5.2xlarge"
