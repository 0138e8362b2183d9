"""Imports what a training takes of transformers and PEFT, without what these import only because it is installed.

scipy           36 MiB             transformers, to train models that find things in pictures
boto3            9 MiB             accelerate, to start jobs on SageMaker
bitsandbytes    45 MiB, seconds    PEFT, for quantized models
"""

import sys
from types import ModuleType
from typing import cast

_NO_MODULE = cast(ModuleType, None)  # in sys.modules: whoever looks for it finds that it is not installed


def import_libraries(quantization: str) -> None:
    """Import transformers' models and PEFT. What else asks for scipy or boto3 later, such as a tracker, gets it.

    Args:
        quantization: as in Arguments. With `none`, bitsandbytes stays hidden, for PEFT asks for it with every layer.
    """
    hidden = [name for name in ("scipy", "boto3") if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden, _NO_MODULE))
    if quantization == "none":
        sys.modules.setdefault("bitsandbytes", _NO_MODULE)
    try:
        import peft  # noqa: F401
        import transformers.modeling_utils  # noqa: F401
    finally:
        for name in hidden:
            del sys.modules[name]
