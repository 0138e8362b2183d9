"""prepare: chats to a tokenised, packed dataset. Nothing changed → nothing done."""

import gc
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lorasum import __version__, paths
from lorasum.config.schema import DataConfig
from lorasum.context import RunContext
from lorasum.data import store
from lorasum.data.duplicates import NearDuplicates, Seen, key
from lorasum.data.oddities import Oddities
from lorasum.data.personal import count_personal, redact, unexplained_numbers
from lorasum.data.records import Example, Manifest, SplitStats
from lorasum.data.report import write_report
from lorasum.data.sources import Source, Split, open_sources
from lorasum.data.tokenize_pack import Tokens, batches, fit, packs
from lorasum.data.validate import Rejected, RejectFile, Tally, examples
from lorasum.errors import DataError, LorasumError, ModelError
from lorasum.files import maker_lock, new_folder
from lorasum.model_source import ModelRef, chat_template, load_tokenizer, resolve_model, tokenizer_identity
from lorasum.prompt import Prompt, chat_prompt, template_prompt
from lorasum.reporting import Reporter
from lorasum.resources import Dataset
from lorasum.results import PrepareResult, RenderedExample

_BATCH = 1024  # examples that are looked at together


def prepare(run: RunContext, show: int = 0) -> PrepareResult:
    """Make the run's dataset, or find it made: its folder is named by the fingerprint of all that decides about it.

    Args:
        show: how many training examples to decode from the dataset, for a look at them.

    Raises:
        DataError: a source is missing, empty, or has more unusable rows than `data.max_bad_rows`.
        ModelError: the model or its tokenizer cannot be had.
        LorasumError: the dataset cannot be written. Nothing half-made is left in any of these cases.
    """
    started = time.monotonic()
    config, report = run.config, run.reporter
    oddities = Oddities()
    sources = open_sources(config.data, oddities.say)
    model = resolve_model(config.model, report)
    tokenizer, commit = tokenizer_identity(model)
    identities: dict[str, str] = {split: source.identity() for split, source in sources.items()}
    model_at = replace(model, revision=commit)
    wanted = config.data.chat_format
    chat = None if wanted is False else chat_template(model_at)
    if wanted and chat is None:
        raise ModelError(
            f"the tokenizer of {model.id} has no chat template",
            "set data.format: template, or choose an instruct model",
        )
    decisive = store.settings(identities, tokenizer, config.data, chat)
    fingerprint = store.fingerprint(identities, tokenizer, config.data, chat)
    folder = paths.run_dir(run.name)
    dataset = folder / "data" / fingerprint
    rejects, page = folder / "rejected" / f"{fingerprint}.jsonl", folder / "reports" / f"{fingerprint}.html"

    manifest = store.read_manifest(dataset)
    reused = manifest is not None
    # Recorded again when reused: the newest record is the dataset that `train` takes.
    row = run.ledger.intend(Dataset(run=run.name, name=fingerprint, backend=config.backend, path=str(dataset)))
    try:
        if manifest is None:
            with maker_lock(dataset, lambda: report.step("waiting for another process that prepares this run")):
                manifest = store.read_manifest(dataset)
                if manifest is None:
                    with RejectFile(rejects) as rejected:
                        try:
                            manifest = _make(
                                dataset, model_at, sources, config.data, chat is not None, decisive,
                                rejected, report, oddities,
                            )  # fmt: skip
                        finally:
                            oddities.tell(report)
                    write_report(page, run.name, manifest)
        run.backend.store_dataset(run.name, dataset)
    except BaseException as error:
        with suppress(LorasumError):  # the first error is the one to tell, not that the ledger's disk is full too
            run.ledger.save(replace(row, state="gone", reason=str(error)))
        raise
    run.ledger.save(replace(row, state="done"))
    return PrepareResult(
        run.name,
        str(dataset),
        reused,
        manifest,
        time.monotonic() - started,
        rejected=str(rejects) if rejects.exists() else None,
        report=str(page) if page.exists() else None,
        shown=_rendered(dataset, model, show) if show else (),
    )


