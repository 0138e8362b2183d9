"""One of several processes that load a base model: a script for forks of the trainings' zygote, with JSON as argument.

The JSON says: `base`, the model's folder; `shared`, whether the processes share it; `report`, a file for the bytes that
this process holds, with its part of what several hold together, while all have loaded it.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any


def main(asked: dict[str, Any]) -> None:
    import torch

    from engine.arguments import Arguments
    from engine.distributed import join
    from engine.fake_pass import skeleton
    from engine.model import load_base, quantized_layers
    from engine.process_memory import give_back
    from engine.shared_base import SharedBase

    group, base, device = join(os.environ), Path(asked["base"]), torch.device("cpu")
    shared = SharedBase(quantized_layers(skeleton(base)), device, group) if asked["shared"] else None
    model = load_base(base, Arguments(quantization="int8"), torch.bfloat16, device, shared)
    for parameter in model.parameters():
        parameter.view(-1).sum()  # read, as a product reads it
    give_back()
    group.from_all(None)
    lines = dict(line.split(":", 1) for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    Path(asked["report"]).write_text(str(int(lines["Pss"].split()[0]) * 1024))
    group.from_all(None)


main(json.loads(sys.argv[1]))
