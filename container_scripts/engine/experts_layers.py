"""Puts experts_forward.py into a model, where that is right: for stacked experts that have adapters, or hold codes.

Codes are int8 or NF4 (experts_quantized.py), or whole weights that lie in main memory and not on the GPU
(weight_storage.py).

Whether it is right is tried out on the model itself: random tokens go through the first layer's experts, and through
transformers' plain forward of the same weights in float32, one expert after another.

    check                                                              float32    bf16, fp16
    output, and gradients of the input and of the adapters             1e-4       5e-2

(The length of the difference to the length.) Where it is not, PEFT's way stays, and a line in the log says why. Neither
PEFT nor transformers can multiply by codes, so experts that hold them are then refused.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from engine.arguments import Arguments
from engine.experts_forward import Stack, by_expert, ends_of, experts_forward, first_name
from engine.failure import TrainingError
from engine.weight_storage import is_elsewhere, parts_of
from gpu import raise_if_no_fault_of_the_code
from shared.lora_targets import target_experts

_APART, _APART_IN_HALF = 1e-4, 5e-2
_TOKENS = 11  # of the check
_log = logging.getLogger(__name__)


def replace_experts_forwards(model: torch.nn.Module, dtype: torch.dtype, adapter: str = "fused") -> int:
    """Replace the forward of stacked experts that have adapters or hold codes; return of how many parameters.

    Args:
        model: a frozen model under PEFT, changed in place.
        dtype: the compute dtype.
        adapter: `peft`: only of those that hold codes, to which PEFT cannot add anything.

    Raises:
        TrainingError: the result would be wrong, and the experts hold codes.
    """
    reasons: dict[type, str] = {}
    count = 0
    for experts, wrappers in _experts_and_wrappers(model).items():
        kind, only_ours = type(experts), _holds_codes(experts)
        if not uses_the_interface(experts) or not (only_ours or adapter == "fused"):
            continue
        stacks = stacks_of(experts, {wrapper.parameter_name: wrapper for wrapper in wrappers})
        if kind not in reasons:
            reasons[kind] = difference(experts, stacks, dtype)
            if reasons[kind] and not only_ours:
                _log.warning(
                    "PEFT computes these adapters: the engine's result for %s is %s", kind.__name__, reasons[kind]
                )
        if not reasons[kind]:
            [*wrappers, experts][0].forward = partial(experts_forward, experts, stacks, ends_of)
            count += len(stacks) if only_ours else len(wrappers)
        elif only_ours:
            raise TrainingError(
                f"the engine's result for {kind.__name__} is {reasons[kind]}",
                "set quantization: none and training.engine.base: whole",
            )
    return count


def _experts_and_wrappers(model: torch.nn.Module) -> dict[Any, list[Any]]:
    """Modules of experts that have adapters or hold codes; of each PEFT's wrappers, the outermost first."""
    from peft.tuners.lora.layer import ParamWrapper

    around: dict[Any, list[Any]] = {}
    for module in model.modules():
        if isinstance(module, ParamWrapper):
            around.setdefault(module.get_base_layer(), []).append(module)
        elif uses_the_interface(module) and _holds_codes(module):
            around.setdefault(module, [])
    return around


def _holds_codes(experts: Any) -> bool:
    """Whether only the engine can multiply by a module's experts."""
    return are_quantized(experts) or any(map(is_elsewhere, experts._parameters.values()))


def are_quantized(experts: Any) -> bool:
    """Whether a module of experts holds int8 or NF4 codes (experts_quantized.py)."""
    return any(map(is_quantized_stack, experts._parameters.values()))


def is_quantized_stack(weight: Any) -> bool:
    """Whether a parameter of stacked experts holds int8 or NF4 codes."""
    return hasattr(weight, "dequantize_expert")


def uses_the_interface(module: Any) -> bool:
    """Whether a module's forward is one that transformers' interface for experts can replace."""
    wanted = ("has_gate", "has_bias", "has_post_expert_norm", "is_transposed", "num_experts", "_apply_gate")
    if not all(hasattr(module, name) for name in wanted) or module._is_expert_parallel:
        return False
    return {name for name, own in module.named_parameters(recurse=False) if own.ndim == 3} == {
        first_name(module),
        "down_proj",
    }


def engine_computes(experts: torch.nn.Module, arguments: Arguments) -> bool:
    """Whether the adapters of a module of experts are the engine's to compute, if the result is right."""
    return (arguments.engine_adapter == "fused" or arguments.quantization != "none") and uses_the_interface(experts)


def experts_of_peft(model: Any, arguments: Arguments, targets: Sequence[str]) -> list[torch.Tensor]:
    """The stacked experts with an adapter that PEFT computes: it adds to all of their weights in each pass.

    Args:
        model: without adapters.
        targets: names of what gets an adapter.
    """
    return [
        experts
        for path, experts in target_experts(model, targets).items()
        if not engine_computes(model.get_submodule(path.rpartition(".")[0]), arguments)
    ]


