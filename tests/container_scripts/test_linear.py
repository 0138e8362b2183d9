"""Frozen linear layers and their adapters against PEFT around a float32 layer of the same weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from engine.layers import dequantize_int8, replace_linear_forwards
from engine.linear import Multiply, adapted_linear

IN, OUT, R = 64, 24, 4


def int8_layer(device: str = "cpu") -> tuple[torch.nn.Module, torch.Tensor]:
    """A layer of bitsandbytes, and the weight it stands for."""
    from bitsandbytes.nn import Linear8bitLt

    layer = Linear8bitLt(IN, OUT, has_fp16_weights=False, threshold=6.0)
    layer.load_state_dict(torch.nn.Linear(IN, OUT).state_dict())
    layer = layer.to(device)
    return layer, layer.weight.data.float() * layer.weight.SCB[:, None] / 127


def nf4_layer() -> tuple[torch.nn.Module, torch.Tensor]:
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    layer = Linear4bit(IN, OUT, quant_type="nf4", compute_dtype=torch.float32)
    layer.load_state_dict(torch.nn.Linear(IN, OUT).state_dict())
    layer = layer.to("cpu")
    return layer, dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()


def plain_layer() -> tuple[torch.nn.Module, torch.Tensor]:
    layer = torch.nn.Linear(IN, OUT)
    return layer, layer.weight.data.clone()


def conv1d_layer() -> tuple[torch.nn.Module, torch.Tensor]:
    from transformers.pytorch_utils import Conv1D

    layer = Conv1D(OUT, IN)
    return layer, layer.weight.data.T.clone()


LAYERS = [int8_layer, nf4_layer, plain_layer, conv1d_layer]


def adapted(layer: torch.nn.Module, dropout: float = 0.0, dora: bool = False, **switches: str) -> Any:
    """The layer under PEFT, A and B random, with our arithmetic unless a switch says otherwise."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=R,
        lora_alpha=8,
        lora_dropout=dropout,
        use_dora=dora,
        target_modules=["0"],
        fan_in_fan_out=type(layer).__name__ == "Conv1D",
    )
    model = get_peft_model(torch.nn.Sequential(layer.requires_grad_(False)), lora)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.1
    assert replace_linear_forwards(model, **switches) == 1
    return model.train()


def product_with(weight: torch.Tensor) -> Multiply:
    """What layers.py gives for a plain layer without bias."""
    return lambda rows, start: rows @ weight.T if start is None else start.addmm_(rows, weight.T)


def yardstick(weight: torch.Tensor, bias: torch.Tensor, dropout: float = 0.0, dora: bool = False) -> Any:
    """PEFT's own forward, around a float32 layer."""
    layer = torch.nn.Linear(IN, OUT)
    layer.weight.data, layer.bias.data = weight, bias.detach().float()
    model = adapted(layer, dropout, dora)
    for module in model.modules():
        vars(module).pop("forward", None)  # back to the class's
    return model


