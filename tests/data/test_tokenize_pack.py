"""Whole examples, exact boundaries, full packs; nothing is lost and nothing depends on chance."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_backend import RecordingReporter

from lorasum.config.data import DataConfig
from lorasum.data import tokenize_pack
from lorasum.data.findings import Findings, noting_changes
from lorasum.data.records import Example
from lorasum.data.tally import Tally
from lorasum.data.telling import tell
from lorasum.data.tokenize_pack import (
    best_fit,
    changed_word,
    fit,
    packs,
    refuse_too_long,
    shorten,
    text_batches,
    tokenize,
)
from lorasum.errors import DataError
from lorasum.models.prompt import DEFAULT_TEMPLATE, Prompt, template_prompt
from lorasum.shared.requests import fill_template

REAL_DIALOGUES = Path(__file__).parents[3] / "shared" / "data" / "dialogsum.dev.jsonl"

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).map(str.strip).filter(bool)
chats = st.lists(st.builds(Example, dialogue=texts, summary=texts), min_size=1, max_size=30)


@pytest.fixture(scope="session", params=["plain", "bos and eos"])
def tokenizer(request: pytest.FixtureRequest, tiny_tokenizer_dir: Path) -> Any:
    """The tiny tokenizer; and one that puts its own tokens around every text, as Llama's and T5's do."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
    if request.param == "bos and eos":
        special = [("<s>", tokenizer.bos_token_id), ("</s>", tokenizer.eos_token_id)]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<s> $A </s>", special_tokens=special)
    return tokenizer


def config(max_length: int, too_long: str = "error") -> DataConfig:
    files = {"train": "train.jsonl", "test": "test.jsonl"}
    return DataConfig.model_validate({**files, "max_length": max_length, "too_long": too_long})


def raw(tokenizer: Any, template: str = DEFAULT_TEMPLATE) -> Prompt:
    return template_prompt(tokenizer, template)


def numbered(examples: list[Example]) -> list[tuple[str, Example]]:
    return [(f"t.jsonl:{number}", example) for number, example in enumerate(examples, 1)]


@given(st.lists(st.integers(1, 100), max_size=200), st.integers(100, 130))
def test_every_length_stands_in_exactly_one_pack_that_it_fits(lengths: list[int], max_length: int) -> None:
    packed = best_fit(lengths, max_length)
    assert sorted(index for pack in packed for index in pack) == list(range(len(lengths)))
    assert all(pack == sorted(pack) for pack in packed)
    assert packed == sorted(packed)
    filled = [sum(lengths[index] for index in pack) for pack in packed]
    assert all(tokens <= max_length for tokens in filled)
    assert sum(tokens <= max_length / 2 for tokens in filled) <= 1, "two of them would have fit into one"


@settings(max_examples=60)
@given(examples=chats, window=st.integers(1, 40))
def test_packed_examples_decode_to_their_prompt_and_their_summary(
    tokenizer: Any, examples: list[Example], window: int
) -> None:
    kept = list(fit(numbered(examples), tokenizer, raw(tokenizer), config(1000), Tally()))
    packed = list(packs((tokens for _, _, tokens in kept), 1000, window))
    assert packed == list(packs((tokens for _, _, tokens in kept), 1000, window))
    source_order = {id(tokens): index for index, (_, _, tokens) in enumerate(kept)}
    assert sorted(source_order[id(tokens)] for pack in packed for tokens in pack) == list(range(len(examples)))
    for pack in packed:
        order = [source_order[id(tokens)] for tokens in pack]
        assert order == sorted(order)
        assert sum(len(tokens.ids) for tokens in pack) <= 1000
        for index, tokens in zip(order, pack, strict=True):
            prompt, completion = tokens.ids[: tokens.prompt_length], tokens.ids[tokens.prompt_length :]
            text = tokenizer.decode(list(prompt)).removeprefix("<s>")
            assert text == fill_template(DEFAULT_TEMPLATE, examples[index].dialogue)
            assert tokenizer.decode(list(completion)) == examples[index].summary + "</s>"


