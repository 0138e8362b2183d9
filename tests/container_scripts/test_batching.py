"""How the prompts of a request are divided into batches, and that no answer depends on it."""

import functools
import json
import os
import random
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from forks import Zygote
from transformers import AutoModelForCausalLM, AutoTokenizer

import inference
from generation import batch_memory, scheduling
from generation.batching_rules import Sharing
from generation.prefix_cache import Prefix
from generation.request import Request, RequestError
from generation.rows import AbandonedError, Batch, BrokenModelError, Row, TooLargeError
from generation.scheduling import Scheduler, complete, fill
from gpu import LOST, GpuLostError
from shared.records import ArtifactRecord, from_json


@pytest.fixture
def served(tiny_model_dir: Path) -> inference.Served:
    served = inference.model_fn(str(tiny_model_dir))
    served.model.float()
    return served


def request(*prompts: str, new_tokens: int = 6) -> Request:
    asked = {"inputs": prompts, "parameters": {"max_new_tokens": new_tokens}}
    return inference.input_fn(json.dumps(asked), "application/json")


def ask(served: inference.Served, prompts: list[str], new_tokens: int = 6) -> list[str]:
    asked = request(*prompts, new_tokens=new_tokens)
    return [answer["generated_text"] for answer in inference.predict_fn(asked, served)]


