"""What a training asks of PyTorch's allocator of GPU memory."""

import subprocess
import sys
from pathlib import Path

import pytest

import gpu
from gpu import avoid_fragmentation, is_out_of_memory


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_what_the_user_asks_of_the_allocator_stays(name: str) -> None:
    environ = {name: "backend:cudaMallocAsync"}
    avoid_fragmentation(environ)
    assert environ == {name: "backend:cudaMallocAsync"}


def test_pieces_grow_and_are_asked_for_before_torch_reads_that() -> None:
    environ: dict[str, str] = {}
    avoid_fragmentation(environ)
    both = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    assert environ == dict.fromkeys(both, "expandable_segments:True"), "PyTorch 2.9 ignores the first"
    code = "import sys, train; print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=Path(gpu.__file__).parent, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n", "train.py's main calls it first"


@pytest.mark.parametrize(
    ("message", "lacks"),
    [
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", True),
        ("CUDA driver error: out of memory", True),
        ("NCCL error: unhandled cuda error\nLast error:\nCuda failure 2 'out of memory'", True),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("CUDA error: device-side assert triggered", False),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasLtMatmul(handle)`", False),
    ],
)
def test_lack_of_memory_is_recognised_whoever_says_so(message: str, lacks: bool) -> None:
    assert is_out_of_memory(RuntimeError(message)) is lacks