@given(example=st.builds(Example, dialogue=texts, summary=texts))
@settings(max_examples=30)
def test_prompt_is_token_for_token_the_one_at_inference(tokenizer: Any, example: Example) -> None:
    [tokens] = tokenize(tokenizer, raw(tokenizer), [example])
    at_inference = tokenizer(fill_template(DEFAULT_TEMPLATE, example.dialogue))["input_ids"]
    if at_inference[-1] == tokenizer.eos_token_id:
        at_inference.pop()
    assert list(tokens.ids[: tokens.prompt_length]) == at_inference
    assert list(tokens.ids).count(tokenizer.eos_token_id) == 1


@settings(max_examples=60)
@given(
    dialogue=st.text("abc 😀é\n", min_size=20, max_size=300).map(str.strip).filter(bool),
    template=st.sampled_from([DEFAULT_TEMPLATE, "{dialogue}\nTL;DR:", "Chat: {dialogue}"]),
    room=st.integers(1, 120),
)
def test_shortened_dialogue_is_the_longest_suffix_that_fits(
    tokenizer: Any, dialogue: str, template: str, room: int
) -> None:
    example = Example(dialogue, "They talk.")
    [empty] = tokenize(tokenizer, raw(tokenizer, template), [Example("", example.summary)])
    limit = len(empty.ids) + room
    [whole] = tokenize(tokenizer, raw(tokenizer, template), [example])
    shorter = shorten(tokenizer, raw(tokenizer, template), example, limit)
    if shorter is None:
        assert room < 8  # a first character may take several tokens
        return
    assert dialogue.endswith(shorter.dialogue)
    assert shorter.summary == example.summary
    [tokens] = tokenize(tokenizer, raw(tokenizer, template), [shorter])
    assert len(tokens.ids) <= limit
    if len(whole.ids) <= limit:
        assert shorter == example
    else:
        rest = dialogue.removesuffix(shorter.dialogue).rstrip()
        [longer] = tokenize(
            tokenizer, raw(tokenizer, template), [Example(rest[-4:] + shorter.dialogue, example.summary)]
        )
        assert len(longer.ids) > limit - 8, "much more than needed was cut"