@pytest.mark.parametrize("seed", range(8))
def test_no_more_prompts_are_generated_together_than_fit(
    seed: int, served: inference.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(seed)
    lengths = [draw.randrange(1, 60) for _ in range(draw.randrange(1, 20))]
    free = draw.randrange(1, 2**22)
    monkeypatch.setattr(batch_memory, "batch_room", lambda device: free)
    generate, batches = served.model.generate, []

    def watched(**given: Any) -> Any:
        batches.append(given["attention_mask"].sum(1).tolist())
        return generate(**given)

    monkeypatch.setattr(served.model, "generate", watched)
    answers = complete(served.generator, [[7] * length for length in lengths], 3, lambda: False, do_sample=False)
    assert len(answers) == len(lengths)
    for batch in batches:
        row = batch_memory.row_bytes(max(batch), 0, served.model, served.generator.sharing)
        assert len(batch) == 1 or len(batch) * row <= free


def test_prompts_share_no_batch_where_that_would_change_answers() -> None:
    """This is so beyond the limit of Phi-3's longrope, and at any length where a model's state reads the padding."""
    sharing = Sharing(cache=True, rows=True, pieces=True, joins=True, longest=1000, token_bytes=1, state_bytes=0)
    assert (sharing.allows_rows(1000), sharing.allows_rows(1001)) == (True, False)
    assert (sharing.allows_pieces(1000), sharing.allows_pieces(1001)) == (True, False)
    state = Sharing(cache=True, rows=False, pieces=False, joins=False, longest=None, token_bytes=0, state_bytes=9)
    assert not state.allows_rows(1)
    assert not state.allows_pieces(1)


def test_a_prompt_that_memory_has_no_room_for_is_refused_alone(
    served: inference.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BLOOM sets its texts no limit. A kernel of Linux would end the process, and with it everybody's request."""
    short, long = "Mia: climbing tonight?", "Mia: climbing tonight? " * 200
    expected = ask(served, [short])
    room = batch_memory.row_bytes(500, 6, served.model, served.generator.sharing)
    monkeypatch.setattr(batch_memory, "free_memory", lambda device: room)
    rows = [inference.rows_of(request(text), served, lambda: False)[0] for text in (long, short)]
    fill(served.generator, rows)
    assert isinstance(rows[0].error, TooLargeError)
    assert inference.answers_of(rows[1:], served)[0]["generated_text"] == expected[0]


def test_an_answer_does_not_depend_on_the_batches(served: inference.Served, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ["Mia: climbing tonight? " * count for count in (9, 1, 30, 2, 17)]
    together = ask(served, prompts)
    monkeypatch.setattr(batch_memory, "batch_room", lambda device: 0)
    assert ask(served, prompts) == together


def test_prompts_are_read_with_others_of_about_their_length(
    served: inference.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [[5 + length] * length for length in (3, 60, 4, 30, 5, 31, 2)]
    generator, generate, read = served.generator, served.model.generate, []
    alone = [complete(generator, [ids], 4, lambda: False, do_sample=False)[0] for ids in prompts]

    def watched(**given: Any) -> Any:
        if given["past_key_values"].get_seq_length() == 0:
            read.append(tuple(given["input_ids"].shape))
        return generate(**given)

    monkeypatch.setattr(served.model, "generate", watched)
    monkeypatch.setitem(batch_memory._PASS, "cpu", 64)
    assert complete(generator, prompts, 4, lambda: False, do_sample=False) == alone
    assert read == [(4, 5), (2, 31), (1, 60)]


@pytest.fixture
def remembering(tiny_model_dir: Path) -> inference.Served:
    """A model of which every token depends on those before it."""
    seed, causal = torch.Generator().manual_seed(0), AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    for weight in causal.parameters():
        if weight.dim() == 2:
            weight.data.normal_(0, 0.3, generator=seed)
    return inference.serve(
        causal.float().eval(), AutoTokenizer.from_pretrained(tiny_model_dir), from_json(ArtifactRecord, "{}")
    )


def test_what_prompts_begin_with_alike_is_read_once(
    remembering: inference.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts of several lengths, read in four passes. The last one begins in another way."""
    generator, draw = remembering.generator, random.Random(2)
    header = [draw.randrange(4, 500) for _ in range(20)]
    prompts = [[*header, *(draw.randrange(4, 500) for _ in range(more))] for more in (0, 1, 5, 6, 10, 30, 31)]
    prompts.append([7] * 60)
    alone = [complete(generator, [ids], 9, lambda: False, do_sample=False)[0] for ids in prompts]
    read, forward = [], remembering.model.forward

    @functools.wraps(forward)
    def watched(**given: Any) -> Any:
        if given["input_ids"].shape[1] > 1:
            read.append(tuple(given["input_ids"].shape))
        return forward(**given)

    monkeypatch.setattr(remembering.model, "forward", watched)
    monkeypatch.setattr(batch_memory, "_PASS", {"cpu": 102})
    assert complete(generator, prompts, 9, lambda: False, do_sample=False) == alone
    assert len({tuple(ids) for ids in alone}) == len(alone), "the prompts have answers of their own"
    assert read == [(3, 25), (2, 30 - 20), (2, 51 - 20), (1, 60)]


def test_no_adapter_is_given_what_another_one_has_read(remembering: inference.Served) -> None:
    ids = torch.arange(4, 24)[None]
    cache = remembering.model(input_ids=ids, use_cache=True).past_key_values
    first, other = (
        Batch([Row(ids[0].tolist(), 1, {}, lambda: False, adapter=name)], ids, torch.ones_like(ids))
        for name in ("a", "b")
    )
    first.cache = cache
    prefix = Prefix.of(first)
    assert prefix
    assert prefix.cache(first, remembering.model).get_seq_length() == 19
    assert prefix.cache(other, remembering.model) is None


def test_a_prompt_joins_others_between_two_tokens_and_no_answer_changes(
    remembering: inference.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts of several lengths come, one after every second token, and end at different times."""
    served, generator = remembering, remembering.generator
    draw = random.Random(1)
    prompts = [[draw.randrange(4, 500) for _ in range(draw.randrange(1, 40))] for _ in range(12)]
    limits = [draw.randrange(1, 20) for _ in prompts]
    alone = [
        complete(generator, [ids], most, lambda: False, do_sample=False)[0]
        for ids, most in zip(prompts, limits, strict=True)
    ]
    rows = [Row(ids, most, {"do_sample": False}, lambda: False) for ids, most in zip(prompts, limits, strict=True)]
    scheduler, late, tokens, sizes = Scheduler(generator), iter(rows[2:]), 0, []
    generate = served.model.generate

    def arriving(_row: Row) -> None:
        nonlocal tokens
        tokens += 1
        scheduler.add([row for row in [next(late, None)] if row] if tokens % 2 else [])

    def watched(**given: Any) -> Any:
        sizes.append(len(given["input_ids"]))
        return generate(**given)

    monkeypatch.setattr(served.model, "generate", watched)
    for row in rows:
        row.told = arriving
    scheduler.add(rows[:2])
    scheduler.run()
    assert [row.completion for row in rows] == alone
    assert max(sizes) > 3, "they were generated together"
    assert len({token for ids in alone for token in ids}) > 20


def test_a_prompt_that_fails_takes_no_other_answer_with_it(
    served: inference.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first token breaks the model, whatever else is in the batch."""
    generate = served.model.generate

    def fragile(**given: Any) -> Any:
        if (given["input_ids"] == 499).any():
            raise BrokenModelError(torch.float16)
        return generate(**given)

    monkeypatch.setattr(served.model, "generate", fragile)
    rows = [Row([number, 5, 9], 4, {"do_sample": False}, lambda: False) for number in (20, 499, 30)]
    scheduler = Scheduler(served.generator)
    scheduler.add(rows)
    scheduler.run()
    assert [row.finish for row in rows] == ["length", None, "length"]
    assert isinstance(rows[1].error, BrokenModelError)


def test_prompts_that_are_sampled_in_other_ways_keep_their_order(served: inference.Served) -> None:
    order: list[int] = []
    ways: list[dict[str, Any]] = [{"do_sample": False}, {"do_sample": True}, {"do_sample": False}]
    rows = [Row([7 + place], 5 - place, way, lambda: False) for place, way in enumerate(ways)]
    for place, row in enumerate(rows):
        row.told = lambda row, place=place: order.append(place) if row.is_done else None  # type: ignore[misc]
    scheduler = Scheduler(served.generator)
    scheduler.add(rows)
    scheduler.run()
    assert order == [0, 1, 2]


def test_an_answer_does_not_depend_on_the_pieces(served: inference.Served, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = ["Ana: the printer is eating paper again " * count for count in (7, 1, 12)]
    whole = ask(served, prompts)
    monkeypatch.setattr(scheduling, "PIECE", 16)
    assert ask(served, prompts) == whole


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_batch_that_does_not_fit_after_all_is_halved(
    error: RuntimeError, served: inference.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [f"Leo: dinner at {hour}?" for hour in range(9)]
    whole = ask(served, prompts)
    generate, sizes = served.model.generate, []

    def small_gpu(**given: Any) -> Any:
        sizes.append(len(given["input_ids"]))
        if sizes[-1] > 2:
            raise error
        return generate(**given)

    monkeypatch.setattr(served.model, "generate", small_gpu)
    assert ask(served, prompts) == whole
    assert max(sizes) == 9
    monkeypatch.setattr(served.model, "generate", lambda **given: small_gpu(input_ids=[0] * 9))
    with pytest.raises(RequestError, match=r"prompt \d does not fit in memory"):
        ask(served, prompts)


@pytest.mark.parametrize("step", ["joined", "unfinished"])
def test_memory_may_run_out_while_rows_are_put_together(
    step: str, served: inference.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch of three finds no room. When the GPU's memory is given back, nothing of it is held any more."""
    asked = [([7 + place] * 4, most) for place, most in enumerate((9, 2, 7, 3, 8, 4))]
    alone = [complete(served.generator, [ids], most, lambda: False, do_sample=False)[0] for ids, most in asked]
    method, failed, held = getattr(Batch, step), [], []

    def small_gpu(batch: Batch, *more: Any) -> Any:
        if len(batch.rows) + (len(more[0][0].rows) if step == "joined" else 0) > 2:
            failed.append(weakref.ref(batch))
            raise torch.cuda.OutOfMemoryError
        return method(batch, *more)

    monkeypatch.setattr(Batch, step, small_gpu)
    monkeypatch.setitem(batch_memory._PASS, "cpu", 8)  # two of these prompts
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.append(failed[-1]() is not None))
    rows = [Row(ids, most, {"do_sample": False}, lambda: False) for ids, most in asked]
    fill(served.generator, rows)
    assert [row.completion for row in rows] == alone
    assert held == [False] * len(failed)
    assert failed


def test_a_lost_gpu_ends_the_process_that_nobody_else_would_end(
    served: inference.Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SageMaker's server starts it anew. Other callers are told: a batch job leaves the reason of its failure."""

    def assertion(**_: Any) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later")

    monkeypatch.setattr(served.model, "generate", assertion)
    monkeypatch.setattr(scheduling, "is_lost", lambda device: True)
    monkeypatch.setattr(os, "_exit", sys.exit)
    prompts = ["Zoe: my parcel never arrived", "Ben: when?"]
    with pytest.raises(SystemExit) as ended:
        ask(served, prompts)
    assert ended.value.code == LOST
    work = inference.scheduler(served)
    work.add(inference.rows_of(request(*prompts), served, lambda: False))
    with pytest.raises(GpuLostError, match=r"nothing more: CUDA error: device-side assert triggered$"):
        inference.run(work)


def test_generating_ends_when_nobody_waits(served: inference.Served) -> None:
    asked: list[int] = []

    def nobody_waits() -> bool:
        asked.append(1)
        return len(asked) > 3

    [row] = inference.rows_of(request("Zoe: my parcel never arrived", new_tokens=500), served, nobody_waits)
    work = inference.scheduler(served)
    work.add([row])
    inference.run(work)
    assert isinstance(row.error, AbandonedError)
    assert len(asked) == 4, "it was asked before every token"


def test_generating_ends_at_the_services_deadline(served: inference.Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_ANSWER_WITHIN", -1.0)
    with pytest.raises(AbandonedError):
        ask(served, ["Zoe: my parcel never arrived"], new_tokens=500)


MEASURE = """
import json, resource, sys, torch, inference
torch.set_num_threads(1)
served = inference.model_fn(sys.argv[1])
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def ask(prompts):
    data = inference.input_fn(json.dumps({"inputs": prompts, "parameters": {"max_new_tokens": 1}}), "application/json")
    return inference.predict_fn(data, served)
from generation import batch_memory
batch_memory.batch_room = lambda device: 100_000_000
ask(["hi"])
before = peak()
ask(["chalk " * 700] * 12)
ids = served.tokenizer("chalk " * 700)["input_ids"]
print(json.dumps([peak() - before, len(ids)]))
"""


def test_a_request_of_long_prompts_takes_the_memory_that_was_estimated(
    tiny_model_dir: Path, trainings: Zygote, tmp_path: Path
) -> None:
    """In a process of its own, whose peak no other test has made."""
    script = tmp_path / "measure.py"
    script.write_text(MEASURE)
    ended = trainings.start([str(tiny_model_dir)], {}, {}, str(script)).wait()
    grown, length = json.loads(ended.stdout)
    assert 12 * 4 * length * length * 16 > 900_000_000, "as one batch in one pass, the scores alone took that"
    assert grown < 200_000_000
