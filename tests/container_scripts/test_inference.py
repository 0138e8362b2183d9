"""The handler by itself, with tiny random models."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import inference
from generation.generator import Generator
from generation.request import RequestError
from generation.rows import BrokenModelError
from lorasum.models.prompt import DEFAULT_TEMPLATE
from lorasum.shared.requests import fill_template
from shared.base_config import context_length
from shared.names import EXPECT_GPU
from shared.requests import read_refusal

PROMPTS = [
    "Hi",
    fill_template(DEFAULT_TEMPLATE, "Ana: is the shop open?\nRaj: till six, and bring the receipt, they never find it"),
    "Summarize the chat dialogue:\nMia: yes! 7 at the gym",
    "🙂 {braces} and\ttabs",
]


def edit(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


def make(architecture: str, tokenizer: Path, folder: Path) -> Path:
    """A random model whose weights are large enough for every earlier token to sway the next one."""
    from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM

    shutil.copytree(tokenizer, folder)
    common = {"vocab_size": 512, "hidden_size": 32, "initializer_range": 0.5}
    llama = {"intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if architecture == "bloom":
            model = BloomForCausalLM(BloomConfig(**common, n_layer=2, n_head=4))
        else:
            model = LlamaForCausalLM(LlamaConfig(**common, **llama))
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(tiny_tokenizer_dir: Path, tmp_path: Path) -> Path:
    """A random BLOOM, to be changed by the test."""
    return make("bloom", tiny_tokenizer_dir, tmp_path / "model")


def load(folder: Path) -> inference.Served:
    """In float32: a bfloat16 rounding may tip a random model's greedy choice."""
    served = inference.model_fn(str(folder))
    served.model.float()
    return served


def ask(served: inference.Served, **request: Any) -> list[str]:
    data = inference.input_fn(json.dumps(request), "application/json")
    answer = json.loads(inference.output_fn(inference.predict_fn(data, served), "application/json"))
    assert all(set(row) == {"generated_text"} for row in answer)
    return [row["generated_text"] for row in answer]


@pytest.mark.parametrize("architecture", ["bloom", "llama"])
def test_a_summary_does_not_depend_on_other_prompts_of_its_batch(
    architecture: str, tiny_tokenizer_dir: Path, tmp_path: Path
) -> None:
    served = load(make(architecture, tiny_tokenizer_dir, tmp_path / "model"))
    parameters = {"max_new_tokens": 24}
    together = ask(served, inputs=PROMPTS, parameters=parameters)
    assert together == [ask(served, inputs=prompt, parameters=parameters)[0] for prompt in PROMPTS]
    assert len(set(together)) == len(PROMPTS)


