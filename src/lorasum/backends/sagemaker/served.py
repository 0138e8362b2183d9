"""What an endpoint on SageMaker serves: an artifact or a base model. What is not in S3 yet is uploaded."""

from dataclasses import replace
from pathlib import Path

from lorasum.backends.records import EndpointSpec
from lorasum.backends.sagemaker import model_cache, storage, wheels
from lorasum.backends.sagemaker.endpoint_requests import MOST_SOURCES, Served, adapter_environment
from lorasum.backends.sagemaker.layout import Folder, Place
from lorasum.backends.sagemaker.session import Session
from lorasum.contract import ADAPTER_FOLDER, BASE_MODEL, CODE_FOLDER, HUB_TOKEN_ARN, SERVING_FILES
from lorasum.errors import BackendError, ConfigError
from lorasum.model_source import ModelRef
from lorasum.reporting import Reporter


def model_to_serve(session: Session, spec: EndpointSpec, place: Place, report: Reporter) -> Served:
    """An artifact's merged model, its adapter with a base model, or a base model alone. Uploads what S3 lacks."""
    served = _served(session, spec, place, report)
    if spec.adapters:
        served = _with_adapters(session, served, spec)
    if session.config.engine != "huggingface" or not wheels.are_needed(session.config):
        return served
    pins = wheels.serving_wheels()
    uri = place.layout.uri(Folder.WHEELS, pins.name)
    storage.upload(session, storage.folder_files(pins.download()), uri, report, "uploading the packages")
    return replace(served, wheels=uri)


def _served(session: Session, spec: EndpointSpec, place: Place, report: Reporter) -> Served:
    uri = spec.artifact.rstrip("/") + "/"
    if spec.code:
        return _base_model(session, spec.artifact, spec.code, place, report)
    if spec.base is None:
        return Served(uri, _bytes(session, uri))
    uri += f"{ADAPTER_FOLDER}/"
    if model_cache.wants(session, spec.base):
        base = model_cache.filled(session, place.layout, spec.base, report)
        return Served(uri, _bytes(session, uri) + _bytes(session, base), base=base)
    if spec.base.path is None:
        hub = _hub_model(session, f"{spec.base.id}@{spec.base.revision or 'main'}")
        return Served(uri, _bytes(session, uri), hub, from_hub=True)
    weights = storage.folder_files(spec.base.path)
    base = place.layout.uri(Folder.MODELS, storage.fingerprint(weights))
    storage.upload(session, weights, base, report, "uploading the base model")
    return Served(uri, _bytes(session, uri) + sum(file.bytes for file in weights), base=base)


def _with_adapters(session: Session, served: Served, spec: EndpointSpec) -> Served:
    """The same with adapters that requests can name. They stay where their runs have them in S3."""
    own, *others = spec.adapters
    uris = {one.run: f"{one.artifact.rstrip('/')}/{ADAPTER_FOLDER}/" for one in others}
    rank = max(one.rank for one in spec.adapters)
    environment = adapter_environment(own.run, list(uris), rank, on_disk=served.base is not None)
    size = served.bytes + sum(_bytes(session, uri) for uri in uris.values())
    several = replace(served, bytes=size, environment={**served.environment, **environment}, adapters=uris)
    if (count := len(several.more)) > MOST_SOURCES:
        raise ConfigError(
            f"this endpoint needs {count} folders beside its own adapter's, and SageMaker gives it {MOST_SOURCES}",
            f"leave {count - MOST_SOURCES} out of deploy.adapters",
        )
    return several


def _base_model(session: Session, model: str, code_folder: Path, place: Place, report: Reporter) -> Served:
    """A base model from a folder or the hub, uploaded with the code that serves it."""
    scripts = {file.key: file for file in storage.folder_files(code_folder)}
    code = [
        storage.StoredFile(scripts[source].path, f"{CODE_FOLDER}/{name}", scripts[source].bytes, scripts[source].sha256)
        for name, source in SERVING_FILES.items()
    ]
    weights = storage.folder_files(Path(model)) if Path(model).is_dir() else []
    uri = place.layout.uri(Folder.MODELS, storage.fingerprint(weights or code))
    storage.upload(session, [*weights, *code], uri, report, "uploading the base model")
    if not weights and session.config.engine == "huggingface" and model_cache.wants(session, ModelRef(model)):
        name, _, revision = model.partition("@")
        base = model_cache.filled(session, place.layout, ModelRef(name, revision or None), report)
        return Served(uri, _bytes(session, uri) + _bytes(session, base), base=base)
    hub = {} if weights else _hub_model(session, model)
    return Served(uri, _bytes(session, uri), hub, from_hub=bool(hub))


def _hub_model(session: Session, model: str) -> dict[str, str]:
    """Environment variables that make a container download `model`, a hub id with an optional @revision."""
    if session.config.network_isolation:
        raise ConfigError(
            f"with sagemaker.network_isolation the container cannot download {model}",
            "serve a merged model, or set sagemaker.model_cache: true: then the weights travel through S3",
        )
    secret = session.config.hub_token_secret
    if session.config.engine == "huggingface":
        return {BASE_MODEL: model} | ({HUB_TOKEN_ARN: secret} if secret else {})
    if secret:
        raise ConfigError(
            f"the vLLM image reads a hub token only from its environment, which others can see: {model} is not served",
            "evaluate without --base, or set sagemaker.engine to huggingface",
        )
    name, _, revision = model.partition("@")
    return {"SM_VLLM_MODEL": name, "SM_VLLM_REVISION": revision or "main"}


def _bytes(session: Session, uri: str) -> int:
    _, size = storage.contents(session, uri)
    if not size:
        raise BackendError(f"there is no model in {uri}", "run `lorasum train` again")
    return size
