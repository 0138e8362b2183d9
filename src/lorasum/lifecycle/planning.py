"""Plans the training job of a config and its prepared dataset: its name and hyperparameters."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from lorasum.backends.records import TrainSpec
from lorasum.config.data import DataConfig
from lorasum.config.schema import Config, TrainingConfig
from lorasum.data.changes import changed_since
from lorasum.data.records import Manifest
from lorasum.data.store import read_manifest
from lorasum.errors import ConfigError, LorasumError
from lorasum.ledger.ledger import Ledger
from lorasum.ledger.resources import Origin, TrainingJob
from lorasum.lifecycle.hardware import Hardware
from lorasum.lifecycle.placement import Placement
from lorasum.lifecycle.training_time import Workload
from lorasum.models.source import ModelRef, resolve_model
from lorasum.models.targets import look_at_targets
from lorasum.reporting import Reporter, Silent
from lorasum.shared.steps import too_few_packs

_LONGEST_VALUE = 256  # characters of a SageMaker hyperparameter
_DECIDE_NO_WEIGHT = {
    "max_new_tokens": "predict.max_new_tokens",
    "temperature": "predict.temperature",
    "logging_steps": "training.logging_steps",
    "checkpoint_minutes": "training.checkpoint_minutes",
}
"""Flags that are in a job's name, though its weights are the same with any value; and their keys."""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that may be started, and what the ledger records about it to serve its artifact later.

    Attributes:
        work: None if no dataset is prepared, or all steps are done.
    """

    spec: TrainSpec
    origin: Origin
    config: Config
    work: Workload | None = None

    @property
    def hardware(self) -> Hardware:
        return Hardware.of(self.config)

    def named(self, name: str) -> "PlannedJob":
        """The same job under another name."""
        return replace(self, spec=replace(self.spec, job_name=name))

    def with_steps_of(self, checkpoints: str) -> "PlannedJob":
        """The same job, which goes on from the checkpoints of a completed one: only its merge is left."""
        return replace(self, spec=replace(self.spec, checkpoints=checkpoints), work=None)

    def without_merge(self) -> "PlannedJob":
        """The same job, which leaves its adapter alone."""
        return replace(self, spec=replace(self.spec, adapter_only=True))

    @property
    def placement(self) -> Placement:
        """Of its model on the config's endpoint, without the model's shape."""
        return Placement.of(self.config, None)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A recorded job beside a config.

    Attributes:
        same_weights: whether its weights are those that the config asks for.
        other_settings: the config's keys in which it differs, and which decide about no weight.
    """

    same_weights: bool
    other_settings: tuple[str, ...] = ()


def planned_job(config: Config, ledger: Ledger, report: Reporter) -> PlannedJob:
    """The job on the newest prepared dataset.

    Raises:
        LorasumError: nothing is prepared, or not with this config; the model lacks a layer that lora.targets names.
    """
    row = ledger.latest_dataset(config.name)
    dataset = Path(row.path) if row else Path()
    manifest = read_manifest(dataset) if row else None
    if manifest is None:
        raise LorasumError(
            f"run {config.name!r} has no prepared dataset", "run `lorasum prepare` with this config first"
        )
    asked = {"model.id": (manifest.tokenizer, config.model.id)} | _asked_differently(manifest, config.data)
    changed = [key for key, (prepared, now) in asked.items() if prepared != now]
    model = None if "model.id" in changed else resolve_model(config.model, report)
    if model:
        changed += changed_since(manifest, config, model, report)
    if changed or model is None:
        raise LorasumError(
            f"changed since the dataset of run {config.name!r} was prepared: {', '.join(changed)}",
            "run `lorasum prepare` with this config again",
        )
    look_at_targets(model, config.lora)
    spec = _spec(config, model, dataset, manifest.fingerprint)
    origin = Origin(
        dataset=str(dataset),
        fingerprint=manifest.fingerprint,
        template=manifest.template,
        control_tokens=manifest.control_tokens,
        model=model.location,
        model_revision=model.revision or "",
    )
    split = manifest.splits.get("train")
    return PlannedJob(spec, origin, config, Workload.of(split, config.training) if split else None)


def example_job(config: Config) -> PlannedJob:
    """The job of a config for which nothing is prepared, with placeholders for what a dataset decides.

    Raises:
        ModelError: the model lacks a layer that lora.targets names.
    """
    model = resolve_model(config.model, Silent())
    look_at_targets(model, config.lora)
    spec = _spec(config, model, Path("not-prepared-yet"), "")
    return PlannedJob(spec, Origin(template=config.data.own_template), config)


def idle_processes(spec: TrainSpec) -> LorasumError | None:
    """What is wrong if an optimizer step has fewer packs than processes that share it; None if it has enough."""
    size = spec.hyperparameters["per_device_batch_size"]
    at_once = 1 if size == "auto" else int(size)
    failure = too_few_packs(at_once, int(spec.hyperparameters["gradient_accumulation_steps"]), spec.processes)
    return LorasumError(failure.message, failure.hint) if failure else None


