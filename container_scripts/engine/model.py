"""Loads what is trained: a frozen base model, quantized while it is read, and a float32 LoRA adapter on it."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from engine.arguments import Arguments
from engine.experts_layers import is_quantized_stack, replace_experts_forwards
from engine.experts_quantized import experts_quantized_too
from engine.failure import TrainingError
from engine.host_weights import SharedBase
from engine.layers import is_quantized, replace_linear_forwards
from engine.recompute import keep_parts_only
from gpu import fastest_dtype, first_line, raise_if_no_fault_of_the_code
from shared.base_download import download_base, download_description
from shared.lora_targets import is_linear, stacked_experts, target_experts


def fetch_base(arguments: Arguments, channel: Path | None) -> Path:
    """The folder of the base model: the `model` channel, or a download from the hub. Loading and merging both read it.

    Raises:
        TrainingError: the hub has no such model, or it cannot be downloaded.
    """
    return channel or _download(download_base, arguments)


def fetch_description(arguments: Arguments, channel: Path | None) -> Path:
    """The folder of the base model's small files, such as config.json: the `model` channel, or a download of moments.

    Raises:
        TrainingError: the hub has no such model, or it cannot be downloaded.
    """
    return channel or _download(download_description, arguments)


def _download(download: Callable[[str, str | None], Path], arguments: Arguments) -> Path:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    model_id = arguments.model_id
    try:
        return download(model_id, arguments.model_revision or None)
    except GatedRepoError as error:
        raise TrainingError(f"{model_id} is gated", "accept its licence on the hub and provide a token") from error
    except RepositoryNotFoundError as error:
        raise TrainingError(f"the hub has no model {model_id!r}", "check model.id") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise TrainingError(
            f"cannot download {model_id}: {first_line(error)}",
            "check the network, model.id and model.revision",
        ) from error


def pick_device() -> torch.device:
    """The GPU of this process, or the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def pick_dtype(requested: str, device: torch.device) -> tuple[torch.dtype, str]:
    """The compute dtype of the frozen model, and the reason: what is asked for, or with `auto` the fastest."""
    return fastest_dtype(device) if requested == "auto" else (getattr(torch, requested), "as configured")


def load_base(
    folder: Path,
    arguments: Arguments,
    dtype: torch.dtype,
    device: torch.device,
    shared: SharedBase | None = None,
) -> Any:
    """The frozen base model on `device`. Linear layers, except the head, and experts are quantized as they are read.

    Args:
        shared: where the processes of this machine have the weights' codes in common; None if `device` gets them.

    Raises:
        TrainingError: the folder's model cannot be loaded.
        PeerLostError: another process, with which it is shared, has ended.
    """
    from transformers import AutoModelForCausalLM

    quantization = _quantization(arguments.quantization, dtype)
    try:
        with shared.loading() if shared else nullcontext(), experts_quantized_too(arguments.quantization):
            model = AutoModelForCausalLM.from_pretrained(
                folder, dtype=dtype, quantization_config=quantization, device_map={"": device}
            )
    except Exception as error:  # transformers raises whatever the config or the files make it stumble over
        raise_if_no_fault_of_the_code(error, device)
        reason = first_line(error)
        raise TrainingError(
            f"cannot load the base model: {reason}", "check model.id: a causal language model?"
        ) from error
    model.requires_grad_(False)
    model.config.use_cache = False
    if quantization and device.type == "cpu":
        _let_go_of_files(model)
    if shared:
        shared.share(model)
    return model


def _quantization(method: str, dtype: torch.dtype) -> Any:
    """What transformers is told of it; None without quantization."""
    from transformers import BitsAndBytesConfig

    if method == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    if method == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
        )
    return None


def _let_go_of_files(model: Any) -> None:
    """Copy the weights that were not quantized: as views of the mapped files they keep all weights in memory."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.clone()


def quantized_layers(skeleton: Any) -> frozenset[str]:
    """The names of the layers that transformers quantizes when it loads the model: its own rule.

    It takes Linear and Conv1D, and no subclass of Linear (Falcon has one of its own), no head, and no experts that are
    stacked in one tensor (experts_quantized.py does).

    Args:
        skeleton: the model as it is before it is quantized, on any device.
    """
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.quantizers.quantizers_utils import should_convert_module

    kept = [*get_keys_to_not_convert(skeleton), *(skeleton._keep_in_fp32_modules or [])]
    return frozenset(
        name
        for name, module in skeleton.named_modules()
        if (type(module) is torch.nn.Linear or isinstance(module, Conv1D)) and should_convert_module(name, kept)
    )


def count_layers(model: Any) -> tuple[int, int]:
    """How many linear layers of a loaded model hold int8 or 4-bit codes, and how many a whole weight; not the adapter.

    Experts that are stacked in one parameter count as one layer.

    Args:
        model: a PEFT model.
    """
    layers = [
        is_quantized(module)
        for name, module in model.named_modules()
        if is_linear(module) and not {"lora_A", "lora_B"} & set(name.split("."))
    ]
    layers += [is_quantized_stack(stacked) for stacked in stacked_experts(model).values()]
    return sum(layers), len(layers) - sum(layers)


def add_adapter(model: Any, arguments: Arguments, targets: list[str]) -> Any:
    """The PEFT model: a LoRA adapter (Hu et al. 2021) in float32 on `targets`, all other parameters frozen.

    Args:
        targets: see lora_targets.resolve_targets.
    """
    from peft import LoraConfig, get_peft_model

    experts = {target for target in targets if target_experts(model, [target])}
    config = LoraConfig(
        r=arguments.lora_r,
        lora_alpha=arguments.lora_alpha,
        lora_dropout=arguments.lora_dropout,
        use_rslora=arguments.lora_rslora,
        use_dora=arguments.lora_dora,
        target_modules=[target for target in targets if target not in experts],
        target_parameters=sorted(experts) or None,
        bias="none",
        task_type="CAUSAL_LM",
    )
    device = model.get_input_embeddings().weight.device
    adapted = get_peft_model(model, config, autocast_adapter_dtype=True)
    for parameter in adapted.parameters():
        if parameter.requires_grad:  # PEFT puts it where the layer's weight is, which may be shared in main memory
            parameter.data = parameter.data.to(device)
    replace_linear_forwards(adapted, arguments.engine_linear, arguments.engine_adapter)
    replace_experts_forwards(adapted, adapted.get_input_embeddings().weight.dtype, arguments.engine_adapter)
    keep_parts_only(adapted)
    return adapted