@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_not_finite_are_an_error_and_no_answer(
    folder: Path, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are tokens drawn by them: that is the last thing that a GPU does."""
    monkeypatch.setattr(inference, "serving_dtype", lambda device, stored: torch.float16)
    served = inference.model_fn(str(folder))
    served.model.transformer.ln_f.weight.data[3] = float("nan")
    with pytest.raises(BrokenModelError, match=r"not finite: its weights are damaged, or too large for torch\.float16"):
        ask(served, inputs="Hi", parameters={"temperature": temperature})


def test_greedy_decoding_takes_the_likeliest_token_until_eos(folder: Path) -> None:
    served = load(folder)
    ids = served.tokenizer(PROMPTS[1])["input_ids"]
    chosen: list[int] = []
    for _ in range(12):
        chosen.append(int(served.model(torch.tensor([ids + chosen])).logits[0, -1].argmax()))
    expected = served.tokenizer.decode(chosen, skip_special_tokens=True).strip()
    assert ask(served, inputs=PROMPTS[1], parameters={"max_new_tokens": 12}) == [expected]

    # A token that first comes in the middle becomes EOS: the answer ends before it.
    place, eos = next((place, token) for place, token in enumerate(chosen) if place > 3 and token not in chosen[:place])
    edit(folder, "lorasum.json", template=DEFAULT_TEMPLATE, eos_token_id=eos)
    shorter = served.tokenizer.decode(chosen[:place], skip_special_tokens=True).strip()
    assert ask(load(folder), inputs=PROMPTS[1], parameters={"max_new_tokens": 12}) == [shorter]


def test_a_dialogue_gets_the_artifacts_prompt_template(folder: Path) -> None:
    template = "Chat {x}:\n{dialogue}\nTL;DR:"
    edit(folder, "lorasum.json", template=template, eos_token_id=2, generation={"max_new_tokens": 16})
    served = load(folder)
    dialogue = "  Ana: {dialogue} is what it says\nRaj: {x}?\n"
    [summary] = ask(served, dialogue=dialogue)
    assert [summary] == ask(served, inputs=[fill_template(template, dialogue)])
    assert [summary] != ask(served, inputs=[dialogue])


def test_generation_defaults_come_from_the_artifact_only(folder: Path) -> None:
    greedy = ask(load(folder), inputs=PROMPTS, parameters={"max_new_tokens": 5})
    edit(folder, "generation_config.json", do_sample=True, temperature=1.9, repetition_penalty=5.0, max_length=3)
    edit(folder, "lorasum.json", template=DEFAULT_TEMPLATE, eos_token_id=2, generation={"max_new_tokens": 5})
    assert ask(load(folder), inputs=PROMPTS) == greedy


def test_a_temperature_above_zero_samples(folder: Path) -> None:
    served = load(folder)
    answers = {ask(served, inputs="Hi", parameters={"temperature": 1.5, "max_new_tokens": 8})[0] for _ in range(4)}
    assert len(answers) > 1
    nearly_greedy = {"temperature": 1.5, "top_p": 0.01, "max_new_tokens": 8}
    assert ask(served, inputs="Hi", parameters=nearly_greedy) == ask(
        served, inputs="Hi", parameters={"max_new_tokens": 8}
    )


def test_pad_and_eos_settings_of_the_tokenizer_change_nothing(folder: Path) -> None:
    expected = ask(load(folder), inputs=PROMPTS, parameters={"max_new_tokens": 8})
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    sequence = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    eos = {"</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": sequence,
        "pair": sequence,
        "special_tokens": eos,
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit(folder, "tokenizer_config.json", pad_token=None)
    served = load(folder)
    assert served.tokenizer.pad_token is None
    assert served.tokenizer("Hi")["input_ids"][-1] == 2
    assert ask(served, inputs=PROMPTS, parameters={"max_new_tokens": 8}) == expected


def test_a_prompt_longer_than_the_context_is_refused_by_number(tiny_tokenizer_dir: Path, tmp_path: Path) -> None:
    folder = make("llama", tiny_tokenizer_dir, tmp_path / "model")
    edit(folder, "config.json", max_position_embeddings=40)
    served = load(folder)
    assert ask(served, inputs="a" * 30, parameters={"max_new_tokens": 10})
    with pytest.raises(ValueError, match=r"prompt 2 has 31 tokens; with 10 new ones that is over the model's 40"):
        ask(served, inputs=["a", "a" * 31], parameters={"max_new_tokens": 10})


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("bloom", {"seq_length": 40}),
        ("llama", {"max_position_embeddings": 40, "rope_parameters": {"rope_type": "yarn", "factor": 4.0}}),
        ("llama", {"max_position_embeddings": 80, "rope_scaling": {"type": "linear", "factor": 4.0}}),
        ("llama", {"sliding_window": 4}),
    ],
)
def test_an_endpoint_takes_what_prepare_takes(
    architecture: str, config: dict[str, Any], tiny_tokenizer_dir: Path, tmp_path: Path
) -> None:
    folder = make(architecture, tiny_tokenizer_dir, tmp_path / "model")
    edit(folder, "config.json", **config)
    served = load(folder)
    most = context_length(json.loads((folder / "config.json").read_text()))
    assert served.generator.context == most
    assert ask(served, inputs="a" * ((most or 400) - 1), parameters={"max_new_tokens": 1})


def test_a_token_that_the_model_does_not_know_never_reaches_it(folder: Path) -> None:
    """On a GPU its embedding would be the last thing that the process can ask for."""
    served = load(folder)
    known = ask(served, inputs=PROMPTS, parameters={"max_new_tokens": 4})
    served.tokenizer.add_special_tokens({"pad_token": "<a pad>"})
    padded = replace(served, generator=Generator.of(served.model, served.tokenizer, None))
    assert len(served.tokenizer) > served.generator.vocabulary > padded.generator.pad_token_id
    assert ask(padded, inputs=PROMPTS, parameters={"max_new_tokens": 4}) == known
    with pytest.raises(RequestError, match=r"prompt 2 has token 512, .* the model knows 512"):
        ask(padded, inputs=["Hi", "Hi <a pad>"])


def test_a_base_model_has_no_template_for_dialogues(folder: Path) -> None:
    with pytest.raises(ValueError, match="no prompt template; send finished prompts as inputs"):
        ask(load(folder), dialogue="Ana: hi")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "the body is not JSON in UTF-8"),
        (b'"\xff"', "the body is not JSON in UTF-8"),
        ("[]", "the body is not an object"),
        ("{}", "send either inputs"),
        ('{"inputs": "a", "dialogue": "b"}', "send either inputs"),
        ('{"inputs": "a", "stream": true}', "unknown key 'stream'; known: inputs, dialogue, parameters"),
        ('{"inputs": 1}', "inputs is neither a text nor a list of texts"),
        ('{"dialogue": ["a", null]}', "dialogue is neither a text nor a list of texts"),
        ('{"inputs": []}', "inputs has 0 texts; 1 to 64"),
        (json.dumps({"inputs": ["a"] * 65}), "inputs has 65 texts; 1 to 64"),
        ('{"inputs": ["a", " \\n"]}', "text 2 of inputs is empty"),
        ('{"inputs": "\\ud83d"}', "half a character"),
        ('{"inputs": "a", "parameters": []}', "parameters is not an object"),
        (
            '{"inputs": "a", "parameters": {"max_tokens": 3}}',
            "unknown parameter 'max_tokens'; known: max_new_tokens, temperature, top_p",
        ),
        (
            '{"inputs": "a", "parameters": {"max_new_tokens": 0}}',
            "max_new_tokens must be a whole number from 1 to 1024",
        ),
        ('{"inputs": "a", "parameters": {"max_new_tokens": 1025}}', "max_new_tokens must be"),
        ('{"inputs": "a", "parameters": {"max_new_tokens": 1.5}}', "max_new_tokens must be"),
        ('{"inputs": "a", "parameters": {"max_new_tokens": true}}', "max_new_tokens must be"),
        ('{"inputs": "a", "parameters": {"temperature": NaN}}', "temperature must be a number from 0 to 2, not NaN"),
        ('{"inputs": "a", "parameters": {"temperature": "0"}}', "temperature must be a number"),
        ('{"inputs": "a", "parameters": {"top_p": 0}}', "top_p must be a number"),
    ],
)
def test_a_bad_request_is_refused_in_one_line(body: str | bytes, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        inference.input_fn(body, "application/json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_refusal_is_marked_and_a_fault_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError) as refused:
        inference.input_fn("{}", "application/json")
    assert str(read_refusal(str(refused.value))).startswith("send either inputs")
    served = load(folder)
    monkeypatch.setattr(served.model, "generate", lambda **_: torch.ones(2, 3) @ torch.ones(2, 3))
    with pytest.raises(RuntimeError) as fault:
        ask(served, inputs="Hi")
    assert read_refusal(str(fault.value)) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU works")
def test_an_endpoint_on_a_gpu_instance_fails_without_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EXPECT_GPU, "1")
    with pytest.raises(RuntimeError, match=r"the instance has a GPU, and PyTorch .* cannot use it: "):
        inference.model_fn("/there/is/no/model")


def test_requests_and_answers_are_json_only() -> None:
    assert inference.input_fn(b'{"inputs": "a"}', "Application/JSON; charset=utf-8").texts == ("a",)
    with pytest.raises(ValueError, match="content type 'text/csv' is not supported"):
        inference.input_fn("a", "text/csv")
    assert inference.output_fn([{"generated_text": "é"}], "text/html, */*;q=0.1") == '[{"generated_text": "é"}]'
    with pytest.raises(ValueError, match="cannot answer as 'text/csv'"):
        inference.output_fn([], "text/csv")


@pytest.mark.parametrize(
    ("function", "arguments"), [("model_fn", 1), ("input_fn", 2), ("predict_fn", 2), ("output_fn", 2)]
)
def test_handlers_take_as_many_arguments_as_the_toolkit_passes(function: str, arguments: int) -> None:
    handler: Callable[..., Any] = getattr(inference, function)
    assert handler.__code__.co_argcount == arguments
