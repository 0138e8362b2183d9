"""The base model's summaries of the test dialogues, made at the end of a training job: the GPU is there, and paid for.

They are what an endpoint of the base model would answer, because its code answers (inference.py): the same weights,
not quantized, and the same parameters. So `evaluate` needs no endpoint for them. The base model is asked in its own
chat format, if it has one: a prompt that it never saw would make the trained model look better than it is.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import inference
from answering import answer_each
from engine.arguments import Folders
from generation.request import RequestError
from gpu import serving_dtype
from shared.events import BaseEvent, ProgressEvent
from shared.names import BASE_AS_TRAINED, BASE_SECONDS, BASE_SUMMARIES_FILE, MAX_SECONDS, SM_CHANNEL_BASE, TEST_FILE
from shared.records import BaseSummaries, DatasetFacts, HeldOutExample, base_summaries_text, from_json
from shared.requests import fill_template

if TYPE_CHECKING:
    import torch

    from engine.stopping import StopSignal

_log = logging.getLogger(__name__)
_AT_ONCE = {"cpu": 16, "cuda": 512}
"""Dialogues that are under way, of which a GPU generates as many together as fit into its memory. The time is looked at
before every token, and they are lost then."""
_SPARE = 0.9  # of the job's time: the upload and the platform need some


def summarise_with_base(
    base: Path,
    folders: Folders,
    dataset: DatasetFacts,
    generation: Mapping[str, float],
    stop: "StopSignal",
    elapsed: float,
    device: "torch.device",
    tell: Callable[[ProgressEvent], object],
) -> BaseEvent | None:
    """Let the base model summarise the test dialogues, in order, and write base_summaries.json into the artifact.

    It takes at most LORASUM_BASE_SECONDS, and ends at once on SIGTERM. What fails here is told in the event, and does
    not fail the job, whose artifact is whole. What an earlier job has had it say is taken instead, where that is given.

    Args:
        base: folder of the unquantized base model.
        generation: max_new_tokens and temperature.
        elapsed: seconds that the job has taken.
        tell: called with how far the work is.

    Returns:
        None where it is not asked.

    Raises:
        SystemExit: SIGTERM came. What was summarised until then is kept.
    """
    _take_given(folders.model)
    began, allowed = time.monotonic(), _allowed_seconds(os.environ, elapsed)
    if allowed is None:
        return None
    template = dataset.base_prompt(os.environ.get(BASE_AS_TRAINED) == "1")
    examples = [from_json(HeldOutExample, line) for line in (folders.dataset / TEST_FILE).read_bytes().splitlines()]
    prompts = [fill_template(template, example.dialogue, dataset.control_tokens) for example in examples]
    over = partial(_why_over, stop, began, allowed)
    with stop.deferred():
        summaries, why = _summaries(base, device, prompts, generation, over, tell)
        if summaries:
            _write(folders.model / BASE_SUMMARIES_FILE, BaseSummaries(dict(generation), tuple(summaries), template))
    return BaseEvent(len(summaries), len(prompts), time.monotonic() - began, " ".join(why.split()))


def _take_given(model: Path) -> None:
    """Copy the summaries that an earlier job has left, if the job was given them."""
    if given := os.environ.get(SM_CHANNEL_BASE):
        try:
            content = (Path(given) / BASE_SUMMARIES_FILE).read_bytes()
            _write(model / BASE_SUMMARIES_FILE, from_json(BaseSummaries, content))
        except (OSError, ValueError):  # the artifact is whole without them
            _log.exception("the base model's summaries cannot be taken from an earlier job")


def _allowed_seconds(environ: Mapping[str, str], elapsed: float) -> float | None:
    """Seconds that the summaries may take; 0 near the end of the job's time. None if they are not asked for."""
    asked = float(environ.get(BASE_SECONDS) or 0)
    if not asked:
        return None
    limit = float(environ.get(MAX_SECONDS) or "inf")
    return asked if elapsed + asked < limit * _SPARE else 0.0


def _why_over(stop: "StopSignal", began: float, allowed: float) -> str:
    """Why the work that began then has to end now; empty while it may go on."""
    if stop.received:
        return "SIGTERM came"
    if time.monotonic() - began < allowed:
        return ""
    return f"the {allowed:.0f} s were over" if allowed else "the job is near the end of its time"


def _too_large(base: Path, device: "torch.device") -> str:
    """Says that the base model finds no memory; empty if it does."""
    from engine.memory import free_bytes
    from engine.verify import bytes_to_load, let_go, stored_dtype

    let_go(device)
    needed = bytes_to_load(base, serving_dtype(device, stored_dtype(base)))
    return f"it takes {needed / 1e9:.1f} GB of memory" if needed > free_bytes(device) else ""


def _summaries(
    base: Path,
    device: "torch.device",
    prompts: list[str],
    generation: Mapping[str, float],
    over: Callable[[], str],
    tell: Callable[[ProgressEvent], object],
) -> tuple[list[str], str]:
    """The summaries of the first prompts, and why the others have none; empty if all have one.

    Args:
        over: why the work has to end now; empty while it may go on.
    """
    done: dict[int, str] = {}

    def answered(place: int, answer: str | RequestError) -> None:
        done[place] = "" if isinstance(answer, RequestError) else answer  # as in `evaluate`
        if len(done) * 100 // len(prompts) > (len(done) - 1) * 100 // len(prompts):  # the log has a line for each
            tell(ProgressEvent("base model summaries", len(done), len(prompts)))

    why = ""
    try:
        if why := over() or _too_large(base, device):
            return [], why
        served = inference.model_fn(str(base))
        answer_each(enumerate(prompts), served, generation, answered, lambda: bool(over()), _AT_ONCE[device.type])
    except inference.AbandonedError:
        why = over()
    except Exception as error:  # whatever it is, the artifact is whole, and the event says so
        _log.exception("the base model did not summarise the test dialogues")
        why = f"{type(error).__name__}: {error}"
    return [done[place] for place in takewhile(done.__contains__, count())], why


def _write(path: Path, summaries: BaseSummaries) -> None:
    half_made = path.with_suffix(".part")
    half_made.write_text(base_summaries_text(summaries), encoding="utf-8")
    half_made.replace(path)
