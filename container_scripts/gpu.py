"""Whether the GPU that is paid for works: a broken driver must not become a day of training on the CPU."""

from collections.abc import Mapping

from contract import EXPECT_GPU


def gpu_fault(environ: Mapping[str, str]) -> str | None:
    """What is wrong with the GPU, in one line; None if one multiplies, or none is expected (see EXPECT_GPU)."""
    if environ.get(EXPECT_GPU) != "1":
        return None
    import torch

    try:
        torch.cuda.init()
        ones = torch.ones(8, 8, device="cuda")
        product = float((ones @ ones).sum())
    except Exception as error:  # whatever the driver says
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"the instance has a GPU, and PyTorch {torch.__version__} cannot use it: {first}"
    return None if product == 512 else f"the instance's GPU multiplies wrongly: it has {product:g} for 512"
