"""Serves a summariser: the handler contract of the SageMaker Hugging Face inference container, which the local server
follows too. Needs torch and transformers only; PEFT where an adapter is served.

Request, application/json; one or at most 64 texts, answered in their order, in batches that fit into memory:
    {"inputs": prompt | [prompts], "parameters": {...}}     prompts as the model was trained on
    {"dialogue": text | [texts], "parameters": {...}}       rendered with the artifact's own template
Parameters, all optional: max_new_tokens (1 to 1024), temperature (0 is greedy), top_p (above 0, to 1), adapter (name).
Answer: [{"generated_text": the completion without the prompt}, ...]
"""

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from generation.adapters import named_adapters, peft_name, with_adapters
from generation.generator import Generator, decode, encode, leave_fp16_if_too_small, sampling_of
from generation.onednn_linear import block_weights
from generation.request import Request, RequestError
from generation.request import read_request as input_fn
from generation.rows import AbandonedError, Row, TooLargeError
from generation.scheduling import Scheduler, check, fill
from gpu import LOST, GpuLostError, gpu_fault, leave_cudnn_attention, serving_dtype
from shared.container_limits import limit_threads
from shared.names import BASE_MODEL, HUB_TOKEN_ARN, RECORD_FILE
from shared.records import ArtifactRecord, from_json
from shared.requests import fill_template, plain_text, without_bos

__all__ = [
    "AbandonedError", "GpuLostError", "answers_of", "chat_prompt", "input_fn", "model_fn", "output_fn",
    "predict_fn", "rows_of", "run", "scheduler",
]  # fmt: skip

_log = logging.getLogger(__name__)
_DEFAULTS = {"max_new_tokens": 128, "temperature": 0.0, "top_p": 1.0}
_ANSWER_WITHIN = 60.0  # seconds: SageMaker ends a request then, and nobody gets its answer


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded model, and how its artifact wants it used.

    Attributes:
        template: prompt template with one {dialogue}; None if the folder carries none (a base model).
        control_tokens: texts that the tokenizer takes for control tokens; in a dialogue they are text.
        defaults: generation parameters of a request that gives none.
        adapter: name of the adapter that answers; empty if the endpoint serves one model.
        others: the same model with each of the other adapters, by name.
    """

    generator: Generator
    tokenizer: Any
    template: str | None
    control_tokens: tuple[str, ...]
    defaults: Mapping[str, float]
    adapter: str = ""
    others: Mapping[str, "Served"] = field(default_factory=dict)

    def named(self, adapter: str | None) -> "Served":
        """What a request asks for: the adapter of this name, or this one if it names none.

        Raises:
            RequestError: there is none of this name.
        """
        if adapter is None or adapter == self.adapter:
            return self
        if adapter not in self.others:
            known = f"it has {', '.join([self.adapter, *self.others])}" if self.others else "it serves one model"
            raise RequestError(f"this endpoint has no adapter {adapter[:40]!r}: {known}")
        return self.others[adapter]

    @property
    def model(self) -> Any:
        """The transformers model."""
        return self.generator.model


def model_fn(model_dir: str) -> Served:
    """Load the model of a folder, or of a hub id with an optional @revision, onto the GPU if there is one.

    With LORASUM_BASE_MODEL set it is that folder or id instead; an adapter in `model_dir` is merged into it. With
    LORASUM_ADAPTERS set too, those adapters are put on it, to be asked by their names.

    Raises:
        RuntimeError: the instance has a GPU that does not work, or the hub's token cannot be read.
    """
    if fault := gpu_fault(os.environ):
        raise RuntimeError(fault)
    import transformers

    transformers.utils.logging.disable_progress_bar()
    leave_cudnn_attention()
    limit_threads()
    if os.environ.get(HUB_TOKEN_ARN):
        from hub_token import hub_token  # lies beside this file

        os.environ.update(hub_token(os.environ))
    base = os.environ.get(BASE_MODEL) or model_dir
    adapter = Path(model_dir) if (Path(model_dir) / "adapter_config.json").is_file() else None
    name, _, revision = (base, "", "") if Path(base).is_dir() else base.partition("@")
    source = {"pretrained_model_name_or_path": name, "revision": revision or "main"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**source)
    if several := named_adapters(os.environ):
        return _serve_several(with_adapters(_load(source, None), several).eval(), tokenizer, several)
    return serve(_load(source, adapter), tokenizer, _record(adapter or Path(base)))


def serve(model: Any, tokenizer: Any, artifact: ArtifactRecord) -> Served:
    """A loaded model, made ready to answer as its artifact wants it; trying it out takes a few short answers."""
    generator = Generator.of(model, tokenizer, artifact.eos_token_id)
    leave_fp16_if_too_small(generator)
    _log.info("what prompts share: %s", generator.sharing)
    _log.info("linear layers are multiplied by %s", "oneDNN" if block_weights(generator) else "torch's default")
    return _served(generator, tokenizer, artifact)


def _serve_several(model: Any, tokenizer: Any, folders: Mapping[str, Path]) -> Served:
    """A base model with several adapters, each asked as its own artifact wants it. The first is asked by default."""
    records = {name: _record(folder) for name, folder in folders.items()}
    first, *_ = records
    if len({record.eos_token_id for record in records.values()}) > 1:  # `deploy` refuses them before
        raise RuntimeError("these adapters end a summary with different tokens")
    generator = serve(model, tokenizer, records[first]).generator
    each = {name: _served(generator, tokenizer, record, name) for name, record in records.items()}
    return replace(each.pop(first), others=each)


def _served(generator: Generator, tokenizer: Any, artifact: ArtifactRecord, adapter: str = "") -> Served:
    """The model, used as an artifact's record says."""
    defaults = _DEFAULTS | dict(artifact.generation)
    return Served(generator, tokenizer, artifact.template, artifact.control_tokens, defaults, adapter)


