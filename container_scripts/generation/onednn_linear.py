"""Linear layers of a served model whose weights lie in oneDNN's blocked layout, on a CPU in float32.

torch has MKL multiply a weight as it lies in the file. oneDNN can lay it out once in the order in which its kernels
read it, which pays where few rows are multiplied. CPU milliseconds of all products of SmolLM2-135M on one core (EPYC,
AVX512), with the weights as they are and blocked:

    1 row 47 and 46      16 rows 101 and 73      a prompt of 227 tokens 540 and 470

The values are the same up to rounding. The blocked weight takes the place of the other one, so memory holds each once.
"""

import logging
from collections import Counter
from functools import cache
from typing import TYPE_CHECKING, Any

from generation.batching_rules import trial_logits

if TYPE_CHECKING:
    from generation.generator import Generator

_log = logging.getLogger(__name__)
_ROWS = 256  # the layout is chosen for a product of so many, and is as fast for fewer


def block_weights(generator: "Generator") -> bool:
    """Block the weights of a model that is only served from now on. No gradient flows through it afterwards.

    Code that reads a weight itself cannot read a blocked one. So the model's logits are compared before and after.

    Returns:
        Whether it was done. It is not on a GPU, nor on a CPU that oneDNN has no kernels for.
    """
    import torch

    model, how = generator.model, {"use_cache": generator.sharing.cache}
    if model.device.type != "cpu" or not _has_kernels():
        return False
    expected = trial_logits(model, generator.pad_token_id, **how)
    with torch.no_grad():
        _block(model)
        try:
            found = trial_logits(model, generator.pad_token_id, **how)
            is_right = bool((found - expected).norm() <= 1e-3 * expected.norm())
        except Exception as error:  # whatever the model's code stumbles over
            _log.info("%s reads weights itself: %.100s", model.config.model_type, error)
            is_right = False
        if not is_right:
            _unblock(model)
    return is_right


def _has_kernels() -> bool:
    import torch

    is_x86 = torch.backends.cpu.get_cpu_capability().startswith("AVX")
    names = ("_reorder_linear_weight", "_linear_pointwise")  # torch's compiler calls them; they are not documented
    return is_x86 and torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in names)


def _block(model: Any) -> None:
    """A weight with another user, such as the input embedding, stays as it is, and oneDNN multiplies it as it lies."""
    import torch

    users = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    for layer in model.modules():
        if type(layer) is torch.nn.Linear and layer.weight.dtype is torch.float32:
            layer.__class__ = _blocked_class()
            if users[id(layer.weight)] == 1:
                _set_weight(layer, torch.ops.mkldnn._reorder_linear_weight(layer.weight, _ROWS))


def _unblock(model: Any) -> None:
    import torch

    for layer in model.modules():
        if type(layer) is _blocked_class():
            layer.__class__ = torch.nn.Linear
            if layer.weight.is_mkldnn:
                _set_weight(layer, layer.weight.to_dense())


def _set_weight(layer: Any, weight: Any) -> None:
    import torch

    layer.weight = torch.nn.Parameter(weight, requires_grad=False)


@cache
def _blocked_class() -> Any:
    import torch  # here, because it takes seconds

    class BlockedLinear(torch.nn.Linear):
        """A linear layer that oneDNN multiplies."""

        def forward(self, input: Any) -> Any:  # noqa: A002  torch's name
            return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")

    return BlockedLinear
