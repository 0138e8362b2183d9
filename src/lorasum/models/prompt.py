"""How a model is asked: its own chat format, or a template of the user's.

The chat format of an instruct model is a Jinja template in its tokenizer. It is rendered once, with `{dialogue}` where
the dialogue goes. This makes a prompt template like any other: it travels with the dataset and the artifact, and every
server completes it. An example, of a model that writes its turns in ChatML:

    <|im_start|>system
    You are a helpful assistant<|im_end|>
    <|im_start|>user
    Summarize the chat dialogue:
    {dialogue}<|im_end|>
    <|im_start|>assistant
                             <- the summary is trained here, and <|im_end|> behind it
"""

from dataclasses import dataclass
from typing import Any, Final

from lorasum.errors import ModelError
from lorasum.shared.requests import PLACEHOLDER, fill_template, plain_text, without_bos

DEFAULT_TEMPLATE: Final = "Summarize the chat dialogue:\n{dialogue}\n---\nSummary:\n"
DEFAULT_INSTRUCTION: Final = "Summarize the chat dialogue:\n{dialogue}"
_ANSWER = "lorasum marks the answer here"
_DATE = "26 Jul 2024"  # Llama 3's prompt has a date. With today's date, a dataset would differ each day


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a model is asked, and how its summary ends.

    Attributes:
        template: the prompt, with one `{dialogue}`.
        end_id: token that ends the summary: EOS, or the end of a turn such as `<|im_end|>`.
        control_tokens: texts that the tokenizer reads as control tokens, such as `</s>`, wherever they are.
    """

    template: str
    end_id: int
    control_tokens: tuple[str, ...] = ()

    def fill(self, dialogue: str) -> str:
        """The prompt for one dialogue."""
        return fill_template(self.template, dialogue, self.control_tokens)

    def control_token_in(self, text: str) -> str | None:
        """A control token that `text` contains; None if it contains none."""
        return next((token for token in self.control_tokens if token[0] in text and token in text), None)

    def plain(self, text: str) -> str:
        """`text` with control tokens written so that they are read as text."""
        return plain_text(text, self.control_tokens)


def template_prompt(tokenizer: Any, template: str) -> Prompt:
    """A prompt in the user's own words, whose completion ends with EOS.

    Args:
        tokenizer: of transformers.
    """
    return Prompt(template, int(tokenizer.eos_token_id), control_tokens(tokenizer))


def chat_prompt(tokenizer: Any, instruction: str, system: str = "") -> Prompt:
    """The chat format of `tokenizer`, up to where the assistant's answer begins. Thinking is turned off.

    Args:
        tokenizer: of transformers, with a chat template.
        instruction: the user's turn, with one `{dialogue}`.
        system: the system's turn. If it is empty, the model's own default is used. For a model without system turns
            it is put at the beginning of the user's turn.

    Raises:
        ModelError: the chat template cannot be rendered, or it changes the user's text.
    """
    try:
        first = [{"role": "system", "content": system}] if system else []
        prompt, whole = _render(tokenizer, [*first, {"role": "user", "content": instruction}])
    except Exception as error:  # a template may raise anything
        if not system:
            raise _unusable(tokenizer, f"cannot be rendered: {error}") from error
        return chat_prompt(tokenizer, f"{system}\n\n{instruction}")
    if prompt.count(PLACEHOLDER) != 1:
        raise _unusable(tokenizer, "does not repeat the user's text as it is")
    end_id = _end_id(tokenizer, whole.rpartition(_ANSWER)[2])
    return Prompt(without_bos(tokenizer, prompt), end_id, control_tokens(tokenizer))


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """The texts that `tokenizer` takes for control tokens, such as `</s>`, longest first."""
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return tuple(sorted((special | set(tokenizer.all_special_tokens)) - {""}, key=lambda text: (-len(text), text)))


def _render(tokenizer: Any, turns: list[dict[str, str]]) -> tuple[str, str]:
    """The prompt alone, and the whole chat with an answer."""
    settings = {"tokenize": False, "enable_thinking": False, "date_string": _DATE, "strftime_now": lambda _form: _DATE}
    prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, **settings)
    whole = tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": _ANSWER}], **settings)
    return str(prompt), str(whole)


def _end_id(tokenizer: Any, behind: str) -> int:
    """The first control token after the answer; the tokenizer's EOS if the chat template writes none."""
    control = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    ids = tokenizer(behind, add_special_tokens=False).input_ids
    return int(next((token for token in ids if token in control), tokenizer.eos_token_id))


def _unusable(tokenizer: Any, why: str) -> ModelError:
    return ModelError(
        f"the chat template of {tokenizer.name_or_path} {' '.join(why.split())}",
        "set data.format: template, and data.template to the prompt that the model should see",
    )
