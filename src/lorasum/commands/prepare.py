"""prepare: chats to a tokenised, packed dataset. Nothing changed → nothing done."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lorasum import __version__, paths
from lorasum.atomic import maker_lock, new_folder
from lorasum.backends.base import Backend
from lorasum.config import Config, DataConfig
from lorasum.data import store
from lorasum.data.sources import Source, Split, open_sources
from lorasum.data.tokenize_pack import Fitting, Tokens, fit, packs
from lorasum.data.validate import examples
from lorasum.errors import DataError, LorasumError
from lorasum.ledger import Ledger
from lorasum.model_source import load_tokenizer, resolve_model, tokenizer_identity
from lorasum.models import Example, Manifest, ModelRef, PrepareResult, Reporter, SplitStats


def prepare(config: Config, backend: Backend, ledger: Ledger, report: Reporter) -> PrepareResult:
    """Make the run's dataset, or find it made: its folder is named by the fingerprint of all that decides about it.

    Raises:
        DataError: a source is missing, empty, or has more unusable rows than `data.max_bad_rows`.
        ModelError: the model or its tokenizer cannot be had.
        LorasumError: the dataset cannot be written. Nothing half-made is left in any of these cases.
    """
    started = time.monotonic()
    sources = open_sources(config.data)
    model = resolve_model(config.model, report)
    tokenizer, commit = tokenizer_identity(model)
    identities: dict[str, str] = {split: source.identity() for split, source in sources.items()}
    fingerprint = store.fingerprint(identities, tokenizer, config.data)
    dataset = paths.run_dir(config.name) / "data" / fingerprint

    manifest = store.read_manifest(dataset)
    reused = manifest is not None
    # Recorded again when reused: the newest record is the dataset that `train` takes.
    ledger.intend(config.name, "dataset", fingerprint, config.backend, {"path": str(dataset)})
    try:
        if manifest is None:
            with maker_lock(dataset, lambda: report.step("waiting for another process that prepares this run")):
                manifest = store.read_manifest(dataset) or _make(
                    dataset, replace(model, revision=commit), sources, config.data, report
                )
        backend.store_dataset(config.name, dataset)
    except BaseException as error:
        with suppress(LorasumError):  # the first error is the one to tell, not that the ledger's disk is full too
            ledger.mark(config.name, "dataset", fingerprint, "gone", reason=str(error))
        raise
    ledger.mark(config.name, "dataset", fingerprint, "done")
    return PrepareResult(config.name, str(dataset), reused, manifest, time.monotonic() - started)


def _make(dataset: Path, model: ModelRef, sources: dict[Split, Source], data: DataConfig, report: Reporter) -> Manifest:
    """Read, check, tokenise, pack and write both splits; the test split first, to see which dialogues they share."""
    tokenizer = load_tokenizer(model)
    splits: dict[str, SplitStats] = {}
    fittings = {split: Fitting() for split in sources}
    shared: Counter[str] = Counter()
    with new_folder(dataset) as folder:
        for split in reversed(sources):
            source, fitting = sources[split], fittings[split]
            reading = _Reading(report, f"reading {source.name}")
            usable = examples(source.rows(reading.tick), source.name, data.columns, data.max_bad_rows, fitting.dropped)
            kept = fit(usable, tokenizer, data, fitting)
            if split == "test":
                tokens = store.write_examples(folder / "test.jsonl", kept)
            else:
                tokens = _counting(kept, {example.dialogue for example in store.read_test_examples(folder)}, shared)
            stats = store.write_split(folder / split, packs(tokens, data.chunk_length), data.chunk_length, dataset.name)
            reading.end()
            if not stats.examples:
                raise DataError(
                    f"{source.name}: every example has more tokens than data.chunk_length, {data.chunk_length}",
                    "raise data.chunk_length",
                )
            splits[split] = stats
            report.step(
                f"{source.name}: {_counted(stats.examples, 'example')}, {stats.tokens:,} tokens, in "
                f"{_counted(stats.packs, 'pack')} of up to {data.chunk_length:,}, {stats.fill:.1%} full"
            )
        manifest = Manifest(
            fingerprint=dataset.name,
            template=data.template,
            tokenizer=model.id,
            tokenizer_revision=model.revision,
            eos_token_id=tokenizer.eos_token_id,
            chunk_length=data.chunk_length,
            splits={split: splits[split] for split in sources},
            dropped=dict(sum((fitting.dropped for fitting in fittings.values()), Counter())),
            lorasum_version=__version__,
        )
        store.write_manifest(folder, manifest)
    _warn(sources, fittings, shared["examples"], data, report)
    return manifest


@dataclass(slots=True)
class _Reading:
    """The progress bar of a source; a small one ends before it begins, and shows none."""

    report: Reporter
    label: str
    shown: bool = False

    def tick(self, share: float) -> None:
        self.shown = True
        self.report.progress(self.label, share, 1)

    def end(self) -> None:
        if self.shown:
            self.report.progress(self.label, 1, 1)


def _counting(kept: Iterable[tuple[Example, Tokens]], dialogues: set[str], shared: Counter[str]) -> Iterator[Tokens]:
    """Count the examples whose dialogue is in `dialogues` as they pass by."""
    for example, tokens in kept:
        shared["examples"] += example.dialogue in dialogues
        yield tokens


def _warn(
    sources: dict[Split, Source], fittings: dict[Split, Fitting], shared: int, data: DataConfig, report: Reporter
) -> None:
    """Tell what is odd about a dataset that was made all the same."""
    for split, fitting in fittings.items():
        if fitting.dropped:
            reasons = ", ".join(f"{reason}: {count:,}" for reason, count in fitting.dropped.most_common())
            report.warn(f"{sources[split].name}: {_counted(fitting.dropped.total(), 'row')} left out ({reasons})")
        if fitting.cut:
            report.warn(
                f"{sources[split].name}: {_counted(fitting.cut, 'dialogue')} cut at the start "
                f"to fit {data.chunk_length:,} tokens"
            )
    if shared:
        report.warn(
            f"the test split shares a dialogue with {_counted(shared, 'training example')}: "
            "its scores will flatter the model"
        )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
