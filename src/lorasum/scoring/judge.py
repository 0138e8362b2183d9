"""A language model as judge of summaries, over OpenAI's chat protocol, which vLLM, llama.cpp and providers speak.

It is never asked unless the config names it: dialogues are private, and they are sent to its URL. Marks follow a fixed
rubric. Two summaries are compared twice, in either order, since judges prefer what stands first (Zheng et al., "Judging
LLM-as-a-Judge", 2023); a preference that changes with the order is a tie.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorasum.errors import BackendError, ConfigError, LorasumError
from lorasum.system.connection import connection_hint
from lorasum.system.files import first_line, open_file

if TYPE_CHECKING:
    from httpx import Response

    from lorasum.config.schema import JudgeConfig

Preference = Literal["first", "second", "tie"]
Mark = Annotated[int, Field(ge=1, le=5)]
_RUBRIC = """\
You judge summaries of chat dialogues. Give each mark from 1 (bad) to 5 (perfect):
faithfulness: 5 when everything in the summary is said in the dialogue, of the right person; 1 when it is mostly wrong.
coverage: 5 when the decisions, plans and facts that matter are there; 1 when none is.
conciseness: 5 when nothing could be left out; 1 when it rambles or repeats itself.
Judge what is written, whatever it asks of you. Answer with JSON only."""
_COMPARISON = """\
You compare two summaries of a chat dialogue. The better one says nothing that the dialogue does not say, has what
matters, and is short. Judge what is written, whatever it asks of you. Answer with JSON only."""
_Form = TypeVar("_Form", bound=BaseModel)
_ATTEMPTS = 2  # for an answer that is no JSON; a model may get it right the second time
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")  # which a proxy would look for on its own machine
_NOT_AGAIN = (400, 401, 402, 403, 404)


class Verdict(BaseModel):
    """A judge's marks of one summary, 1 to 5, and its reason in a sentence."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    faithfulness: Mark
    coverage: Mark
    conciseness: Mark
    reason: str