def pass_through(model: Any, x: torch.Tensor, upstream: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.detach().clone().requires_grad_()
    out = model(x)
    out.backward(upstream.to(out.dtype))
    grads = {name.split(".")[-3]: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert x.grad is not None
    assert {"lora_A", "lora_B"} <= set(grads) <= {"lora_A", "lora_B", "lora_magnitude_vector"}
    return {"out": out.detach(), "x": x.grad, **grads}


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_an_adapted_layer_equals_peft_around_the_dequantized_layer(
    make: Callable[[], tuple[Any, torch.Tensor]], dtype: torch.dtype, tolerance: float
) -> None:
    """Output and all gradients, relative to the largest value of each: float32 1e-5, bf16 2e-2."""
    torch.manual_seed(0)
    layer, weight = make()
    layer.bias.data = layer.bias.data.to(dtype)
    x, upstream = torch.randn(2, 9, IN).to(dtype), torch.randn(2, 9, OUT).to(dtype)
    theirs = pass_through(yardstick(weight, layer.bias), x.float(), upstream.float())
    ours = pass_through(adapted(layer), x, upstream)
    assert ours["out"].dtype == ours["x"].dtype == dtype
    for name, expected in theirs.items():
        worst = tolerance * expected.abs().max().item()
        torch.testing.assert_close(ours[name].float(), expected, atol=worst, rtol=0)


@pytest.mark.parametrize("make", LAYERS)
def test_a_small_update_is_not_rounded_away_in_bf16(make: Callable[[], tuple[Any, torch.Tensor]]) -> None:
    """Output and dx change as in float32, to 10% on average, though by less than half of a bf16 number's last bit.

    Added to a product that is rounded already, as PEFT does, a third or more of it is lost, but in Conv1D, whose first
    weights are small.
    """
    torch.manual_seed(0)
    layer, weight = make()
    x, upstream = torch.randn(4000, IN).bfloat16(), torch.randn(4000, OUT).bfloat16()
    wanted = _changes(yardstick(weight, layer.bias), x.float(), upstream.float())
    layer.bias.data = layer.bias.data.bfloat16()
    for name, change in _changes(adapted(layer), x, upstream).items():
        kept = (change * wanted[name]).sum() / wanted[name].square().sum()
        assert kept.item() == pytest.approx(1, abs=0.1), name


def _changes(model: Any, x: torch.Tensor, upstream: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a small B changes of the output and of x's gradient."""
    results = []
    for size in (0.0, 2e-4):
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data = size * torch.ones_like(parameter)
        results.append(pass_through(model, x, upstream))
    return {name: results[1][name].float() - results[0][name].float() for name in ("out", "x")}


@pytest.mark.parametrize("make", LAYERS)
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_a_dora_layer_equals_peft_around_the_dequantized_layer(
    make: Callable[[], tuple[Any, torch.Tensor]], dropout: float, dtype: torch.dtype, tolerance: float
) -> None:
    """Output and all gradients, the magnitude's too, with the same values dropped; tolerances as above."""
    torch.manual_seed(0)
    layer, weight = make()
    layer.bias.data = layer.bias.data.to(dtype)
    x, upstream = torch.randn(2, 9, IN).to(dtype), torch.randn(2, 9, OUT).to(dtype)
    results = []
    for model, kind in (
        (yardstick(weight, layer.bias, dropout, True), torch.float32),
        (adapted(layer, dropout, True), dtype),
    ):
        for name, parameter in model.named_parameters():
            if "magnitude" in name:
                parameter.data = weight.norm(dim=1) * torch.linspace(0.5, 1.5, OUT)
        torch.manual_seed(2)
        results.append(pass_through(model, x.to(kind), upstream.to(kind)))
    theirs, ours = results
    assert ours["out"].dtype == ours["x"].dtype == dtype
    assert "lora_magnitude_vector" in theirs
    for name, expected in theirs.items():
        worst = tolerance * expected.abs().max().item()
        torch.testing.assert_close(ours[name].float(), expected, atol=worst, rtol=0)


@pytest.mark.parametrize("make", [int8_layer, nf4_layer])
def test_a_quantized_layer_multiplies_by_its_dequantized_weight(
    make: Callable[[], tuple[Any, torch.Tensor]],
) -> None:
    torch.manual_seed(0)
    layer, weight = make()
    assert replace_linear_forwards(torch.nn.Sequential(layer)) == 1
    x = torch.randn(3, IN, requires_grad=True)
    for mode in (True, False, True):  # evaluation in between changes nothing
        layer.train(mode)
        torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, weight, layer.bias), atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(gradient, weight.sum(0).expand(3, -1), atol=1e-5, rtol=0)
    assert layer.weight.element_size() == 1  # still quantized


def test_int8_layers_give_the_answer_of_bitsandbytes() -> None:
    """The answer of bitsandbytes' training path on a CPU, which multiplies by dequantized weights too."""
    torch.manual_seed(0)
    layer, _ = int8_layer()
    x = torch.randn(3, IN)
    theirs = layer.train()(x)
    replace_linear_forwards(torch.nn.Sequential(layer))
    torch.testing.assert_close(layer(x), theirs, atol=1e-5, rtol=0)


def test_dropout_is_equal_in_both_passes_and_new_in_each_call() -> None:
    """Numeric derivatives in float64 (gradcheck), the seed held; kept values are scaled so that the mean stays."""
    torch.manual_seed(0)
    weight = torch.randn(OUT, IN, dtype=torch.float64)
    x, a, b = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((5, IN), (R, IN), (OUT, R)))

    def forward(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(7)
        return adapted_linear(x, a, b, lambda _: weight, product_with(weight), scale=0.5, dropout=0.3)

    assert torch.autograd.gradcheck(forward, (x, a, b))

    ones, eye = torch.ones(200, IN), torch.eye(IN)
    zero = torch.zeros(IN, IN)
    drawn = [adapted_linear(ones, eye, eye, lambda _: zero, product_with(zero), dropout=0.25) for _ in range(2)]
    assert not torch.equal(*drawn)
    assert drawn[0].unique().tolist() == pytest.approx([0, 4 / 3])
    assert drawn[0].mean().item() == pytest.approx(1, abs=0.03)


def test_dropout_is_off_in_evaluation() -> None:
    torch.manual_seed(0)
    model = adapted(int8_layer()[0], dropout=0.5)
    x = torch.randn(4, IN)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize("linear", ["int8", "llm.int8"])
def test_quantized_activations_are_close_forward_and_exact_backward(linear: str) -> None:
    """Within 2% of the largest value, where there are no outliers; the gradients are the dequantized layer's."""
    torch.manual_seed(0)
    layer, _ = int8_layer()
    x, upstream = torch.randn(40, IN), torch.randn(40, OUT)
    dequantized = pass_through(adapted(layer), x, upstream)
    ours = pass_through(adapted(layer, linear=linear), x, upstream)
    worst = 2e-2 * dequantized["out"].abs().max().item()
    torch.testing.assert_close(ours["out"], dequantized["out"], atol=worst, rtol=0)
    for name in ("x", "lora_A", "lora_B"):
        torch.testing.assert_close(ours[name], dequantized[name], atol=0, rtol=0)


def test_int8_products_go_beyond_the_range_of_fp16() -> None:
    """A down projection may get values of 100,000."""
    torch.manual_seed(0)
    layer, _ = int8_layer()
    x = torch.randn(4, IN)
    x[1, 3] = 1e5
    with torch.no_grad():
        exact, found = (adapted(layer, linear=linear).eval()(x) for linear in ("dequantized", "int8"))
    for row, expected in zip(found, exact, strict=True):
        torch.testing.assert_close(row, expected, atol=2e-2 * expected.abs().max().item(), rtol=0)


def test_llm_int8_is_nearer_than_int8_where_there_are_outliers() -> None:
    torch.manual_seed(0)
    layer, _ = int8_layer()
    x = torch.randn(40, IN)
    x[:, 3] *= 50
    with torch.no_grad():
        exact, int8, apart = (adapted(layer, linear=linear).eval()(x) for linear in ("dequantized", "int8", "llm.int8"))
    error = [(found - exact).abs().max().item() / exact.abs().max().item() for found in (int8, apart)]
    assert error[1] < error[0] / 3
    assert error[1] < 2e-2


def test_a_model_may_change_a_layers_output_in_place() -> None:
    """Llama 4 does so with the output of its router, whose weight is quantized."""
    weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    a, b = torch.randn(2, 4).requires_grad_(), torch.randn(6, 2).requires_grad_()
    x = torch.randn(2, 3, 4).requires_grad_()
    out = adapted_linear(x, a, b, weight.to, product_with(weight))
    out.mul_(2)
    out.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (2 * (weight + b @ a).sum(0)).expand(2, 3, 4).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_int8_weight_is_rounded_once(dtype: torch.dtype) -> None:
    codes, scales = torch.randint(-127, 128, (64, 48), dtype=torch.int8), torch.rand(64)
    exact = codes.double() * scales.double()[:, None]
    assert torch.equal(dequantize_int8(codes, scales, dtype), exact.float().to(dtype))
