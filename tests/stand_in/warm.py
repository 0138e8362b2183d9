"""What transformers and PyTorch make when first asked and then keep: a zygote makes it once for all its forks."""

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import BloomConfig, BloomForCausalLM, conversion_mapping


def warm() -> None:
    """Have the patterns of weights' names, and what operations do to shapes, as the memory plan asks for them.

    Nothing is computed, because threads would not live on in the forks: tensors have no values.
    """
    conversion_mapping.get_checkpoint_conversion_mapping("bloom")
    config = BloomConfig(vocab_size=512, hidden_size=32, n_layer=2, n_head=4)
    for dtype in (torch.float32, torch.bfloat16):
        with FakeTensorMode():
            model = BloomForCausalLM._from_config(config, dtype=dtype)
            model(input_ids=torch.zeros(1, 192, dtype=torch.long), use_cache=False)