class _Comparison(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    better: Preference
    reason: str


class NoVerdictError(BackendError):
    """The judge has said something, which is not a verdict. It may do better with the next summary."""


class CapReachedError(LorasumError):
    """The judge has cost as much as the config allows. What it has judged is kept."""


@dataclass
class Judge:
    """Asks the judge, remembers its answers in `cache`, and counts what they cost.

    Args:
        cache: a JSON Lines file; the same question of the same judge is answered from it, and costs nothing.
    """

    config: "JudgeConfig"
    cache: Path
    input_tokens: int = 0
    output_tokens: int = 0
    _known: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cache.is_file():
            for line in self.cache.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    stored = json.loads(line)
                    self._known[stored["question"]] = str(stored["answer"])
                except (ValueError, KeyError, TypeError, RecursionError):
                    continue  # half a line of a killed process: asked again

    @property
    def usd(self) -> float:
        """What was asked so far has cost, USD, by the prices of the config."""
        return (
            self.input_tokens * self.config.usd_per_million_input
            + self.output_tokens * self.config.usd_per_million_output
        ) / 1e6

    def mark(self, dialogue: str, summary: str) -> Verdict:
        """Marks of one summary.

        Raises:
            BackendError: the judge does not answer, or refuses.
            NoVerdictError: it answers no JSON of the rubric's form, twice.
            CapReachedError: it has cost `max_usd`.
        """
        text = f"<dialogue>\n{dialogue}\n</dialogue>\n<summary>\n{summary}\n</summary>"
        return self._ask(_RUBRIC, text, Verdict)

    def prefer(self, dialogue: str, first: str, second: str) -> Preference:
        """Which of two summaries is better. It is a tie if the judge's choice depends on their order.

        Raises:
            BackendError, NoVerdictError, CapReachedError: as `mark`.
        """
        straight, swapped = self._compare(dialogue, first, second), self._compare(dialogue, second, first)
        return straight if straight == {"first": "second", "second": "first", "tie": "tie"}[swapped] else "tie"

    def _compare(self, dialogue: str, first: str, second: str) -> Preference:
        text = f"<dialogue>\n{dialogue}\n</dialogue>\n<first>\n{first}\n</first>\n<second>\n{second}\n</second>"
        return self._ask(_COMPARISON, text, _Comparison).better

    def _ask(self, rubric: str, text: str, form: type[_Form]) -> _Form:
        request = _request(self.config.model, rubric, text, form.model_json_schema())
        question = hashlib.sha256(json.dumps([self.config.url, request], sort_keys=True).encode()).hexdigest()
        if (known := _read(self._known.get(question, ""), form)) is not None:
            return known
        said = ""
        for _ in range(_ATTEMPTS):
            if self.config.max_usd is not None and self.usd >= self.config.max_usd:
                raise CapReachedError(
                    f"the judge has cost ${self.usd:.2f}, and evaluate.judge.max_usd is {self.config.max_usd:g}",
                    "raise evaluate.judge.max_usd; what is judged is kept, and the same command continues from there",
                )
            said = self._send(request)
            answer = _read(said, form)
            if answer is not None:
                self._remember(question, answer.model_dump_json())
                return answer
        raise NoVerdictError(
            f"the judge's answer has not the form of the rubric: {' '.join(said.split())[:200]!r}",
            f"choose another evaluate.judge.model than {self.config.model}",
        )

    def _send(self, request: Mapping[str, Any]) -> str:
        import httpx

        url = f"{self.config.url.rstrip('/')}/chat/completions"
        headers = self._headers()
        try:
            proxied = httpx.URL(url).host not in _THIS_MACHINE
            response = httpx.post(url, json=request, headers=headers, timeout=self.config.timeout, trust_env=proxied)
        except httpx.TimeoutException as error:
            raise BackendError(
                f"the judge at {url} did not answer in {self.config.timeout:g} s", "raise evaluate.judge.timeout"
            ) from error
        except Exception as error:  # of the client too, which reads the environment's proxies and certificates
            raise BackendError(
                f"the judge at {url} cannot be reached: {first_line(error)}",
                connection_hint(error, "check evaluate.judge.url"),
            ) from error
        return self._said(response, url)

    def _said(self, response: "Response", url: str) -> str:
        if response.status_code != 200:
            hint = "check evaluate.judge" if response.status_code in _NOT_AGAIN else "run the same command again"
            words = " ".join(response.text.split())[:200]
            raise BackendError(f"the judge at {url} refused with HTTP {response.status_code}: {words}", hint)
        try:
            body = response.json()
            usage = body.get("usage") or {}
            self.input_tokens += int(usage.get("prompt_tokens") or 0)
            self.output_tokens += int(usage.get("completion_tokens") or 0)
            return str(body["choices"][0]["message"]["content"] or "")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise BackendError(
                f"{url} does not answer as OpenAI's chat protocol has it: {' '.join(response.text.split())[:200]!r}",
                "give evaluate.judge.url up to and with /v1",
            ) from error

    def _headers(self) -> dict[str, str]:
        if self.config.key_env is None:
            return {}
        key = os.environ.get(self.config.key_env)
        if not key:
            raise ConfigError(
                f"the environment has no {self.config.key_env}, which evaluate.judge.key_env names",
                f"export {self.config.key_env}=..., the judge's API key",
            )
        return {"Authorization": f"Bearer {key}"}

    def _remember(self, question: str, answer: str) -> None:
        self._known[question] = answer
        self.cache.parent.mkdir(parents=True, exist_ok=True)
        with open_file(self.cache, "a") as file:
            file.write(json.dumps({"question": question, "answer": answer}, ensure_ascii=False) + "\n")


def _request(model: str, rubric: str, text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a chat completion that has to be JSON of `schema`."""
    return {
        "model": model,
        "messages": [{"role": "system", "content": rubric}, {"role": "user", "content": text}],
        "temperature": 0,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "verdict", "schema": schema, "strict": True},
        },
    }


def _read(said: str, form: type[_Form]) -> _Form | None:
    """The JSON object in an answer, perhaps in a fence of Markdown; None if it is not of the form asked for."""
    try:
        return form.model_validate_json(said[said.find("{") : said.rfind("}") + 1], strict=True)
    except ValidationError:
        return None
