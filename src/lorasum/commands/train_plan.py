"""The training job that a config and its prepared dataset come to: what `train` starts, and `--dry-run` shows."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lorasum import paths
from lorasum.backends.records import TrainSpec
from lorasum.config.schema import Config
from lorasum.context import RunContext
from lorasum.data.store import read_manifest
from lorasum.errors import ConfigError, LorasumError
from lorasum.ledger import Ledger
from lorasum.model_source import ModelRef, resolve_model
from lorasum.reporting import Reporter, Silent
from lorasum.results import TrainPlan

_LONGEST_VALUE = 256  # characters of a SageMaker hyperparameter
_HASHED_AS = {"engine_linear": {"dequantized": "widened"}}  # old names, so that a renamed value starts no job again


@dataclass(frozen=True, slots=True)
class Job:
    """A job to be, and what its ledger row says of its origin: all that serving its artifact needs to know."""

    spec: TrainSpec
    origin: Mapping[str, str]


def planned_job(config: Config, ledger: Ledger, report: Reporter) -> Job:
    """The job on the newest prepared dataset.

    Raises:
        LorasumError: nothing is prepared, or not with this config.
    """
    row = ledger.latest(config.name, "dataset", "done")
    dataset = Path(row.detail["path"]) if row else Path()
    manifest = read_manifest(dataset) if row else None
    if manifest is None:
        raise LorasumError(
            f"run {config.name!r} has no prepared dataset", "run `lorasum prepare` with this config first"
        )
    asked = {
        "model.id": (manifest.tokenizer, config.model.id),
        "data.template": (manifest.template, config.data.template),
        "data.max_length": (manifest.max_length, config.data.max_length),
    }
    if changed := [key for key, (prepared, now) in asked.items() if prepared != now]:
        raise LorasumError(
            f"the dataset of run {config.name!r} was prepared with another {' and '.join(changed)}",
            "run `lorasum prepare` with this config again",
        )
    model = resolve_model(config.model, report)
    spec = _spec(config, model, dataset, manifest.fingerprint)
    origin = {
        "dataset": str(dataset),
        "fingerprint": manifest.fingerprint,
        "template": manifest.template,
        "model": model.location,
        "model_revision": model.revision or "",
    }
    return Job(spec, origin)


def plan_training(run: RunContext) -> TrainPlan:
    """The job that `train` would start or follow; nothing is started, and nothing needs to be prepared.

    Raises:
        LorasumError: what is prepared does not fit the config.
    """
    config, ledger = run.config, run.ledger
    if ledger.latest(config.name, "dataset", "done"):
        spec = planned_job(config, ledger, Silent()).spec
    else:
        model = resolve_model(config.model, Silent())
        spec = _spec(config, model, Path("not-prepared-yet"), "")
    return TrainPlan(
        run=spec.run,
        job=spec.job_name,
        entry_point=str(paths.container_scripts() / "train.py"),
        model=spec.model.location,
        dataset=str(spec.dataset),
        hyperparameters=spec.hyperparameters,
        request=run.backend.training_request(spec),
    )


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
        **config.training.model_dump(exclude={"engine"}),  # its fields have the flags' names
        **{f"engine_{name}": value for name, value in config.training.engine.model_dump().items()},
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
    flags = hyperparameters(config)
    return TrainSpec(
        run=config.name,
        job_name=_job_name(config.name, flags, fingerprint, model),
        model=model,
        dataset=dataset,
        hyperparameters=flags,
    )


def _job_name(run: str, flags: Mapping[str, str], fingerprint: str, model: ModelRef) -> str:
    hashed = {name: _HASHED_AS.get(name, {}).get(value, value) for name, value in flags.items()}
    identity = json.dumps([hashed, fingerprint, model.location, model.revision], sort_keys=True)
    return f"{run}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list) else str(value)
