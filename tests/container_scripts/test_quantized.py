"""Quantised linear layers against their weights written out in float32."""

import pytest
import torch

from engine.quantized import int8_linear, multiply_by_widened_weights


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_forward_and_gradient_equal_the_dequantised_layer(
    dtype: torch.dtype, tolerance: float, with_bias: bool
) -> None:
    torch.manual_seed(0)
    codes = torch.randint(-127, 128, (24, 40), dtype=torch.int8)
    scales = torch.rand(24) / 127
    bias = torch.randn(24) if with_bias else None
    x = torch.randn(2, 9, 40, dtype=dtype, requires_grad=True)
    plain = x.detach().float().requires_grad_()
    upstream = torch.randn(2, 9, 24)

    ours = int8_linear(x, codes, scales, bias)
    ours.backward(upstream.to(dtype))
    theirs = torch.nn.functional.linear(plain, codes.float() * scales[:, None], bias)
    theirs.backward(upstream)

    assert ours.dtype == dtype
    assert x.grad is not None
    torch.testing.assert_close(ours.float(), theirs, atol=tolerance * theirs.abs().max().item(), rtol=0)
    assert plain.grad is not None
    torch.testing.assert_close(x.grad.float(), plain.grad, atol=tolerance * plain.grad.abs().max().item(), rtol=0)


def test_layers_use_bitsandbytes_own_codes() -> None:
    """Same answer as bitsandbytes' training path on the CPU, which also multiplies by dequantised weights."""
    from bitsandbytes.nn import Linear8bitLt

    torch.manual_seed(0)
    layer = Linear8bitLt(40, 24, has_fp16_weights=False, threshold=6.0)
    layer.load_state_dict(torch.nn.Linear(40, 24).state_dict())
    layer = layer.to("cpu").train()
    x = torch.randn(3, 40)
    theirs = layer(x)
    assert multiply_by_widened_weights(torch.nn.Sequential(layer), torch.float32) == 1
    torch.testing.assert_close(layer(x), theirs, atol=1e-5, rtol=0)
    assert layer.weight.dtype == torch.int8


def test_nf4_layers_equal_their_dequantised_weights_in_both_passes() -> None:
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    torch.manual_seed(0)
    layer = Linear4bit(64, 24, quant_type="nf4", compute_dtype=torch.float32)
    layer.load_state_dict(torch.nn.Linear(64, 24).state_dict())
    layer = layer.to("cpu")
    weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
    assert multiply_by_widened_weights(torch.nn.Sequential(layer), torch.float32) == 1
    x = torch.randn(3, 64, requires_grad=True)
    for mode in (True, False, True):  # evaluation in between changes nothing
        layer.train(mode)
        torch.testing.assert_close(layer(x), torch.nn.functional.linear(x, weight, layer.bias), atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(gradient, weight.sum(0).expand(3, -1), atol=1e-5, rtol=0)