def _make(
    dataset: Path,
    model: ModelRef,
    sources: dict[Split, Source],
    data: DataConfig,
    in_chat_format: bool,
    decisive: Mapping[str, Any],
    rejected: RejectFile,
    report: Reporter,
    oddities: Oddities,
) -> Manifest:
    """Read, check, tokenise, pack and write both splits; the test split first, to see what they share."""
    tokenizer = load_tokenizer(model)
    prompt = (
        chat_prompt(tokenizer, data.instruction, data.system)
        if in_chat_format
        else template_prompt(tokenizer, data.own_template)
    )
    splits: dict[str, SplitStats] = {}
    tallies = {split: Tally(split, rejected) for split in sources}
    looking = _Looking()
    with new_folder(dataset) as folder, _without_garbage_runs():
        for split in reversed(sources):
            source, tally = sources[split], tallies[split]
            reading = _Reading(report, f"reading {source.name}")
            rows = source.rows(reading.tick, oddities.say)
            usable = _unique(examples(rows, source.name, data, tally), prompt, data, tally, looking)
            kept = _looked_at(fit(usable, tokenizer, prompt, data, tally), split, looking)
            if split == "test":
                kept = store.write_examples(folder / "test.jsonl", kept)
            tokens = (tokens for _, _, tokens in kept)
            stats = store.write_split(folder / split, packs(tokens, data.max_length), data.max_length, dataset.name)
            reading.end()
            if not stats.examples:
                raise DataError(
                    f"{source.name}: every example has more tokens than data.max_length, {data.max_length}",
                    "raise data.max_length",
                )
            splits[split] = replace(stats, longest_at=looking.longest[1], shortest_at=looking.shortest[1])
            report.step(
                f"{source.name}: {_counted(stats.examples, 'example')}, {stats.tokens:,} tokens, in "
                f"{_counted(stats.packs, 'pack')} of up to {data.max_length:,}, {stats.fill:.1%} full"
            )
        manifest = Manifest(
            fingerprint=dataset.name,
            template=prompt.template,
            tokenizer=model.id,
            tokenizer_revision=model.revision,
            eos_token_id=prompt.end_id,
            max_length=data.max_length,
            splits={split: splits[split] for split in sources},
            dropped=dict(sum((tally.dropped for tally in tallies.values()), Counter())),
            lorasum_version=__version__,
            shared_with_test=dict(looking.shared),
            personal=dict(looking.personal),
            prompt_format="chat" if in_chat_format else "template",
            instruction=data.instruction if in_chat_format else "",
            system=data.system if in_chat_format else "",
            control_tokens=prompt.control_tokens,
            settings=store.recorded(decisive, data),
        )
        store.write_manifest(folder, manifest)
    _warn(sources, tallies, manifest, data, rejected, report)
    if data.redact:
        _tell_redacted(looking, data, report)
    if looking.control:
        text, where = looking.control[0]
        report.warn(
            f"{_counted(len(looking.control), 'row')} with control tokens of the tokenizer, such as {text} in {where}: "
            "they are read as text"
        )
    return manifest


