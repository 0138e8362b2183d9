"""The serving half of the Hugging Face vLLM container, as far as lorasum asks anything of it.

vLLM needs a GPU. In its place transformers generates; what stands is the image's contract: SM_VLLM_MODEL names the
model, and /invocations takes an OpenAI completion and answers one, with vLLM's own shapes, defaults and errors.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

_PARAMETERS = ("prompt", "max_tokens", "temperature", "top_p", "model", "stop", "seed")
_DEFAULT_TOKENS = 16  # vLLM's, where a request says nothing


def main(port: int) -> None:
    """Load the model, then listen."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = os.environ["SM_VLLM_MODEL"]
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

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                self._answer(200, complete(json.loads(body)))
            except (ValueError, KeyError) as error:
                self._answer(400, {"error": {"message": str(error), "type": "BadRequestError", "code": 400}})

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    HTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    sys.path.pop(0)  # this file's folder is not in the container
    os.chdir("/")
    main(int(sys.argv[1]))
