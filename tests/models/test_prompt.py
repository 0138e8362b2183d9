"""The chat formats of today's models: what is trained is what they were taught, and what is served."""

from typing import Any

import pytest

from lorasum.errors import ModelError
from lorasum.models.prompt import chat_prompt, template_prompt
from lorasum.shared.requests import fill_template

ASK = "Sum up:\n{dialogue}"

# The forms that these families' chat templates write, each in a template of our own.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3 = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
LLAMA3 = (
    "{% set date = date_string if date_string is defined else strftime_now('%d %b %Y') %}"
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\nToday Date: {{ date }}\n\n"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% set messages = messages[1:] %}{% endif %}"
    "<|eot_id|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}"
    "<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
PHI3 = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
GRANITE = (
    "{% for m in messages %}<|start_of_role|>{{ m.role }}<|end_of_role|>{{ m.content }}<|end_of_text|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)
_CONTROL = (
    "<|im_start|> <|im_end|> <|start_header_id|> <|end_header_id|> <|eot_id|> <start_of_turn> <end_of_turn> [INST] "
    "[/INST] <|user|> <|assistant|> <|system|> <|end|> <|start_of_role|> <|end_of_role|> <|end_of_text|>"
)


def tokenizer(chat_template: str, adds_bos: bool = False) -> Any:
    """A tokenizer of bytes that knows the control tokens of all these families."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", *_CONTROL.split()]
    trainer = trainers.BpeTrainer(
        special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    made.train_from_iterator(["sum up"], trainer)
    if adds_bos:
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", chat_template=chat_template, name_or_path="tiny"
    )


FAMILIES = {
    "ChatML": (CHATML, False, "<|im_start|>user\nSum up:\n{dialogue}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"),
    "Qwen 3": (
        QWEN3,
        False,
        "<|im_start|>user\nSum up:\n{dialogue}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "<|im_end|>",
    ),
    "Llama 3": (
        LLAMA3,
        True,
        "<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nSum up:\n{dialogue}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
    ),
    "Gemma": (
        GEMMA,
        True,
        "<start_of_turn>user\nSum up:\n{dialogue}<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>",
    ),
    "Mistral": (MISTRAL, True, "[INST] Sum up:\n{dialogue}[/INST]", "</s>"),
    "Phi 3": (PHI3, False, "<|user|>\nSum up:\n{dialogue}<|end|>\n<|assistant|>\n", "<|end|>"),
    "Granite": (
        GRANITE,
        False,
        "<|start_of_role|>user<|end_of_role|>Sum up:\n{dialogue}<|end_of_text|>\n"
        "<|start_of_role|>assistant<|end_of_role|>",
        "<|end_of_text|>",
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prompt_is_the_family_s_chat_format(family: str) -> None:
    chat_template, adds_bos, expected, end = FAMILIES[family]
    model = tokenizer(chat_template, adds_bos)
    prompt = chat_prompt(model, ASK)
    assert prompt.template == expected
    assert model.convert_ids_to_tokens(prompt.end_id) == end


@pytest.mark.parametrize("family", FAMILIES)
def test_training_sees_the_tokens_of_the_whole_chat(family: str) -> None:
    """Prompt, answer and end, tokenised as `prepare` does, are the ids that the chat template itself comes to."""
    chat_template, adds_bos, _, _ = FAMILIES[family]
    model = tokenizer(chat_template, adds_bos)
    prompt = chat_prompt(model, ASK)
    dialogue, summary = "Ann: lunch?\nBen: yes, {at} 12", "They have lunch."
    prompt_ids = model(fill_template(prompt.template, dialogue)).input_ids
    answer_ids = model(summary, add_special_tokens=False).input_ids
    turns = [
        {"role": "user", "content": ASK.replace("{dialogue}", dialogue)},
        {"role": "assistant", "content": summary},
    ]
    whole = model.apply_chat_template(turns, tokenize=False, date_string="26 Jul 2024")
    expected = model(whole, add_special_tokens=False).input_ids
    ours = [*prompt_ids, *answer_ids, prompt.end_id]
    space = (
        model(" ", add_special_tokens=False).input_ids if family == "Mistral" else []
    )  # it writes one before answers
    assert expected[: len(prompt_ids)] == prompt_ids
    assert expected[: len(ours) + len(space)] == [*prompt_ids, *space, *answer_ids, prompt.end_id]


@pytest.mark.parametrize("family", ["Llama 3", "Gemma", "Mistral"])
def test_bos_is_there_once_in_front(family: str) -> None:
    chat_template, adds_bos, _, _ = FAMILIES[family]
    model = tokenizer(chat_template, adds_bos)
    ids = model(fill_template(chat_prompt(model, ASK).template, "Ann: hi")).input_ids
    assert ids.count(model.bos_token_id) == 1
    assert ids[0] == model.bos_token_id


def test_a_bos_that_the_tokenizer_does_not_add_stays_in_the_template() -> None:
    assert chat_prompt(tokenizer(LLAMA3, adds_bos=False), ASK).template.startswith("<s><|start_header_id|>")


def test_a_system_turn_is_written_where_the_model_takes_one() -> None:
    assert chat_prompt(tokenizer(CHATML), ASK, "Be brief.").template.startswith(
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n"
    )


def test_a_model_without_system_turn_reads_it_in_the_user_s() -> None:
    prompt = chat_prompt(tokenizer(GEMMA, adds_bos=True), ASK, "Be brief.")
    assert prompt.template.startswith("<start_of_turn>user\nBe brief.\n\nSum up:\n{dialogue}<end_of_turn>")


@pytest.mark.parametrize(
    ("chat_template", "reason"),
    [
        ("{{ raise_exception('tools only') }}", "cannot be rendered: tools only"),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "does not repeat the user's text as it is"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_refused(chat_template: str, reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as error:
        chat_prompt(tokenizer(chat_template), ASK, "Be brief.")
    assert "data.format: template" in error.value.hint


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("Ann: I typed </s> and it broke", "Ann: I typed < /s> and it broke"),
        ("<|im_end|><|im_end|>", "< |im_end|>< |im_end|>"),
        ("2 < 3, and <3 to you", "2 < 3, and <3 to you"),
        ("[INST] is no tag", "[ INST] is no tag"),
    ],
)
def test_control_tokens_in_a_chat_are_read_as_text(text: str, plain: str) -> None:
    model = tokenizer(CHATML)
    prompt = template_prompt(model, ASK)
    assert prompt.plain(text) == plain
    ids = model(prompt.plain(text), add_special_tokens=False).input_ids
    assert not set(ids) & set(model.all_special_ids)
    assert not set(ids) & set(model.convert_tokens_to_ids(list(prompt.control_tokens)))


def test_control_tokens_of_the_template_stay_what_they_are() -> None:
    model = tokenizer(CHATML)
    prompt = chat_prompt(model, ASK)
    ids = model(prompt.fill("Ann: <|im_end|> lol")).input_ids
    assert ids.count(model.convert_tokens_to_ids("<|im_end|>")) == 1
    assert prompt.control_token_in("Ann: <|im_end|> lol") == "<|im_end|>"
    assert prompt.control_token_in("Ann: lol") is None


def test_a_raw_template_ends_with_the_eos_token() -> None:
    model = tokenizer(CHATML)
    assert template_prompt(model, ASK).end_id == model.eos_token_id
