"""Whether a base model has the layers that get an adapter, before anything large is downloaded."""

import hashlib
import importlib.util
import json
from importlib.metadata import version

from lorasum.config.schema import LoraConfig
from lorasum.errors import ModelError
from lorasum.models.hub import hub_error
from lorasum.models.source import ModelRef, libraries, model_file
from lorasum.system import paths
from lorasum.system.cache import keep, read_cache
from lorasum.system.files import first_line


def look_at_targets(model: ModelRef, lora: LoraConfig) -> None:
    """Check that the model has what lora.targets names, which its config.json tells: nothing large is downloaded.

    It takes torch, whose import takes seconds, so what was found right is not looked at again. Without torch, the
    training job checks it, before it downloads the model.

    Raises:
        ModelError: it has not, or PEFT cannot adapt it with these settings.
    """
    if isinstance(lora.targets, str) or importlib.util.find_spec("torch") is None:
        return
    described, code = model_file(model, "config.json"), paths.container_scripts() / "shared" / "lora_targets.py"
    read = [file.read_text(encoding="utf-8") for file in (described, code) if file and file.is_file()]
    about = json.dumps([*read, lora.model_dump(mode="json"), version("transformers")])
    key = hashlib.sha256(about.encode()).hexdigest()
    if key not in read_cache("targets"):
        _look_at_targets(model, lora)
        keep("targets", key, True, most=1000)


def _look_at_targets(model: ModelRef, lora: LoraConfig) -> None:
    with libraries(model):
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        from lorasum.shared.lora_targets import TargetError, targets_of

        revision = {"revision": model.revision} if model.revision else {}
        try:
            config = AutoConfig.from_pretrained(model.location, trust_remote_code=False, **revision)
        except OSError as error:
            raise hub_error(error, model.id, "model") from error
        try:
            with torch.device("meta"):
                outline = AutoModelForCausalLM.from_config(config)
        except Exception as error:  # whatever transformers stumbles over
            said = f"the config.json of {model.id} describes no model: {first_line(error)}"
            raise ModelError(said, "check model.id, or download the model again") from error
        try:
            targets_of(outline, tuple(lora.targets), lora.dropout, lora.dora)
        except TargetError as refused:
            raise ModelError(refused.message, refused.hint) from refused
