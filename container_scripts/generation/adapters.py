"""Several LoRA adapters on one base model, which is held once. Each row of a batch is completed with its own.

PEFT multiplies all rows by the base's weights together, and then each adapter's rows by its A and B (`adapter_names`).
It does so for adapters of any rank on any layers, but not with DoRA, nor on the stacked experts of a mixture. In each
layer it sends the GPU the list of an adapter's rows, and waits for the GPU three times:

    3 · layers · targets · adapters            1,344 times a token, for two adapters on 7 targets of 32 layers

Here the GPU gets each list once.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from shared.names import ADAPTERS


def named_adapters(environ: Mapping[str, str]) -> dict[str, Path]:
    """The folder of each adapter that is to be served by its name; none where one model is served."""
    return {name: Path(folder) for name, folder in json.loads(environ.get(ADAPTERS) or "{}").items()}


def with_adapters(model: Any, folders: Mapping[str, Path]) -> Any:
    """`model` as a PEFT model with the adapters of these folders; no row gets one that it does not name."""
    from peft import PeftModel
    from peft.tuners.lora import Linear

    (first, folder), *more = folders.items()
    device = str(model.device)  # else PEFT reads them onto the machine's first GPU
    model = PeftModel.from_pretrained(model, folder, adapter_name=peft_name(first), torch_device=device)
    for name, folder in more:
        model.load_adapter(folder, adapter_name=peft_name(name), torch_device=device)
    for layer in model.modules():
        if type(layer) is Linear and not layer.lora_variant:
            layer.__class__ = _linear_class()
    return model


def peft_name(name: str) -> str:
    """What PEFT calls an adapter. Its own name may be one that torch keeps for itself, such as `keys`."""
    return f"adapter-{name}"


@cache
def _linear_class() -> Any:
    from peft.tuners.lora import Linear  # here, because it takes seconds

    class MixedLinear(Linear):  # type: ignore[misc]  # mypy does not know PEFT
        """A linear layer with several adapters."""

        def _mixed_batch_forward(
            self, x: Any, *args: Any, adapter_names: list[str], alora_offsets: Any = None, **kwargs: Any
        ) -> Any:
            result = self.base_layer(x, *args, **kwargs)
            for name, rows in _rows_of_each(tuple(adapter_names), x.device):
                if name in self.lora_A:
                    own = x[rows].to(self.lora_A[name].weight.dtype)
                    added = self.lora_B[name](self.lora_A[name](own)) * self.scaling[name]
                    result[rows] += added.to(result.dtype)
            return result

    return MixedLinear


@lru_cache(maxsize=8)
def _rows_of_each(names: Sequence[str], device: Any) -> list[tuple[str, Any]]:
    """Each adapter and its rows of a batch: their places, or all of them without a copy."""
    import torch

    places = {name: [place for place, one in enumerate(names) if one == name] for name in dict.fromkeys(names)}
    if len(places) == 1:
        return [(names[0], slice(None))]
    return [(name, torch.tensor(rows, device=device)) for name, rows in places.items()]
