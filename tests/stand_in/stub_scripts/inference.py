"""A model that answers each prompt with its end."""

import json
from typing import Any


def model_fn(folder: str) -> None:
    return None


def input_fn(body: bytes, content_type: str) -> Any:
    return json.loads(body)


def predict_fn(request: Any, model: None) -> list[dict[str, str]]:
    return [{"generated_text": text[-40:]} for text in request["inputs"]]


def output_fn(answer: list[dict[str, str]], accept: str) -> str:
    return json.dumps(answer)
