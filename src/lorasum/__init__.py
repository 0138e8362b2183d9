"""lorasum: from chat logs to a fine-tuned summariser behind an endpoint, with nothing left running."""

import os
from typing import TYPE_CHECKING

os.environ.setdefault("DO_NOT_TRACK", "1")  # the hub's library and others read it when they are imported: no telemetry

__version__ = "0.1.0"
__all__ = [
    "deploy",
    "evaluate",
    "load_config",
    "plan",
    "predict",
    "prepare",
    "report",
    "status",
    "teardown",
    "train",
]

if TYPE_CHECKING:
    from lorasum.api import (
        deploy,
        evaluate,
        load_config,
        plan,
        predict,
        prepare,
        report,
        status,
        teardown,
        train,
    )


def __getattr__(name: str) -> object:
    """What api.py has, imported when it is used: the command line does not wait for it."""
    if name not in __all__:
        raise AttributeError(f"module 'lorasum' has no attribute {name!r}")
    from lorasum import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """With the verbs, for whoever presses Tab."""
    return sorted({*globals(), *__all__})