def test_words_that_a_tokenizer_cannot_give_back_are_found(tiny_tokenizer: Any) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordPiece({"<unk>": 0, "ana": 1, "says": 2, "1/2": 3, "hi": 4}, unk_token="<unk>"))
    words.normalizer, words.pre_tokenizer = normalizers.NFKC(), pre_tokenizers.WhitespaceSplit()
    words.decoder = decoders.WordPiece(cleanup=False)
    poor = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")
    assert changed_word(poor, "ana says\u00a0 hi\nana") is None
    assert changed_word(poor, "ana says 日本") == ("日本", "<unk>")
    findings, told = Findings(), RecordingReporter()
    chats = [Example("ana says hi", "hi"), Example("ana", "日本"), Example("日本 hi", "hi ana")]
    list(noting_changes([(f"t:{n}", one) for n, one in enumerate(chats, 1)], poor, Prompt("{dialogue}", 0), findings))
    tell({}, findings, config(9), Path("rejected.jsonl"), told)
    [warning] = told.warnings
    assert "changes words in 2 rows, of the first 200 of each split: '日本' in t:2 becomes '<unk>'" in warning
    words.normalizer = normalizers.Lowercase()
    assert changed_word(PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>"), "hi Ana") == ("Ana", "ana")
    assert changed_word(tiny_tokenizer, "Ana: 日本 😀\r\n\n  <unk> n\u0303 …") is None


def test_too_long_examples_are_one_error_over_all_splits(tiny_tokenizer: Any) -> None:
    prompt, tallies = raw(tiny_tokenizer), (Tally("train"), Tally("test"))
    splits = [Example("A: hi", "S"), Example("x" * 200, "S")], [Example("y" * 300, "S")]
    for tally, examples in zip(tallies, splits, strict=True):
        kept = [one for _, one, _ in fit(numbered(examples), tiny_tokenizer, prompt, config(100), tally)]
        assert kept == [one for one in examples if len(one.dialogue) < 100]
    with pytest.raises(DataError) as caught:
        refuse_too_long(tallies, config(100), None)
    longest = len(tokenize(tiny_tokenizer, prompt, splits[1])[0].ids)
    assert caught.value.message.startswith("t.jsonl:2: ")
    assert f"(and 1 more; the longest has {longest})" in caught.value.message
    assert caught.value.hint == f"raise data.max_length to {longest}, or set data.too_long to truncate_dialogue or drop"
    with pytest.raises(DataError) as caught:
        refuse_too_long(tallies, config(100), longest - 1)
    assert caught.value.hint == "set data.too_long to truncate_dialogue or drop", "the model reads no more"
    tallies[0].too_long.add("t.jsonl:9", 1_000_000)
    with pytest.raises(DataError) as caught:
        refuse_too_long(tallies, config(100), None)
    assert "1000000" not in caught.value.hint.replace(",", "")
    refuse_too_long([Tally()], config(100), None)


class PanicException(BaseException):
    """Named and derived as that of PyO3."""


def test_a_panic_of_the_tokenizer_names_the_row(tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tokenize_pack.tokenize

    def panicking(tokenizer: Any, prompt: Any, examples: Any) -> Any:
        if any("boom" in example.dialogue for example in examples):
            raise PanicException("called `Option::unwrap()` on a `None` value")
        return real(tokenizer, prompt, examples)

    monkeypatch.setattr(tokenize_pack, "tokenize", panicking)
    examples = [Example(text, "S") for text in ("A: hi", "boom", "B: yo")]
    with pytest.raises(DataError, match=r"^t\.jsonl:2: the tokenizer cannot read this row \(called"):
        list(fit(numbered(examples), tiny_tokenizer, raw(tiny_tokenizer), config(100), Tally()))


def test_batches_of_monstrous_texts_are_small() -> None:
    examples = [("t", Example("x" * 900_000, "S"))] * 7 + [("t", Example("A: hi", "S"))] * 300
    found = list(text_batches(iter(examples), 128))
    assert [item for batch in found for item in batch] == examples
    assert max(len(batch) for batch in found) == 128
    assert max(sum(len(one.dialogue) for _, one in batch) for batch in found) < 3_000_000


def test_too_long_example_is_dropped_or_cut_on_request(tiny_tokenizer: Any) -> None:
    examples = [Example("A: hi", "S"), Example("x" * 200, "S"), Example("A: hi", "long " * 100), Example("B: yo", "S")]
    dropping = Tally()
    kept = [
        example
        for _, example, _ in fit(
            numbered(examples),
            tiny_tokenizer,
            raw(tiny_tokenizer),
            config(100, "drop"),
            dropping,
        )
    ]
    assert kept == [examples[0], examples[3]]
    assert dropping.dropped == {"too long": 2}
    cutting = Tally()
    fitted = list(
        fit(
            numbered(examples),
            tiny_tokenizer,
            raw(tiny_tokenizer),
            config(100, "truncate_dialogue"),
            cutting,
        )
    )
    assert [example.summary for _, example, _ in fitted] == ["S", "S", "S"]
    assert len(fitted[1][2].ids) == 100
    assert fitted[1][1].dialogue == "x" * len(fitted[1][1].dialogue)
    assert (cutting.cut, cutting.dropped) == (1, {"too long without its dialogue": 1})


@pytest.mark.skipif(not REAL_DIALOGUES.exists(), reason="needs the real dialogues")
def test_packs_of_real_dialogues_are_nearly_full(tiny_tokenizer: Any) -> None:
    rows = [json.loads(line) for line in REAL_DIALOGUES.read_text("utf-8").splitlines()]
    examples = [Example(row["dialogue"], row["summary"]) for row in rows]
    tokens = [
        tokens for _, _, tokens in fit(numbered(examples), tiny_tokenizer, raw(tiny_tokenizer), config(4096), Tally())
    ]
    packed = list(packs(tokens, 4096))
    assert sum(len(t.ids) for t in tokens) / (4096 * len(packed)) > 0.97


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_tokenizer_dir: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_tokenizer_dir)
