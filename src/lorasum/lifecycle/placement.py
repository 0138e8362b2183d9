"""Where a trained model is served: on how many GPUs of an instance, and whether these have room for it.

The Hugging Face image has the whole model on one GPU. vLLM divides it among several (tensor parallelism). In a batch
job each GPU has the whole model. Sizes are those of the weights and of what the longest dialogue keeps, and some room
for the work; they were not measured on a GPU.
"""

import json
from dataclasses import dataclass, replace
from typing import Literal

from lorasum.backends.base import Backend
from lorasum.backends.records import Check, JobRef, Room
from lorasum.config.instances import by_gpu_memory, facts_of, gpus_of
from lorasum.config.schema import Config
from lorasum.errors import LorasumError, ModelError
from lorasum.lifecycle.artifacts import artifact_record
from lorasum.lifecycle.shape import Shape, bytes_of_values
from lorasum.models.source import ModelRef, model_config
from lorasum.reporting import Reporter
from lorasum.shared.records import Needs

Engine = Literal["huggingface", "vllm", "batch"]
_WORKSPACE = 3 << 29  # bytes of each GPU: activations, compiled passes, messages between GPUs
_VLLM_TAKES = 0.92  # of a GPU (vLLM 0.29.0: gpu_memory_utilization)
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Placement:
    """A model on the instances of an endpoint or of a batch job.

    Attributes:
        types: it may get any of them; none on this machine.
        engine: what serves: see the head of this module.
        shape: None if it is not known.
        tokens: of the longest dialogue with its summary.
    """

    types: tuple[str, ...]
    engine: Engine
    shape: Shape | None
    tokens: int

    @classmethod
    def of(cls, config: Config, shape: Shape | None, batch: bool = False) -> "Placement":
        """That of the config's endpoint, or of its batch job, which runs on the instances of a training."""
        own = config.sagemaker
        types = own.training_instance_types if batch else own.endpoint_instance_types
        tokens = config.data.max_length + config.predict.max_new_tokens
        return cls(types if config.backend == "sagemaker" else (), "batch" if batch else own.engine, shape, tokens)

    @property
    def tensor_parallel_size(self) -> int:
        """How many GPUs share the model, on whichever of its types it gets."""
        return self._tensor_parallel_size_on(min(map(gpus_of, self.types), default=1))

    @property
    def shortens_context(self) -> bool:
        """Whether vLLM, which wants room for a text of the model's whole context, has to be told of a shorter one."""
        if self.engine != "vllm" or self.shape is None:
            return False
        whole = replace(self, tokens=self.shape.context)
        return any(not whole.room_on(name).fits for name in self.types)

    def fits(self, name: str) -> bool | None:
        """Whether the model fits this type; None if that is not known."""
        known = self.shape and self.shape.weights and facts_of(name).gpu_gib
        return self.room_on(name).fits if known else None

    def nearest(self) -> str:
        """The type with the least memory on its GPUs into which the model fits; empty if none is known."""
        return next((name for name in by_gpu_memory() if replace(self, types=(name,)).fits(name)), "")

    def memory(self) -> Check | None:
        """Whether the model can be served by whichever type it gets; None where that is not known."""
        if self.types and self.shape and self.shape.float32_only:
            found = "transformers computes a model of this type in float32 only, and a GPU serves in 16 bits"
            return Check(self._what, False, found, "set backend to local: this machine's processors use float32")
        known = [name for name in self.types if self.fits(name) is not None]
        if not known:
            return None
        name = next((name for name in known if not self.fits(name)), known[0])
        room, of = self.room_on(name), f"of {'each' if gpus_of(name) > 1 else 'the'} GPU of {name}"
        needed, there = room.needed_bytes / _GIB, room.there_bytes / _GIB
        if room.fits:
            divided = f", divided among {self.tensor_parallel_size}" if self.tensor_parallel_size > 1 else ""
            return Check(self._what, True, f"it takes {needed:.1f} of the {there:.1f} GiB {of}{divided}")
        parts = ", ".join(f"{part} {size / _GIB:.1f}" for part, size in room.parts.items())
        found = f"the {self._what} needs {needed:.1f} GiB {of} ({parts}), and there are {there:.1f}"
        return Check(self._what, False, found, self._elsewhere(name))

    def idle(self) -> Check | None:
        """What is wrong if nothing uses GPUs that are paid for."""
        name = max(self.types, key=gpus_of, default="")
        count = gpus_of(name)
        used = self.tensor_parallel_size
        if self.engine == "batch" or used == count or not name:
            return None
        stay = f"{count - used} of the {count} GPUs of {name} will do nothing"
        if self.engine == "huggingface":
            why = "the Hugging Face image serves on one"
            other = ", or sagemaker.engine to vllm, which divides the model among all"
        else:
            heads = self.shape.heads if self.shape else 0
            why = f"vLLM cannot divide this model among more, with its {heads or 'unknown number of'} attention heads"
            other = ""
        return Check(
            "GPUs", False, f"{stay}: {why}", f"set {self._setting} to {self.nearest() or 'a smaller type'}{other}"
        )

    def note(self) -> str:
        """The end of a line about an endpoint: how vLLM serves the model, where that is not by its defaults."""
        gpus = self.tensor_parallel_size
        divided = f"; the model is divided among {gpus} GPUs" if gpus > 1 else ""
        if self.shape is None or not self.shortens_context:
            return divided
        return f"{divided}; its context is the longest that has room, of the model's {self.shape.context:,} tokens"

    @property
    def _what(self) -> str:
        return "batch job" if self.engine == "batch" else "endpoint"

    @property
    def _setting(self) -> str:
        return f"sagemaker.{'training' if self.engine == 'batch' else 'endpoint'}_instance_type"

    def _elsewhere(self, name: str) -> str:
        """Where a model that does not fit would."""
        ways = [f"{self._setting} to {nearest}"] if (nearest := self.nearest()) else []
        if self.engine == "huggingface" and replace(self, engine="vllm", types=(name,)).fits(name):
            ways.append(f"sagemaker.engine to vllm, which divides the model among the {gpus_of(name)} GPUs")
        return f"set {', or '.join(ways)}" if ways else "no instance type has room for it: train a smaller model"

    def _tensor_parallel_size_on(self, gpus: int) -> int:
        return self.shape.tensor_parallel_size(gpus) if self.shape and self.engine == "vllm" else 1

    def room_on(self, name: str) -> Room:
        shape, own = self.shape, name in self.types
        gpus = self.tensor_parallel_size if own else self._tensor_parallel_size_on(gpus_of(name))
        share = _VLLM_TAKES if self.engine == "vllm" else 1.0
        there = round(share * (facts_of(name).gpu_gib << 30))
        if shape is None or not shape.weights:
            return Room({}, there)
        kept = shape.token * self.tokens // min(gpus, max(shape.key_heads, 1))
        needed = {"weights": shape.weights // gpus, "keys and values": kept, "workspace": _WORKSPACE}
        return Room(needed, there)


def shape_of_artifact(backend: Backend, job: JobRef) -> Shape | None:
    """The shape of the model that a job has left, by its config.json and the size of its weights; None if it has none.

    An adapter that was left alone is served on weights that are elsewhere: the record says how many there are.

    Raises:
        BackendError: the artifact cannot be read.
    """
    content = backend.artifact_file(job, "config.json")
    try:
        config = json.loads(content) if content else None
    except ValueError:
        return None
    if not isinstance(config, dict):
        return None
    files = backend.artifact_files(job)
    stored = sum(facts.bytes for name, facts in files.items() if name.endswith(".safetensors") and "/" not in name)
    if stored:
        return Shape.of(config, stored // bytes_of_values(config))
    record = artifact_record(backend, job)
    return Shape.of(config, record.parameters if record else 0)


def before_training(placement: Placement, model: ModelRef, needs: Needs | None) -> Placement:
    """The same, of a model that will be trained on this base model. Where the hub does not answer, nothing is known.

    Args:
        needs: of the training, which tell how many parameters there are.
    """
    if not placement.types:
        return placement
    try:
        return replace(placement, shape=Shape.of(model_config(model), needs.parameters if needs else 0))
    except ModelError:
        return placement


def refuse_what_does_not_fit(placement: Placement) -> None:
    """Refuse a model for which the instance has no room.

    Raises:
        LorasumError: it has none.
    """
    memory = placement.memory()
    if memory and not memory.ok:
        raise LorasumError(memory.found, memory.fix)


def warn_of(check: Check | None, report: Reporter) -> None:
    """Warn of what is wrong, if anything is."""
    if check and not check.ok:
        report.warn(f"{check.found}; {check.fix}")