@contextmanager
def _without_garbage_runs() -> Iterator[None]:
    """Hold Python's collector of reference cycles: there are none among rows and tokens, and a sixth of the time was
    spent on looking for them in all the lists of tokens."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(slots=True)
class _Looking:
    """What is found out about the examples as they pass by.

    Attributes:
        taken_out: personal data by kind, with `data.redact`.
        left_in, left_in_at: long numbers that nothing explains, with `data.redact`, and the row of the first.
        longest, shortest: tokens and place of such an example of the split at hand.
        control: a control token that a row holds, and the row's place, for each such row.
    """

    personal: Counter[str] = field(default_factory=Counter)
    taken_out: Counter[str] = field(default_factory=Counter)
    left_in: int = 0
    left_in_at: str = ""
    shared: Counter[str] = field(default_factory=Counter)
    test_dialogues: Seen = field(default_factory=Seen)
    near: NearDuplicates = field(default_factory=NearDuplicates)
    longest: tuple[int, str] = (0, "")
    shortest: tuple[int, str] = (0, "")
    control: list[tuple[str, str]] = field(default_factory=list)


def _unique(
    usable: Iterable[tuple[str, Example]], prompt: Prompt, data: DataConfig, tally: Tally, looking: _Looking
) -> Iterator[tuple[str, Example]]:
    """Redact, count personal data, and leave out what was there before, as the config says."""
    seen = Seen()
    for batch in batches(usable, _BATCH):
        if data.redact:
            batch = [(where, _redacted(where, example, data.phone_region, looking)) for where, example in batch]
        else:
            texts = [text for _, one in batch for text in (one.dialogue, one.summary)]
            count_personal(texts, looking.personal, data.phone_region)
        for where, one in batch:
            if token := prompt.control_token_in(one.dialogue) or prompt.control_token_in(one.summary):
                looking.control.append((token, where))
        again = seen.add([key(one.dialogue, one.summary) for _, one in batch])
        for (where, example), repeated in zip(batch, again, strict=True):
            if repeated and data.duplicates == "drop":
                tally.reject(where, Rejected("duplicate"), {"dialogue": example.dialogue, "summary": example.summary})
            else:
                yield where, example


def _redacted(where: str, example: Example, region: str, looking: _Looking) -> Example:
    """The example without personal data. What was taken out is counted, and so is what may have been left in."""
    texts = [redact(text, region, looking.taken_out) for text in (example.dialogue, *example.references)]
    left = sum(len(unexplained_numbers(text, region)) for text in texts)
    if left:
        looking.left_in += left
        looking.left_in_at = looking.left_in_at or where
    dialogue, summary, *others = texts
    return Example(dialogue, summary, tuple(others))


def _looked_at(
    kept: Iterable[tuple[str, Example, Tokens]], split: Split, looking: _Looking
) -> Iterator[tuple[str, Example, Tokens]]:
    """Compare the splits, and note the longest and the shortest example, as they pass by."""
    import numpy as np

    looking.longest, looking.shortest = (0, ""), (2**31, "")
    for batch in batches(kept, _BATCH):
        dialogues = [key(example.dialogue) for _, example, _ in batch]
        tokens = [tokens for _, _, tokens in batch]
        if split == "test":
            looking.test_dialogues.add(dialogues)
            looking.near.index(tokens)
        else:
            exact = looking.test_dialogues.contains(np.array(dialogues, np.uint64))
            near = np.array(looking.near.find(tokens), bool) & ~exact
            looking.shared.update({"exact": int(exact.sum()), "near": int(near.sum())})
        lengths = [len(one.ids) for one in tokens]
        for length, pick in ((max(lengths), "longest"), (min(lengths), "shortest")):
            known = getattr(looking, pick)[0]
            if (length > known) if pick == "longest" else (length < known):
                setattr(looking, pick, (length, batch[lengths.index(length)][0]))
        yield from batch


@dataclass(slots=True)
class _Reading:
    """The progress bar of a source; a small one ends before it begins, and shows none."""

    report: Reporter
    label: str
    shown: bool = False

    def tick(self, share: float) -> None:
        self.shown = True
        self.report.progress(self.label, min(share, 0.999), 1)

    def end(self) -> None:
        if self.shown:
            self.report.progress(self.label, 1, 1)


def _rendered(dataset: Path, model: ModelRef, count: int) -> tuple[RenderedExample, ...]:
    """The first training examples, decoded from what is on disk."""
    tokenizer: Any = load_tokenizer(model)
    return tuple(
        RenderedExample(tokenizer.decode(ids[:prompt]), tokenizer.decode(ids[prompt:]), len(ids))
        for ids, prompt in store.read_first(dataset, "train", count)
    )


def _warn(
    sources: dict[Split, Source],
    tallies: dict[Split, Tally],
    manifest: Manifest,
    data: DataConfig,
    rejected: RejectFile,
    report: Reporter,
) -> None:
    """Tell what is odd about a dataset that was made all the same."""
    for split, tally in tallies.items():
        if tally.dropped:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in tally.dropped.most_common())
            left_out = f"{_counted(tally.dropped.total(), 'row')} left out ({reasons})"
            report.warn(f"{sources[split].name}: {left_out}; see {rejected.path}")
        if tally.cut:
            report.warn(
                f"{sources[split].name}: {_counted(tally.cut, 'dialogue')} cut at the start "
                f"to fit {data.max_length:,} tokens"
            )
    exact, near = (manifest.shared_with_test.get(kind, 0) for kind in ("exact", "near"))
    if exact:
        report.warn(
            f"the test split shares a dialogue with {_counted(exact, 'training example')}: "
            "its scores will flatter the model"
        )
    if near:
        report.warn(
            f"{_counted(near, 'training example')} nearly the same as one of the test split: "
            "its scores will flatter the model"
        )
    if manifest.personal and not data.redact:
        kinds = ", ".join(_counted(count, kind) for kind, count in manifest.personal.items())
        report.warn(f"the chats seem to hold personal data ({kinds}); --redact takes it out")


def _tell_redacted(looking: _Looking, data: DataConfig, report: Reporter) -> None:
    kinds = ", ".join(_counted(count, kind) for kind, count in looking.taken_out.items())
    report.step(f"took out personal data: {kinds or 'there was none'}")
    if looking.left_in:
        report.warn(
            f"left in: {_counted(looking.left_in, 'number')} of 9 digits or more, the first at {looking.left_in_at}; "
            f"no date, price or order number, and no phone number of data.phone_region ({data.phone_region})"
        )


def _counted(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("ss") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
