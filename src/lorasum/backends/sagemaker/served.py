"""What an endpoint on SageMaker serves: an artifact or a base model. What is not in S3 yet is uploaded."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from lorasum.backends.records import EndpointSpec
from lorasum.backends.sagemaker import model_cache, storage, wheels
from lorasum.backends.sagemaker.endpoint_requests import (
    FLAGS_FILE,
    MOST_SOURCES,
    Served,
    adapter_environment,
    adapter_flags,
    gpu_environment,
)
from lorasum.backends.sagemaker.layout import Folder, Place
from lorasum.backends.sagemaker.session import Session
from lorasum.errors import BackendError, ConfigError
from lorasum.models.source import ModelRef
from lorasum.shared.names import ADAPTER_FOLDER, BASE_MODEL, CODE_FOLDER, HUB_TOKEN_ARN, serving_files


@dataclass(frozen=True, slots=True)
class _Bucket:
    """S3. It gets what it lacks if `sends`; otherwise what is not there has no size."""

    session: Session
    sends: bool

    def upload(self, files: list[storage.StoredFile], uri: str, title: str) -> None:
        if self.sends:
            storage.upload(self.session, files, uri, title)

    def base(self, place: Place, model: ModelRef) -> str:
        if self.sends:
            return model_cache.filled(self.session, place.layout, model)
        return model_cache.uri(place.layout, model)

    def bytes(self, uri: str) -> int:
        try:
            _, size = storage.contents(self.session, uri)
        except BackendError:
            if self.sends:
                raise
            return 0
        if not size and self.sends:
            raise BackendError(f"there is no model in {uri}", "run `lorasum train` again")
        return size


def model_to_serve(session: Session, spec: EndpointSpec, place: Place, sends: bool) -> Served:
    """An artifact's merged model, its adapter with a base model, or a base model alone.

    Args:
        sends: whether to upload what S3 lacks. If not, this is what would be served.
    """
    bucket = _Bucket(session, sends)
    served = _served(bucket, spec, place)
    if spec.adapters:
        served = _with_adapters(bucket, served, spec, place)
    if session.config.engine == "vllm":
        return replace(served, environment={**served.environment, **gpu_environment(spec)})
    if not wheels.are_needed(session.config):
        return served
    pins = wheels.serving_wheels()
    uri = place.layout.uri(Folder.WHEELS, pins.name)
    bucket.upload(storage.folder_files(pins.download()) if sends else [], uri, "uploading the packages")
    return replace(served, wheels=uri)


def _served(bucket: _Bucket, spec: EndpointSpec, place: Place) -> Served:
    session, uri = bucket.session, spec.artifact.rstrip("/") + "/"
    if spec.code:
        return _base_model(bucket, spec.artifact, spec.code, place)
    if spec.base is None:
        return Served(uri, bucket.bytes(uri))
    uri += f"{ADAPTER_FOLDER}/"
    if model_cache.wants(session, spec.base):
        base = bucket.base(place, spec.base)
        return Served(uri, bucket.bytes(uri) + bucket.bytes(base), base=base)
    if spec.base.path is None:
        hub = _hub_model(session, f"{spec.base.id}@{spec.base.revision or 'main'}")
        return Served(uri, bucket.bytes(uri), hub, from_hub=True)
    weights = storage.folder_files(spec.base.path)
    base = place.layout.uri(Folder.MODELS, storage.fingerprint(weights))
    bucket.upload(weights, base, "uploading the base model")
    return Served(uri, bucket.bytes(uri) + sum(file.bytes for file in weights), base=base)


def _with_adapters(bucket: _Bucket, served: Served, spec: EndpointSpec, place: Place) -> Served:
    """The same with adapters that requests can name. They stay where their runs have them in S3."""
    own, *others = spec.adapters
    uris = {one.run: f"{one.artifact.rstrip('/')}/{ADAPTER_FOLDER}/" for one in others}
    rank = max(one.rank for one in spec.adapters)
    environment = adapter_environment(len(spec.adapters), rank, on_disk=served.base is not None)
    size = served.bytes + sum(bucket.bytes(uri) for uri in uris.values())
    flags = _flags(bucket, adapter_flags(own.run, list(uris)), place)
    several = replace(served, bytes=size, environment={**served.environment, **environment}, flags=flags, adapters=uris)
    if (count := len(several.more)) > MOST_SOURCES:
        raise ConfigError(
            f"this endpoint needs {count} folders beside its own adapter's, and SageMaker gives it {MOST_SOURCES}",
            f"leave {count - MOST_SOURCES} out of deploy.adapters",
        )
    return several


def _flags(bucket: _Bucket, content: str, place: Place) -> str:
    """The S3 folder with this file of flags."""
    with TemporaryDirectory() as folder:
        (Path(folder) / FLAGS_FILE).write_text(content, encoding="utf-8")
        files = storage.folder_files(Path(folder))
        uri = place.layout.uri(Folder.CODE, storage.fingerprint(files))
        bucket.upload(files, uri, "uploading the names of the adapters")
    return uri


def _base_model(bucket: _Bucket, model: str, code_folder: Path, place: Place) -> Served:
    """A base model from a folder or the hub, uploaded with the code that serves it."""
    session = bucket.session
    scripts = {file.path: file for file in storage.folder_files(code_folder)}
    code = [
        replace(scripts[source], key=f"{CODE_FOLDER}/{name}") for name, source in serving_files(code_folder).items()
    ]
    weights = storage.folder_files(Path(model)) if Path(model).is_dir() else []
    uri = place.layout.uri(Folder.MODELS, storage.fingerprint(weights or code))
    bucket.upload([*weights, *code], uri, "uploading the base model")
    if not weights and session.config.engine == "huggingface" and model_cache.wants(session, ModelRef(model)):
        name, _, revision = model.partition("@")
        base = bucket.base(place, ModelRef(name, revision or None))
        return Served(uri, bucket.bytes(uri) + bucket.bytes(base), base=base)
    hub = {} if weights else _hub_model(session, model)
    plain = {"SM_VLLM_GENERATION_CONFIG": "vllm"} if session.config.engine == "vllm" else {}  # as the other image asks
    return Served(uri, bucket.bytes(uri), hub | plain, from_hub=bool(hub))


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
