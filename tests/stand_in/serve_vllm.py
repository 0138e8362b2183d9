"""The serving half of the Hugging Face vLLM container, as far as lorasum asks anything of it.

vLLM needs a GPU. In its place transformers generates; what stands is the image's contract: SM_VLLM_MODEL names the
model, and /invocations takes an OpenAI completion and answers one, with vLLM's own shapes, defaults and errors.
"""

import json
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

from serve_http import Answer, serve

_PARAMETERS = ("prompt", "max_tokens", "temperature", "top_p", "model", "stop", "seed")
_DEFAULT_TOKENS = 16  # vLLM's, where a request says nothing


def main() -> None:
    """Load the model, then listen."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where, one_at_a_time = os.environ["SM_VLLM_MODEL"], threading.Lock()
    tokenizer = AutoTokenizer.from_pretrained(where)
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32).eval()

    def complete(request: dict[str, Any]) -> dict[str, Any]:
        if unknown := set(request) - set(_PARAMETERS):
            raise ValueError(f"Extra inputs are not permitted: {', '.join(sorted(unknown))}")
        prompts = [request["prompt"]] if isinstance(request["prompt"], str) else request["prompt"]
        choices = []
        for index, prompt in enumerate(prompts):
            ids = tokenizer(prompt, return_tensors="pt")
            new = request.get("max_tokens", _DEFAULT_TOKENS)
            row = model.generate(**ids, max_new_tokens=new, do_sample=False)[0, ids["input_ids"].shape[1] :]
            text = tokenizer.decode(row, skip_special_tokens=True)
            choices.append({"index": index, "text": text, "finish_reason": "length", "logprobs": None})
        return {"id": "cmpl-1", "object": "text_completion", "model": where, "choices": choices[::-1]}

    def answer(body: bytes, headers: Mapping[str, str]) -> Answer:
        with one_at_a_time:
            try:
                return 200, json.dumps(complete(json.loads(body))).encode()
            except (ValueError, KeyError) as error:
                said = {"error": {"message": str(error), "type": "BadRequestError", "code": 400}}
                return 400, json.dumps(said).encode()

    serve(answer)


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder is not in the container
    os.chdir("/")
    main()
