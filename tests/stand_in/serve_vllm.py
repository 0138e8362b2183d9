"""The serving half of the Hugging Face vLLM container, as far as lorasum asks anything of it.

In the place of vLLM transformers generates; what stands is the image's contract: variables SM_VLLM_* are vLLM's flags,
and /invocations takes an OpenAI completion and answers one, with vLLM's own shapes, defaults and errors. As in vLLM, it
deletes the request's `model`, unless a variable puts vLLM's completions in its place (tried with vLLM 0.29.0 on a CPU).
"""

import json
import os
import re
import sys
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import yaml
from serve_http import Answer, serve

_PARAMETERS = ("prompt", "max_tokens", "temperature", "top_p", "model", "stop", "seed", "stream")
_LORA_FLAGS = ("enable-lora", "lora-modules", "max-loras", "max-lora-rank")
_FLAGS = ("model", "revision", *_LORA_FLAGS, "generation-config", "tensor-parallel-size", "max-model-len")
_COMPLETIONS = "vllm.entrypoints.openai.completion.api_router:create_completion"
GPUS = "STAND_IN_GPUS"
"""The variable that says how many GPUs the instance has."""
_DEFAULT_TOKENS = 16  # vLLM's, where a request says nothing


class Model:
    """The base model and its adapters, by the names that a request's `model` may have."""

    def __init__(self, flags: Mapping[str, list[str]]) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        [self.name] = flags["model"]
        [size] = flags.get("tensor-parallel-size", ["1"])
        refuse_size(AutoConfig.from_pretrained(self.name), int(size), int(os.environ[GPUS]))
        if flags.get("max-model-len", ["auto"]) != ["auto"]:
            raise SystemExit("no text is too long here, so it is left to vLLM")
        self.tokenizer = AutoTokenizer.from_pretrained(self.name)
        self._model: Any = AutoModelForCausalLM.from_pretrained(self.name, dtype=torch.float32).eval()
        self._adapters = [json.loads(module)["name"] for module in flags.get("lora-modules", [])]
        if "enable-lora" in flags:
            self._add_adapters(flags)

    def _add_adapters(self, flags: Mapping[str, list[str]]) -> None:
        from peft import PeftModel

        most, rank = (
            int(flags.get(flag, [default])[0]) for flag, default in (("max-loras", "1"), ("max-lora-rank", "16"))
        )
        assert rank in (8, 16, 32, 64, 128, 256, 320, 512), rank
        assert most >= 1
        for module in map(json.loads, flags["lora-modules"]):
            settings = json.loads((Path(module["path"]) / "adapter_config.json").read_bytes())
            if settings["r"] > rank:
                raise SystemExit(f"LoRA rank {settings['r']} is greater than max_lora_rank {rank}.")
            if isinstance(self._model, PeftModel):
                self._model.load_adapter(module["path"], module["name"])
            else:
                self._model = PeftModel.from_pretrained(self._model, module["path"], module["name"])

    def generate(self, name: str | None, prompt: str, tokens: int) -> str:
        """A request without a name gets the base model's answer, as vLLM has it."""
        ids = self.tokenizer(prompt, return_tensors="pt")
        with nullcontext() if name in self._adapters or not self._adapters else self._model.disable_adapter():
            if name in self._adapters:
                self._model.set_adapter(name)
            row = self._model.generate(**ids, max_new_tokens=tokens, do_sample=False)[0, ids["input_ids"].shape[1] :]
        text: str = self.tokenizer.decode(row, skip_special_tokens=True)
        return text

    def check(self, name: str | None) -> None:
        if name not in (None, self.name, *self._adapters):
            raise LookupError(f"The model `{name}` does not exist.")


def refuse_size(config: Any, size: int, gpus: int) -> None:
    """What vLLM 0.29.0 refuses of a tensor parallel size: in its configuration, its layers and its vocabulary."""
    if size > gpus:
        raise SystemExit(f"World size ({size}) is larger than the number of available GPUs ({gpus}) in this node.")
    if (heads := config.num_attention_heads) % size:
        raise SystemExit(
            f"Total number of attention heads ({heads}) must be divisible by tensor parallel size ({size})."
        )
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    assert key_heads % size == 0 or size % key_heads == 0
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    for width in (inner, -(-config.vocab_size // 64) * 64):
        assert width % size == 0, f"{width} is not divisible by {size}"


def flags() -> dict[str, list[str]]:
    """vLLM's flags, as the image makes them of its variables: one value each. A file may have several."""
    found = {}
    for variable, value in os.environ.items():
        if variable.startswith("SM_VLLM_"):
            found[variable.removeprefix("SM_VLLM_").lower().replace("_", "-")] = [value]
    for file in found.pop("config", []):
        assert file.endswith(".yaml")
        found |= yaml.safe_load(Path(file).read_text())
    if unknown := set(found) - set(_FLAGS):
        raise SystemExit(f"unrecognized arguments: {', '.join(sorted(unknown))}")
    return found


def main() -> None:
    """Load the model, then listen."""
    model, one_at_a_time = Model(flags()), threading.Lock()

    def complete(request: dict[str, Any]) -> dict[str, Any]:
        if unknown := set(request) - set(_PARAMETERS):
            raise ValueError(f"Extra inputs are not permitted: {', '.join(sorted(unknown))}")
        keeps_model = os.environ.get("CUSTOM_FASTAPI_INVOCATION_HANDLER") == _COMPLETIONS
        name = request.get("model") if keeps_model else None
        model.check(name)
        prompts = [request["prompt"]] if isinstance(request["prompt"], str) else request["prompt"]
        new = request.get("max_tokens", _DEFAULT_TOKENS)
        choices = [
            {"index": index, "text": model.generate(name, prompt, new), "finish_reason": "length", "logprobs": None}
            for index, prompt in enumerate(prompts)
        ]
        return {"id": "cmpl-1", "object": "text_completion", "model": name or model.name, "choices": choices[::-1]}

    def answer(body: bytes, headers: Mapping[str, str]) -> Answer:
        with one_at_a_time:
            try:
                request = json.loads(body)
                answer = complete(request)
                return 200, events(answer) if request.get("stream") else json.dumps(answer).encode()
            except LookupError as error:
                return refused(404, "NotFoundError", error)
            except ValueError as error:
                return refused(400, "BadRequestError", error)

    serve(answer)


def events(answer: dict[str, Any]) -> bytes:
    """The same answer as server-sent events, a word each."""
    [choice] = answer["choices"]
    words = re.findall(r"\s*\S+|\s+", choice["text"])
    pieces = [{**answer, "choices": [{**choice, "text": word, "finish_reason": None}]} for word in words]
    pieces.append({**answer, "choices": [{**choice, "text": ""}]})
    lines = [json.dumps(piece, ensure_ascii=False) for piece in pieces] + ["[DONE]"]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def refused(status: int, kind: str, error: Exception) -> Answer:
    said = {"error": {"message": str(error.args[0]), "type": kind, "param": None, "code": status}}
    return status, json.dumps(said).encode()


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder is not in the container
    os.chdir("/")
    main()
