"""One of several processes that load a base model: a script for forks of the trainings' zygote, with JSON as argument.

The JSON says: `base`, the model's folder; `shared`, whether the processes share it; `report`, a file for two numbers of
bytes: this process's part of what several hold together, while all have loaded it; and how much more than before it had
to itself at most, looked at after each weight.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(asked: dict[str, Any]) -> None:
    import torch
    from transformers import core_model_loading

    from engine.arguments import Arguments
    from engine.base_memory import shareable
    from engine.distributed import join
    from engine.fake_pass import skeleton
    from engine.host_weights import SharedBase
    from engine.model import load_base
    from engine.process_memory import give_back
    from engine.weight_storage import codes_of

    group, base, device = join(os.environ), Path(asked["base"]), torch.device("cpu")
    most, set_parameter, before = 0, core_model_loading.set_param_for_module, own_bytes()

    def set_and_look(*arguments: Any) -> None:
        nonlocal most
        set_parameter(*arguments)
        most = max(most, own_bytes() - before)

    core_model_loading.set_param_for_module = set_and_look
    shared = SharedBase(shareable(skeleton(base)), device, group) if asked["shared"] else None
    model = load_base(base, Arguments(quantization="int8"), torch.bfloat16, device, shared)
    core_model_loading.set_param_for_module = set_parameter
    for parameter in model.parameters():
        codes_of(parameter).sum()  # read, as a product reads it
    give_back()
    group.from_all(None)
    Path(asked["report"]).write_text(json.dumps([kilobytes("smaps_rollup", "Pss_Shmem") << 10, most]))
    group.from_all(None)


def own_bytes() -> int:
    return kilobytes("status", "RssAnon") << 10


def kilobytes(file: str, name: str) -> int:
    lines = Path(f"/proc/self/{file}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


main(json.loads(sys.argv[1]))