def predict_fn(data: Request, model: Served) -> list[dict[str, str]]:
    """The completions of all the request's prompts, for SageMaker's server. If its GPU is lost, this process ends.

    Raises:
        RequestError: a prompt is empty or too long, there is no template, or one does not fit in memory.
        AbandonedError: nobody waits for them any more.
        BrokenModelError: the model's logits are not finite.
    """
    import torch

    deadline = time.monotonic() + _ANSWER_WITHIN
    rows = rows_of(data, model, lambda: time.monotonic() > deadline)
    try:
        with torch.inference_mode():
            fill(model.generator, rows)
    except GpuLostError:  # SageMaker's server goes on asking, but starts an ended process again
        _log.exception("this process ends")
        os._exit(LOST)  # no thread, and nothing of the driver, can hold that up
    return answers_of(rows, model)


def scheduler(model: Served) -> Scheduler:
    """Completes the rows of several requests together, for a server that has more than one at a time."""
    return Scheduler(model.generator)


def run(work: Scheduler) -> None:
    """Complete all rows of a scheduler, also those that are added meanwhile.

    Raises:
        GpuLostError: the GPU answers nothing more in this process.
    """
    import torch

    with torch.inference_mode():
        work.run()


def rows_of(data: Request, model: Served, nobody_waits: Callable[[], bool]) -> list[Row]:
    """A row for each of the request's prompts.

    Raises:
        RequestError: a prompt is empty or too long, or there is no template, or no adapter of the request's name.
    """
    model = model.named(data.adapter)
    prompts = data.texts
    if data.are_dialogues:
        if model.template is None:
            raise RequestError("this model carries no prompt template; send finished prompts as inputs")
        prompts = tuple(fill_template(model.template, text, model.control_tokens) for text in data.texts)
    parameters = {**model.defaults, **data.parameters}
    new_tokens = int(parameters["max_new_tokens"])
    encoded = [encode(model.tokenizer, prompt, model.generator.eos_token_ids) for prompt in prompts]
    _check_tokens(encoded, new_tokens, model.generator)
    sampling, adapter = sampling_of(parameters), peft_name(model.adapter) if model.adapter else ""
    return [Row(ids, new_tokens, sampling, nobody_waits, adapter=adapter) for ids in encoded]


def answers_of(rows: Sequence[Row], model: Served) -> list[dict[str, str]]:
    """The answer of each row. One that is not done has what there is up to now.

    Raises:
        RequestError, AbandonedError, BrokenModelError: the first error of a row.
    """
    try:
        check(rows)
    except TooLargeError as error:
        raise RequestError(f"{error}; send a shorter one") from error
    return [{"generated_text": text} for text in decode(model.tokenizer, [row.completion for row in rows])]


def chat_prompt(messages: Sequence[Mapping[str, str]], model: Served) -> str:
    """Messages in the chat format of the model's tokenizer, up to where the answer begins. Thinking is turned off.

    Raises:
        RequestError: it has no chat format, or one that does not take these messages.
    """
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "chat_template", None):
        raise RequestError("this model has no chat format; send one user message that holds the dialogue")
    plain = [{**one, "content": plain_text(one["content"], model.control_tokens)} for one in messages]
    try:
        prompt = tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    except Exception as error:  # a template raises what it likes, for roles that it does not know
        raise RequestError(f"the model's chat format does not take these messages: {error}") from error
    return without_bos(tokenizer, prompt)


def output_fn(prediction: list[dict[str, str]], accept: str) -> str:
    """The answer as JSON.

    Raises:
        RequestError: the client accepts something else only.
    """
    if not any(kind in accept for kind in ("application/json", "application/*", "*/*")):
        raise RequestError(f"cannot answer as {accept!r}; accept application/json")
    return json.dumps(prediction, ensure_ascii=False)


def _load(source: Mapping[str, str], adapter: Path | None) -> Any:
    """The model of `source`, which from_pretrained is called with, on the GPU if there is one; `adapter` is merged."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    cpu = torch.device("cpu")
    device = torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else cpu
    dtype = serving_dtype(device, AutoConfig.from_pretrained(**source).dtype)
    own = {} if device == cpu else {"device_map": {"": device}}  # tensor by tensor, with little main memory
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=dtype, **own)
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter, torch_device=str(model.device)).merge_and_unload()
    return model.eval()


def _record(folder: Path) -> ArtifactRecord:
    """What the folder's lorasum.json says; an empty record where there is none, as in a base model's folder."""
    record = folder / RECORD_FILE
    return from_json(ArtifactRecord, record.read_bytes() if record.is_file() else "{}")


def _check_tokens(encoded: Sequence[Sequence[int]], new_tokens: int, generator: Generator) -> None:
    for number, ids in enumerate(encoded, 1):
        if not ids:
            raise RequestError(f"prompt {number} has no tokens")
        if (most := generator.context) and len(ids) + new_tokens > most:
            raise RequestError(
                f"prompt {number} has {len(ids)} tokens; with {new_tokens} new ones that is over the model's {most}"
            )
        if max(ids) >= generator.vocabulary:  # looked up on a GPU, it would be the last thing that the GPU does
            raise RequestError(f"prompt {number} has token {max(ids)}, and the model knows {generator.vocabulary}")
