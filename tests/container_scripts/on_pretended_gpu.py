"""A process of a job that has a GPU of its own, which is pretended: runs a script of container_scripts.

    python on_pretended_gpu.py --flags

PRETENDED names the script (train, answer), and PRETENDED_GPUS says how many GPUs the machine has. launch.py starts this
file again for each process, whose GPU is that of its LOCAL_RANK.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import launch


def main(program: Any) -> int:
    if launch.ranks(os.environ):
        return int(program.main())  # the parent, which needs no torch
    import torch

    from pretend_gpu import pretend_gpu

    leave_model = getattr(program, "leave_model", None)
    with pretend_gpu(index=int(os.environ.get("LOCAL_RANK", 0)), count=int(os.environ["PRETENDED_GPUS"])) as gpu:

        def leave_alone(*arguments: Any) -> Any:
            assert leave_model
            assert not gpu.groups, "the other processes wait in NCCL until this one has merged"
            return leave_model(*arguments)

        program.leave_model = leave_alone
        code = int(program.main())
        assert not torch.backends.cuda.cudnn_sdp_enabled(), "a newer GPU would make a plan for each length"
        return code


program = import_module(os.environ["PRETENDED"])
launch.end_at_once(lambda: main(program))