def stacks_of(experts: Any, wrappers: Mapping[str, Any]) -> dict[str, Stack]:
    """The Stack of each parameter of `experts`; `wrappers` are PEFT's, of those that have an adapter."""
    stacks = {}
    for name in (first_name(experts), "down_proj"):
        held = getattr(experts, name)
        out_features = held.shape[2 if experts.is_transposed else 1]
        bias = getattr(experts, f"{name}_bias") if experts.has_bias else None
        stacks[name] = Stack(partial(expert_weights, held, experts.is_transposed), out_features, bias)
        if wrapper := wrappers.get(name):
            (own,) = wrapper.active_adapters
            a, b, scale = wrapper.lora_A[own].weight, wrapper.lora_B[own].weight, wrapper.scaling[own]
            stacks[name] = replace(stacks[name], a=a, b=b, scale=scale)
    return stacks


def expert_weights(held: Any, transposed: bool, experts: Sequence[int], dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """W_e, (O, I), of each of these experts, until the next is asked for.

    Args:
        held: a parameter of stacked experts, codes or (E, O, I); (E, I, O) if `transposed`.
    """
    for e, codes in zip(experts, parts_of(held, experts), strict=True):
        if is_quantized_stack(held):
            yield held.dequantize_expert(codes, e, dtype)
        else:
            weight = codes.to(dtype)
            yield weight.T if transposed else weight


def difference(experts: Any, stacks: Mapping[str, Stack], dtype: torch.dtype) -> str:
    """What is wrong with experts_forward for a module of experts in `dtype`, in words; empty if nothing is."""
    device = stacks["down_proj"].weight(0, dtype).device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.enable_grad():
            torch.manual_seed(0)
            apart = _apart(experts, stacks, dtype)
    except Exception as error:  # whatever the model's code stumbles over: then this way is not for it
        raise_if_no_fault_of_the_code(error, device)
        return f"{type(error).__name__}: {error}"
    limit = _APART if dtype is torch.float32 else _APART_IN_HALF
    return "" if apart <= limit else f"{apart:.2%} off transformers'"


def _apart(experts: Any, stacks: Mapping[str, Stack], dtype: torch.dtype) -> float:
    """The largest relative difference of output and gradients."""
    first, count = stacks[first_name(experts)].weight(0, dtype), experts.num_experts
    width, device = first.shape[1], first.device
    hidden = torch.randn(_TOKENS, width, device=device).to(dtype)
    index = torch.rand(_TOKENS, count, device=device).topk(min(2, count)).indices
    weights = torch.rand(index.shape, device=device).to(dtype)
    tried = {name: _with_random_b(stack) for name, stack in stacks.items()}
    wanted = _results(_plain(experts, tried), tried, hidden.float(), index, weights.float())
    found = _results(partial(experts_forward, experts, tried, ends_of), tried, hidden, index, weights)
    apart = [(f.float() - w).norm() / w.norm().clamp_min(1e-30) for f, w in zip(found, wanted, strict=True)]
    return float(torch.stack(apart).max())  # of which not-a-number is the largest


def _with_random_b(stack: Stack) -> Stack:
    """With a B that is not zero, as it is before the first step, but changes the weight by about a tenth."""
    if stack.a is None or stack.b is None:
        return stack
    size = 0.1 * stack.weight(0, torch.float32).norm() / (stack.scale * stack.a.detach()).norm()
    return replace(stack, b=(torch.randn_like(stack.b) * size).requires_grad_())


def _results(
    forward: Any, stacks: Mapping[str, Stack], hidden: torch.Tensor, *routing: torch.Tensor
) -> list[torch.Tensor]:
    """The output, and the gradients of the input and of the adapters."""
    inputs = [hidden.detach().requires_grad_()]
    inputs += [part for stack in stacks.values() for part in (stack.a, stack.b) if part is not None]
    out = forward(inputs[0], *routing)
    return [out.detach(), *torch.autograd.grad(out.float().square().sum(), inputs)]


def _plain(experts: Any, stacks: Mapping[str, Stack]) -> Any:
    """transformers' own forward, of one expert after another, with float32 sums of weights and adapters."""
    plain = copy(experts)
    own = {name: value.float() for name, value in experts._parameters.items() if name not in stacks}
    vars(plain)["_parameters"] = own
    for name, stack in stacks.items():
        vars(plain)[name] = _Sums(stack, experts.num_experts, experts.is_transposed)
    return partial(type(experts).forward.__wrapped__, plain)


class _Sums:
    """Stands for a parameter of stacked experts: of one expert at a time, W + s B A in float32."""

    def __init__(self, stack: Stack, count: int, transposed: bool) -> None:
        self.stack, self.transposed = stack, transposed
        self.a, self.b = by_expert(stack.a, stack.b, count, torch.float32, stack.scale)

    def __getitem__(self, e: Any) -> torch.Tensor:
        weight = self.stack.weight(int(e), torch.float32).clone()  # the backward pass reads it, after the next one's
        if self.a is not None:
            weight = weight + self.b[int(e)] @ self.a[int(e)]
        return weight.T if self.transposed else weight
