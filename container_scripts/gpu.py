"""What a machine computes with: whether the GPU that is paid for works, the float type that is fast, free memory.

A broken driver must not become a day of training on the CPU.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

from shared.container_limits import free_main_memory
from shared.names import EXPECT_GPU

LOST = 70
"""Exit status of a process whose GPU answers nothing more."""
_NO_MEMORY = (
    "DefaultCPUAllocator",  # PyTorch's in main memory
    "Cannot allocate memory",  # Linux
    "CUDA error: out of memory",  # CUDA and its driver, asked without PyTorch's allocator
    "CUDA driver error: out of memory",
    "Cuda failure 2 'out of memory'",  # NCCL
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate",  # cuBLAS makes itself a buffer
)


class GpuLostError(RuntimeError):
    """The GPU refuses everything from now on, in this process: a kernel has failed on it, or it has failed itself."""

    def __init__(self, error: Exception) -> None:
        super().__init__(f"the GPU answers nothing more: {first_line(error)}")


def is_lost(device: Any) -> bool:
    """Whether everything that is asked of a device from now on fails, whatever it is."""
    import torch

    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
        except RuntimeError:
            return True
    return False


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory is lacking, on a GPU or in the machine. PyTorch has a type of error for its own on a GPU only."""
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in _NO_MEMORY)


def raise_if_no_fault_of_the_code(error: Exception, device: Any) -> None:
    """To be called where whatever a model's code stumbles over is caught: some errors say nothing about the code.

    Raises:
        Exception: `error`, if memory is lacking.
        GpuLostError: the GPU answers nothing more.
    """
    if is_out_of_memory(error):
        raise error
    if is_lost(device):
        raise GpuLostError(error) from error


def avoid_fragmentation(environ: MutableMapping[str, str]) -> None:
    """Have PyTorch lengthen its pieces of GPU memory, unless the user decides. To be called before torch is imported.

    Packs differ in the lengths of their examples. In pieces of fixed lengths, what one step has freed may be of no use
    to the next: memory that no plan counts. In rare cases an allocation that finds no memory leaves such a
    piece unusable, and PyTorch refuses all further ones with an internal error (pytorch/pytorch#188008). An endpoint,
    which goes on after such an error, does not ask for it. A training goes on only where it writes summaries: at the
    worst it ends with that error, and starts again from its newest checkpoint.
    """
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # 2.6 to 2.9 need the second (pytorch/pytorch#183387)
    if not any(name in environ for name in names):
        environ.update(dict.fromkeys(names, "expandable_segments:True"))


def leave_cudnn_attention() -> None:
    """Have PyTorch compute attention by FlashAttention instead of cuDNN, which it prefers on an H100 or newer.

    cuDNN makes a plan for each new length of a row or of an example: 0.03 to 1 s for nearly every example, and for each
    token that is generated (modelscope/FunASR#3704). And on a B200 models wrote wrong text with it
    (pytorch/pytorch#193893).
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def gpu_fault(environ: Mapping[str, str]) -> str | None:
    """What is wrong with the GPU, in one line; None if one multiplies, or none is expected (see EXPECT_GPU)."""
    if environ.get(EXPECT_GPU) != "1":
        return None
    import torch

    try:
        torch.cuda.init()
        ones = torch.ones(8, 8, device=f"cuda:{environ.get('LOCAL_RANK', 0)}")
        product = float((ones @ ones).sum())
    except Exception as error:  # whatever the driver says
        return f"the instance has a GPU, and PyTorch {torch.__version__} cannot use it: {first_line(error)}"
    return None if product == 512 else f"the instance's GPU multiplies wrongly: it has {product:g} for 512"


def fastest_dtype(device: Any) -> tuple[Any, str]:
    """The torch.dtype that a device multiplies fastest, of those that are accurate there; and why."""
    import torch

    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return torch.bfloat16, f"compute capability {major}.{minor} has bf16 tensor cores"
        return torch.float16, f"compute capability {major}.{minor} has no bf16 tensor cores"
    for part, test in (("AMX", "_is_amx_tile_supported"), ("AVX512-BF16", "_is_avx512_bf16_supported")):
        if hasattr(torch.cpu, test) and getattr(torch.cpu, test)():
            return torch.bfloat16, f"this CPU has {part}, which multiplies bf16 at twice float32's speed or more"
    return torch.float32, "this CPU has neither AMX nor AVX512-BF16, without which bf16 is slower than float32"


def serving_dtype(device: Any, stored: Any) -> Any:
    """The torch.dtype to answer in: float32 on a CPU; on a GPU fp16 if the weights are stored so, else the fastest.

    All GPUs multiply fp16 as fast as bf16, which has three digits less: a merge that was rounded once to fp16 would be
    rounded again. In float32 a prompt's answer in a batch is the answer that it gets alone. In half precision a
    rounding decides now and then.

    Args:
        stored: torch.dtype of the model's files; None if its config does not say.
    """
    import torch

    if device.type != "cuda":
        return torch.float32
    return stored if stored is torch.float16 else fastest_dtype(device)[0]


def dtype_that_holds(logits: Any, dtype: Any, device: Any) -> Any:
    """The torch.dtype that a model answers in which has computed `logits` in `dtype`.

    A model whose values go beyond fp16's largest, 65,504, leaves fp16, on a GPU that has bf16.
    """
    import torch

    if dtype is torch.float16 and not logits.isfinite().all():
        return serving_dtype(device, stored=None)
    return dtype


def free_memory(device: Any) -> int:
    """The bytes that this process can still take on a device: of the GPU, or of the main memory."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept_by_torch = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept_by_torch)
    return free_main_memory()


def first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
