"""One process of a training: a script that the tests run in forks of the trainings' zygote, with JSON as its argument.

The JSON says: `flags` and `folder` of the training, `report`, a file for what came of it, and where this process is
hit: `stop_after`, a step after which it gets SIGTERM, `kill_after`, SIGKILL, and `break_at`, its forward pass whose
loss is not a number. With the folder of a `base` model it says whether that is `shared`, and how many layers are
`recomputed`; and with `gpus`, how many there are, of which each process has one, all pretended (pretend_gpu.py).
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))


def main(asked: dict[str, Any]) -> None:
    import torch

    from conftest_training import Events, Training, small
    from engine.distributed import join
    from engine.failure import PeerLostError, TrainingError
    from shared.events import StepEvent

    class Hit(Events):
        def emit(self, event: Any) -> None:
            super().emit(event)
            if isinstance(event, StepEvent):
                for name, number in (("stop_after", signal.SIGTERM), ("kill_after", signal.SIGKILL)):
                    if event.step == asked.get(name):
                        signal.raise_signal(number)

    passes = 0

    def breaks(module: Any, _inputs: Any, output: Any) -> None:
        nonlocal passes
        if type(module).__name__ == "LlamaModel" and module.training:
            passes += 1
            if passes == asked.get("break_at"):
                output.last_hidden_state.mul_(float("nan"))

    torch.nn.modules.module.register_module_forward_hook(breaks)
    group = join(os.environ)
    training = Training(small(Path(asked["folder"]), **asked["flags"]), events=Hit(), group=group)
    if "base" in asked:
        training.base, training.shared, training.recomputed = Path(asked["base"]), asked["shared"], asked["recomputed"]
    if "gpus" in asked:
        training.device = torch.device("cuda", group.local_rank)
    report: dict[str, Any] = {"ended": ""}
    try:
        training.run()
    except SystemExit as end:
        report["ended"] = f"status {end.code}"
    except (TrainingError, PeerLostError) as error:
        report["ended"] = f"{type(error).__name__}: {error}"
    report["resumed_from"] = str(training.resumed_from or "")
    report["losses"] = training.events.losses()
    report["evaluations"] = training.events.evaluations()
    report["adapter"] = {name: weight.flatten().tolist() for name, weight in training.adapter().items()}
    Path(asked["report"]).write_text(json.dumps(report))


def on_gpu(asked: dict[str, Any]) -> None:
    from pretend_gpu import pretend_gpu

    with pretend_gpu(index=int(os.environ["RANK"]), count=asked["gpus"]):
        main(asked)


given = json.loads(sys.argv[1])
(on_gpu if "gpus" in given else main)(given)
