"""Which tensor of the base's files is which weight of the loaded model.

Files and model name their weights differently: `h.0.mlp` is `transformer.h.0.mlp` in the model, wrappers put
`language_model` elsewhere, and experts that stand in a file each become one stacked tensor. transformers has rules for
that, which it applies while loading. They are applied here to names and shapes alone, on the meta device, so that
missing tensors show before a weight is read, and a merge finds its way back to the files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engine.failure import TrainingError
from shared.base_config import some
from shared.base_files import StoredTensor, look_at_folder, read_header, weight_files


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight of a linear layer in the base's files."""

    name: str
    """Of the tensor in its file."""
    stored: StoredTensor
    transposed: bool
    """Whether it is stored as (in_features, out_features), as GPT-2's Conv1D has it."""


def look_at_base(folder: Path) -> dict[str, StoredTensor]:
    """base_files.look_at_folder, with the model types that transformers knows; the tensors by their names in the files.

    Raises:
        TrainingError: the folder's model cannot be trained.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return look_at_folder(folder, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of a model's files, by their names there. Reads headers only.

    Raises:
        TrainingError: the files are not there, or damaged.
    """
    return {name: tensor for file in weight_files(folder) for name, tensor in read_header(file).items()}


def check_tensors(outline: Any, stored: Mapping[str, StoredTensor]) -> None:
    """See that the files hold every weight of the model, in its shape, and nothing else.

    Args:
        outline: the model on the meta device.
        stored: the tensors of its files.

    Raises:
        TrainingError: they do not; the message names the tensors.
    """
    tensors = {
        name: torch.empty(tensor.shape, dtype=torch.get_default_dtype(), device="meta")
        for name, tensor in stored.items()
    }
    _, found = type(outline).from_pretrained(
        None,
        config=outline.config,
        state_dict=tensors,
        device_map={"": "meta"},
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    kind = outline.config.model_type
    missing = sorted(found["missing_keys"])
    if missing:
        raise TrainingError(
            f"the base's files lack weights of a {kind} language model: {some(missing)}",
            "download the model whole; a model without a language head cannot be trained to write",
        )
    if mismatched := sorted(f"{name} is {tuple(a)} and not {tuple(b)}" for name, a, b in found["mismatched_keys"]):
        raise TrainingError(
            f"the base's files do not fit its config.json: {some(mismatched)}",
            "config and weights are of two models: download the model into an empty folder",
        )
    if surplus := sorted(name for name in found["unexpected_keys"] if _is_weight(name, stored.get(name))):
        raise TrainingError(
            f"the base's files hold tensors that a {kind} model does not have: {some(surplus)}",
            "they would be left out silently: check model_type and the number of layers in config.json",
        )


def _is_weight(name: str, tensor: StoredTensor | None) -> bool:
    """Whether a tensor was learnt. Older files hold masks and tables too: GPT-2's attn.bias, inv_freq, masked_bias."""
    own = name.rpartition(".")[2]
    return "weight" in own or (own == "bias" and (tensor is None or len(tensor.shape) == 1))


def sources(outline: Any, stored: Mapping[str, StoredTensor]) -> dict[str, list[str]]:
    """For each parameter of the model, the names of the tensors in the files that it is made of.

    Args:
        outline: the model on the meta device.
        stored: the tensors of its files.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    rules = get_model_conversion_mapping(outline)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    prefix, wanted = outline.base_model_prefix, outline.state_dict()
    made_of: dict[str, list[str]] = {}
    for name in stored:
        target, converted = rename_source_key(name, renamings, converters, prefix, wanted)
        if target not in wanted and name in wanted:
            target, converted = rename_source_key(name, [], [], prefix, wanted)
        # A tensor that is converted, and not only renamed, counts twice: a merge cannot go back through that.
        made_of.setdefault(target, []).extend([name] * (1 if converted is None else 2))
    return made_of


def stored_parts(outline: Any, stored: Mapping[str, StoredTensor], path: str, values: torch.Tensor) -> dict[str, Any]:
    """Values for one parameter of the model, divided as the files divide that parameter: by the names of their tensors.

    Experts are one parameter in the model, and in most files a tensor each. transformers' rules for saving say which.

    Args:
        outline: the model on the meta device, without adapters.
        stored: the tensors of the base's files.
        path: of the parameter.
        values: of its shape, on any device.

    Raises:
        TrainingError: the files do not have these tensors.
    """
    from transformers.core_model_loading import revert_weight_conversion

    parts = {path: values} if path in stored else revert_weight_conversion(outline, {path: values})
    missing = sorted(name for name, part in parts.items() if name not in stored or stored[name].shape != part.shape)
    if missing:
        raise TrainingError(
            f"the base's files hold no tensors for {path}: {some(missing)} is not there, or has another shape",
            "leave it out of lora.targets",
        )
    return dict(parts)


def locate(outline: Any, stored: Mapping[str, StoredTensor], modules: Sequence[str]) -> dict[str, Weight]:
    """Find the stored weight of each linear layer in `modules`.

    Args:
        outline: the model on the meta device, without adapters.
        stored: the tensors of the base's files.
        modules: paths of linear layers in the model.

    Raises:
        TrainingError: a layer has no weight in the files, or one that is put together from several tensors.
    """
    from transformers.pytorch_utils import Conv1D

    made_of, layers, found = sources(outline, stored), dict(outline.named_modules()), {}
    for module in modules:
        names = made_of.get(f"{module}.weight", [])
        if len(names) != 1 or module not in layers:
            raise TrainingError(
                f"the base's files hold {'several' if names else 'no'} tensors for {module}.weight",
                "leave this layer out of lora.targets" if names else "is this the base it was trained on?",
            )
        found[module] = Weight(names[0], stored[names[0]], isinstance(layers[module], Conv1D))
    return found
