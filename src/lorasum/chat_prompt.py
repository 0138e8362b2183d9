"""A model's own chat format, as a prompt template: an instruct model is asked the way it was taught to be asked.

The model's chat template (Jinja, in its tokenizer) is rendered once, with `{dialogue}` where the dialogue goes. This
makes a prompt template like any other: it travels with the dataset and the artifact, and every server completes it. An
example, of a model that writes its turns in ChatML:

    <|im_start|>system
    You are a helpful assistant<|im_end|>
    <|im_start|>user
    Summarize the chat dialogue:
    {dialogue}<|im_end|>
    <|im_start|>assistant
                             <- the summary is trained here, and <|im_end|> behind it
"""

from dataclasses import dataclass
from typing import Any

from lorasum.errors import ModelError
from lorasum.prompt import PLACEHOLDER

_ANSWER = "lorasum marks the answer here"
_DATE = "26 Jul 2024"  # Llama 3's prompt says a date: with today's, a dataset would differ each day


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """How a model is asked, and how its answer ends.

    Attributes:
        template: the prompt, with one `{dialogue}`.
        end_id: token that ends the answer, such as that of `<|im_end|>`.
    """

    template: str
    end_id: int


def chat_prompt(tokenizer: Any, instruction: str, system: str = "") -> ChatPrompt:
    """The chat format of `tokenizer`, up to where the assistant's answer begins. Thinking is turned off.

    Args:
        tokenizer: of transformers, with a chat template.
        instruction: the user's turn, with one `{dialogue}`.
        system: the system's turn. Without one the model's own default stands, if it has any. A model that takes no
            system turn reads it at the head of the user's.

    Raises:
        ModelError: the chat template cannot be rendered, or it changes the user's text.
    """
    try:
        prompt, whole = _render(tokenizer, _turns(instruction, system))
    except Exception as error:
        if not system:
            raise _unusable(tokenizer, f"cannot be rendered: {error}") from error
        try:
            prompt, whole = _render(tokenizer, _turns(f"{system}\n\n{instruction}"))
        except Exception as again:
            raise _unusable(tokenizer, f"cannot be rendered: {again}") from again
    if prompt.count(PLACEHOLDER) != 1:
        raise _unusable(tokenizer, "does not repeat the user's text as it is")
    return ChatPrompt(_without_bos(tokenizer, prompt), _end_id(tokenizer, whole.rpartition(_ANSWER)[2]))


def _turns(user: str, system: str = "") -> list[dict[str, str]]:
    first = [{"role": "system", "content": system}] if system else []
    return [*first, {"role": "user", "content": user}]


def _render(tokenizer: Any, turns: list[dict[str, str]]) -> tuple[str, str]:
    """The prompt, and the whole chat with an answer in it."""
    settings = {"tokenize": False, "enable_thinking": False, "date_string": _DATE, "strftime_now": _date}
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, **settings)
    whole = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": _ANSWER}], **settings)
    return str(prompt), str(whole)


def _date(_form: str) -> str:
    return _DATE


def _without_bos(tokenizer: Any, prompt: str) -> str:
    """`prompt` without the BOS token that the tokenizer puts in front of every text: it must not stand there twice."""
    adds_bos = tokenizer("a").input_ids[:1] == [tokenizer.bos_token_id]
    return prompt.removeprefix(tokenizer.bos_token) if adds_bos else prompt


def _end_id(tokenizer: Any, behind: str) -> int:
    """The first control token behind the answer; the tokenizer's EOS where the chat template writes none."""
    control = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    ids = tokenizer(behind, add_special_tokens=False).input_ids
    return int(next((token for token in ids if token in control), tokenizer.eos_token_id))


def _unusable(tokenizer: Any, why: str) -> ModelError:
    return ModelError(
        f"the chat template of {tokenizer.name_or_path} {' '.join(why.split())}",
        "set data.format: template, and data.template to the prompt that the model should see",
    )
