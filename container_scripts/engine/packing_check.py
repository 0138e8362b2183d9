"""Which route a model will take, found out before its weights are there.

The memory plan (fitting.py) has to know: a model whose examples see each other in a pack takes one at a time, and holds
the tensors of one. So the probe (probe.py) tries a thin model of the architecture out (thin_model.py). One that does
not run so is taken to take packs, which needs more memory rather than less. Cost: less than a second.
"""

import logging
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from engine.arguments import Arguments
from engine.fake_pass import quiet, skeleton
from engine.probe import find_route
from engine.routes import Route
from generation.thin_model import by_itself, thin_model

_log = logging.getLogger(__name__)


@lru_cache(16)
def likely_route(base: Path, attention: str, longest: int) -> Route:
    """The route that the probe will find.

    Args:
        base: folder with the model's config.json; no weights are read.
        attention: `engine_attention` of the job. FlexAttention counts as `examples`: it keeps apart what that does.
        longest: tokens of the longest example of either split.
    """
    kernel = "transformers" if attention == "transformers" else "examples"
    try:
        with quiet(), by_itself():
            model = thin_model(skeleton(base))
            model.get_input_embeddings().weight.requires_grad_(True)
            _, route = find_route(model, longest, replace(Arguments(), engine_attention=kernel))
    except Exception as error:  # whatever its code stumbles over
        _log.info("%s does not run with few weights, so its memory is planned for whole packs: %s", base, error)
        return Route(kernel, together=True, head="labels")
    return route
