"""Makes a dataset: reads, checks, tokenises, packs and writes both splits."""

import gc
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lorasum import __version__
from lorasum.config.data import DataConfig
from lorasum.data import store
from lorasum.data.findings import Findings, compared, noting_changes, unique
from lorasum.data.oddities import Oddities
from lorasum.data.records import Example, Manifest, SplitStats
from lorasum.data.settings import Settings
from lorasum.data.sources import Source, Split, whole_name
from lorasum.data.tally import RejectFile, Tally
from lorasum.data.telling import shared_file, tell, write_shared
from lorasum.data.tokenize_pack import Tokens, fit, packs, refuse_too_long
from lorasum.data.validate import examples
from lorasum.errors import DataError, ModelError
from lorasum.formatting import counted
from lorasum.models.prompt import Prompt, chat_prompt, template_prompt
from lorasum.models.source import ModelRef, load_tokenizer, look_at_model, model_config
from lorasum.reporting import Reporter
from lorasum.shared.base_config import context_length, vocabulary_size
from lorasum.shared.names import TEST_FILE
from lorasum.system.files import new_folder


@dataclass(frozen=True)
class Recipe:
    """What a dataset is made of.

    Attributes:
        model: the model whose tokenizer is used, at a commit.
        chat: whether prompts have the model's own chat format.
    """

    model: ModelRef
    sources: Mapping[Split, Source]
    data: DataConfig
    chat: bool
    settings: Settings

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer, loaded once: a large vocabulary takes seconds.

        Raises:
            ModelError: it cannot be loaded.
        """
        return load_tokenizer(self.model)


def make_dataset(dataset: Path, recipe: Recipe, rejects: Path, oddities: Oddities, report: Reporter) -> Manifest:
    """Make the dataset in the folder `dataset`. Hold `maker_lock(dataset)`.

    Args:
        rejects: the file for rows that are left out. It is written before the dataset, and also if this fails.

    Raises:
        DataError: a source cannot be used; or `max_length` is beyond the model's context.
        ModelError: the tokenizer cannot be loaded, or has a token in the data that the model has no embedding for.
        LorasumError: the dataset cannot be written. No part of it is left.
    """
    described = model_config(recipe.model)
    context = context_length(described)
    if context and recipe.data.max_length > context:
        raise DataError(
            f"data.max_length is {recipe.data.max_length:,}, and {recipe.model.id} reads {context:,} tokens at most",
            f"set data.max_length to {context} or less",
        )
    _remove_stale_part_files(dataset)
    try:
        with RejectFile(rejects) as rejected:
            return _Maker(recipe, described, rejected, oddities, report).make(dataset, context)
    finally:
        oddities.tell(report)


class _Maker:
    """Makes one dataset, and collects the findings about its rows."""

    def __init__(
        self, recipe: Recipe, described: Mapping[str, Any], rejected: RejectFile, oddities: Oddities, report: Reporter
    ) -> None:
        self.recipe, self.rejected, self.oddities, self.report = recipe, rejected, oddities, report
        self.tokenizer = recipe.tokenizer
        look_at_model(recipe.model, described, self.tokenizer.eos_token_id)
        self.prompt = _prompt(self.tokenizer, recipe)
        self.vocabulary = vocabulary_size(described) or sys.maxsize
        self.tallies = {split: Tally(split, rejected) for split in recipe.sources}
        self.findings = Findings()

    def make(self, dataset: Path, context: int | None) -> Manifest:
        """Make the test split, the training split, which is compared with it, and then the manifest."""
        data, sources = self.recipe.data, self.recipe.sources
        with new_folder(dataset) as folder, _without_garbage_runs():
            made = {split: self._split(folder, split, dataset.name) for split in reversed(list(sources))}
            refuse_too_long(self.tallies.values(), data, context)
            for split, stats in made.items():
                _tell_split(sources[split].name, stats, self.tallies[split], data, self.report)
            self._refuse_changed_sources()
            manifest = self._manifest(dataset.name, {split: made[split] for split in sources})
            store.write_manifest(folder, manifest)
            # Both before the dataset, so that a killed prepare never leaves a dataset without them.
            self.rejected.finish()
            write_shared(shared_file(self.rejected.path), self.findings.shared_rows)
        names = {sources[split].name: tally for split, tally in self.tallies.items()}
        tell(names, self.findings, data, self.rejected.path, self.report)
        return manifest

    def _refuse_changed_sources(self) -> None:
        """Raises DataError if the dataset would have a name by which other rows than its own are known."""
        before = self.recipe.settings.sources
        for split, source in self.recipe.sources.items():
            if source.identity() != before[split]:
                raise DataError(f"{whole_name(source)} was changed while it was prepared", "run the same command again")

    def _split(self, folder: Path, split: Split, identity: str) -> SplitStats:
        """Make one split, from its source to its files."""
        source, tally, data, prompt = self.recipe.sources[split], self.tallies[split], self.recipe.data, self.prompt
        reading = _Reading(self.report, f"reading {source.name}")
        usable = examples(source.rows(reading.tick, self.oddities.say), source.name, data, tally)
        single = unique(usable, prompt, data, tally, self.findings)
        kept = fit(noting_changes(single, self.tokenizer, prompt, self.findings), self.tokenizer, prompt, data, tally)
        kept = compared(kept, split, self.findings)
        if split == "test":
            kept = store.write_examples(folder / TEST_FILE, kept)
        tokens = (tokens for _, _, tokens in self._with_embeddings(kept))
        stats = store.write_split(folder / split, packs(tokens, data.max_length), data.max_length, identity)
        reading.end()
        return replace(stats, longest_at=self.findings.longest[1], shortest_at=self.findings.shortest[1])

    def _with_embeddings(self, kept: Iterable[tuple[str, Example, Tokens]]) -> Iterator[tuple[str, Example, Tokens]]:
        """`kept`, after a check that the model has an embedding for each token, if the tokenizer has more than it."""
        more = len(self.tokenizer) > self.vocabulary
        for where, example, tokens in kept:
            if more and (largest := max(tokens.ids)) >= self.vocabulary:
                token = self.tokenizer.convert_ids_to_tokens(largest)
                raise ModelError(
                    f"{where} holds token {token!r} with id {largest:,}, and the model's vocabulary ends at "
                    f"{self.vocabulary - 1:,}",
                    "the tokenizer has tokens that the model has no embedding for: take both from the same place",
                )
            yield where, example, tokens

    def _manifest(self, name: str, splits: Mapping[str, SplitStats]) -> Manifest:
        recipe, data = self.recipe, self.recipe.data
        return Manifest(
            fingerprint=name,
            template=self.prompt.template,
            tokenizer=recipe.model.id,
            tokenizer_revision=recipe.model.revision,
            eos_token_id=self.prompt.end_id,
            max_length=data.max_length,
            splits=splits,
            dropped=dict(sum((tally.dropped for tally in self.tallies.values()), Counter())),
            lorasum_version=__version__,
            shared_with_test=dict(self.findings.shared),
            personal=dict(self.findings.personal),
            prompt_format="chat" if recipe.chat else "template",
            instruction=data.instruction if recipe.chat else "",
            system=data.system if recipe.chat else "",
            control_tokens=self.prompt.control_tokens,
            base_template="" if recipe.chat else _chat_format(self.tokenizer, data),
            settings=recipe.settings.recorded(),
        )


def _prompt(tokenizer: Any, recipe: Recipe) -> Prompt:
    data = recipe.data
    if recipe.chat:
        return chat_prompt(tokenizer, data.instruction, data.system)
    return template_prompt(tokenizer, data.own_template)


def _chat_format(tokenizer: Any, data: DataConfig) -> str:
    """The model's own chat format, in which the base model is asked in comparisons; empty if it has none."""
    if not tokenizer.chat_template:
        return ""
    try:
        return chat_prompt(tokenizer, data.instruction, data.system).template
    except ModelError:  # nobody asked for it: the comparison then uses the prompt of the training
        return ""


def _tell_split(name: str, stats: SplitStats, tally: Tally, data: DataConfig, report: Reporter) -> None:
    if not stats.examples:
        raise DataError(
            f"{name}: every example has more tokens than data.max_length, {data.max_length}",
            f"raise data.max_length: the shortest has {tally.too_long.shortest}",
        )
    report.step(
        f"{name}: {counted(stats.examples, 'example')}, {stats.tokens:,} tokens, in "
        f"{counted(stats.packs, 'pack')} of up to {data.max_length:,}, {stats.fill:.1%} full"
    )


def _remove_stale_part_files(dataset: Path) -> None:
    """Remove unfinished datasets of the run. The lock is held, so no other process is making one."""
    for left in dataset.parent.glob(".*.partial"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _without_garbage_runs() -> Iterator[None]:
    """Pause Python's collector of reference cycles. Rows and tokens have no cycles, and it took a sixth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@dataclass(slots=True)
class _Reading:
    """The progress bar of a source. A source that is read at once shows none."""

    report: Reporter
    label: str
    shown: bool = False

    def tick(self, share: float) -> None:
        self.shown = True
        self.report.progress(self.label, min(share, 0.999), 1)

    def end(self) -> None:
        if self.shown:
            self.report.progress(self.label, 1, 1)
