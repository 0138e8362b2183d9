"""What a training asks of PyTorch's allocator of GPU memory."""

import subprocess
import sys
from pathlib import Path

import pytest

import gpu
from gpu import avoid_fragmentation


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_what_the_user_asks_of_the_allocator_stays(name: str) -> None:
    environ = {name: "backend:cudaMallocAsync"}
    avoid_fragmentation(environ)
    assert environ == {name: "backend:cudaMallocAsync"}


def test_pieces_grow_and_are_asked_for_before_torch_reads_that() -> None:
    environ: dict[str, str] = {}
    avoid_fragmentation(environ)
    assert environ == {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    code = "import sys, train; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(gpu.__file__).parent, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n", "train.py's main calls it first"
