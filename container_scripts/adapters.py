"""Several LoRA adapters on one base model, which is held once. Each row of a batch is completed with its own.

PEFT multiplies all rows by the base's weights together, and then each adapter's rows by its A and B (`adapter_names`).
It does so for adapters of any rank on any layers, but not with DoRA, nor on the stacked experts of a mixture.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from contract import ADAPTERS


def named_adapters(environ: Mapping[str, str]) -> dict[str, Path]:
    """The folder of each adapter that is to be served by its name; none where one model is served."""
    return {name: Path(folder) for name, folder in json.loads(environ.get(ADAPTERS) or "{}").items()}


def with_adapters(model: Any, folders: Mapping[str, Path]) -> Any:
    """`model` as a PEFT model with the adapters of these folders; no row gets one that it does not name."""
    from peft import PeftModel

    (first, folder), *more = folders.items()
    model = PeftModel.from_pretrained(model, folder, adapter_name=peft_name(first))
    for name, folder in more:
        model.load_adapter(folder, adapter_name=peft_name(name))
    return model


def peft_name(name: str) -> str:
    """What PEFT calls an adapter. Its own name may be one that torch keeps for itself, such as `keys`."""
    return f"adapter-{name}"