def compare_on_its_dataset(config: Config, job: TrainingJob) -> Comparison:
    """A recorded job beside a config, for which no dataset need be prepared: the job's own is taken."""
    manifest = read_manifest(Path(job.origin.dataset))
    asked = _asked_differently(manifest, config.data) if manifest else {}
    if any(prepared != now for prepared, now in asked.values()):
        return Comparison(same_weights=False)
    return compare(config, job, job.origin.fingerprint, resolve_model(config.model, Silent()))


def compare(config: Config, job: TrainingJob, fingerprint: str, model: ModelRef) -> Comparison:
    """A recorded job beside a config, the fingerprint of its dataset, and its model.

    Summaries that are scored while a training runs decide when it ends and what it keeps, so their length counts then.
    """
    flags = hyperparameters(config)
    recorded = {name: job.hyperparameters.get(name, text) for name, text in flags.items()}
    other = {name for name, text in flags.items() if not _equal(recorded[name], text)}
    no_matter = {name for name in _DECIDE_NO_WEIGHT if name != "max_new_tokens" or config.training.evaluate == "loss"}
    as_made = flags | {name: recorded[name] for name in flags if name in no_matter or name not in other}
    name = _job_name(config.name, as_made, fingerprint, model)
    if job.asked_as != name and job.name != merge_name(name):
        return Comparison(same_weights=False)
    return Comparison(True, tuple(key for name, key in _DECIDE_NO_WEIGHT.items() if name in other))


def same_steps(config: Config, job: TrainingJob, fingerprint: str, model: ModelRef) -> bool:
    """Whether the steps of a recorded job are those of a config: `merge_dtype` decides nothing before the last one."""
    training = config.training
    dtypes = get_args(TrainingConfig.model_fields["merge_dtype"].annotation)
    merged = [training.model_copy(update={"merge_dtype": dtype}) for dtype in dtypes]
    asked = [config.model_copy(update={"training": one}) for one in merged]
    return any(compare(one, job, fingerprint, model).same_weights for one in asked)


def _equal(one: str, other: str) -> bool:
    """Whether two values of a flag are the same: a key's default may be `3` where the config's own value is `3.0`."""
    try:
        return one == other or float(one) == float(other)
    except ValueError:
        return False


def _asked_differently(manifest: Manifest, data: DataConfig) -> dict[str, tuple[object, object]]:
    """The settings of prompts and packs that have changed since the dataset was prepared: then and now, by key."""
    length: dict[str, tuple[object, object]] = {"data.max_length": (manifest.max_length, data.max_length)}
    wanted = data.chat_format
    if wanted is not None and wanted != (manifest.prompt_format == "chat"):
        return {"data.format": (manifest.prompt_format, "chat" if wanted else "template"), **length}
    if manifest.prompt_format == "template":
        return {"data.template": (manifest.template, data.own_template), **length}
    return {
        "data.instruction": (manifest.instruction, data.instruction),
        "data.system": (manifest.system, data.system),
        **length,
    }


def hyperparameters(config: Config) -> dict[str, str]:
    """The training script's flags as SageMaker passes them: every value a string of at most 256 characters.

    Raises:
        ConfigError: a value is longer.
    """
    flags = {
        "run_name": config.name,
        "model_id": config.model.id,
        "model_revision": config.model.revision,
        "quantization": config.quantization,
        **{f"lora_{name}": value for name, value in config.lora.model_dump().items()},
        **config.training.model_dump(exclude={"engine", "report_to"}),  # its fields have the flags' names
        **{f"engine_{name}": value for name, value in config.training.engine.model_dump(exclude={"base"}).items()},
        "max_new_tokens": config.predict.max_new_tokens,
        "temperature": config.predict.temperature,
    }
    texts = {name: _text(value) for name, value in flags.items() if value is not None}
    for name, text in texts.items():
        if len(text) > _LONGEST_VALUE:
            raise ConfigError(
                f"{name} is {len(text)} characters long as a hyperparameter; {_LONGEST_VALUE} are allowed",
                "shorten it in the config",
            )
    return texts


def _spec(config: Config, model: ModelRef, dataset: Path, fingerprint: str) -> TrainSpec:
    flags, base = hyperparameters(config), config.training.engine.base  # that changes no result, so it names no job
    return TrainSpec(
        run=config.name,
        job_name=_job_name(config.name, flags, fingerprint, model),
        model=model,
        dataset=dataset,
        hyperparameters=flags | ({} if base == "auto" else {"engine_base": base}),
        base_seconds=round(config.evaluate.base_minutes * 60),
        base_as_trained=config.evaluate.base_prompt == "trained",
        processes=config.processes,
        report_to=tuple(config.training.report_to),
        adapter_only=config.deploy.serve == "adapter",
    )


def _job_name(run: str, flags: Mapping[str, str], fingerprint: str, model: ModelRef) -> str:
    identity = json.dumps([dict(flags), fingerprint, model.location, model.revision], sort_keys=True)
    return f"{run}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def merge_name(job: str) -> str:
    """The name of the job that merges what another has left."""
    return another_name(job, {"merge": "asked for later"})


def another_name(job: str, differs_in: Mapping[str, str]) -> str:
    """The name of a job that differs from another in what is not in that one's name."""
    identity = json.dumps([job, dict(differs_in)], sort_keys=True)
    return f"{job.rpartition('-')[0]}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list) else str(value)
