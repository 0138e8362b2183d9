"""Imports what a training takes of transformers and PEFT, without what these import only because it is installed.

scipy           36 MiB             transformers, to train models that find things in pictures
boto3            9 MiB             accelerate, to start jobs on SageMaker
bitsandbytes     3 MiB             PEFT, for quantized models
PyTorch's        42 MiB, a second   bitsandbytes, for kernels that we do not use
 compiler
"""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

_NO_MODULE = cast(ModuleType, None)  # in sys.modules: whoever looks for it finds that it is not installed


def import_libraries(quantization: str) -> None:
    """Import transformers' models and PEFT. What else asks for scipy or boto3 later, such as a tracker, gets it.

    Args:
        quantization: as in Arguments. With `none`, bitsandbytes stays hidden, for PEFT asks for it with every layer.
    """
    import torch

    hidden = [name for name in ("scipy", "boto3") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden, _NO_MODULE))
    if quantization == "none":
        sys.modules.setdefault("bitsandbytes", _NO_MODULE)
    compiles = torch.compile
    torch.compile = _when_called(compiles)
    try:
        import peft  # noqa: F401
        import transformers.modeling_utils  # noqa: F401
    finally:
        torch.compile = compiles
        for name in hidden:
            del sys.modules[name]


def _when_called(compiles: Callable[..., Any]) -> Callable[..., Any]:
    """torch.compile as a decorator that imports the compiler when the function is called, and not where it stands."""

    def decorator(function: Any = None, **settings: Any) -> Any:
        if function is None:
            return lambda function: decorator(function, **settings)
        compiled: list[Any] = []

        def call(*arguments: Any, **named: Any) -> Any:
            if not compiled:
                compiled.append(compiles(function, **settings))
            return compiled[0](*arguments, **named)

        return call

    return decorator
