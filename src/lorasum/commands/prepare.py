"""Prepare: turn chats into a tokenised, packed dataset. If nothing has changed, nothing is done."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from lorasum.context import RunContext
from lorasum.data import store
from lorasum.data.files.s3 import S3Login
from lorasum.data.making import Recipe, make_dataset
from lorasum.data.oddities import Oddities
from lorasum.data.records import Manifest
from lorasum.data.settings import Settings
from lorasum.data.sources import open_sources
from lorasum.data.telling import shared_file, tell_again
from lorasum.errors import LorasumError, ModelError
from lorasum.ledger.resources import Dataset
from lorasum.models.source import ModelRef, chat_template, resolve_model, tokenizer_identity
from lorasum.results.training import PrepareResult, RenderedExample
from lorasum.system import paths
from lorasum.system.files import maker_lock, write_file, writing
from lorasum.system.signals import release_frames

_ON_THE_PAGE = 3  # examples


def prepare(run: RunContext, show: int = 0) -> PrepareResult:
    """Make the run's dataset, unless it exists: its folder is named by a hash of everything that decides about it.

    Args:
        show: number of training examples to decode from the dataset and return.

    Raises:
        DataError: a source is missing, empty, or has more unusable rows than `data.max_bad_rows`.
        ModelError: the model or its tokenizer cannot be loaded.
        LorasumError: the dataset cannot be written. No part of it is left in any of these cases.
    """
    started, report, oddities = time.monotonic(), run.reporter, Oddities()
    recipe = _recipe(run, oddities)
    fingerprint = recipe.settings.fingerprint
    folder = paths.run_dir(run.name)
    dataset = folder / "data" / fingerprint
    rejects, page = folder / "rejected" / f"{fingerprint}.jsonl", folder / "reports" / f"{fingerprint}.html"

    manifest = store.read_manifest(dataset)
    with _on_record(run, fingerprint, dataset):
        if not (reused := manifest is not None):
            with maker_lock(dataset, lambda: report.step("waiting for another process that prepares this run")):
                manifest = store.read_manifest(dataset) or make_dataset(dataset, recipe, rejects, oddities, report)
        if reused:
            tell_again(manifest, rejects, report)
        if not page.exists():  # a killed prepare may not have written it
            with writing(page):
                write_file(page, _page(run.name, dataset, manifest, recipe, rejects))
        run.backend.store_dataset(run.name, dataset)
    return PrepareResult(
        run.name,
        str(dataset),
        reused,
        manifest,
        time.monotonic() - started,
        rejected=_if_there(rejects),
        shared=_if_there(shared_file(rejects)),
        page=_if_there(page),
        shown=_rendered(dataset, recipe, show) if show else (),
    )


def _if_there(file: Path) -> str | None:
    return str(file) if file.exists() else None


@contextmanager
def _on_record(run: RunContext, fingerprint: str, dataset: Path) -> Iterator[None]:
    """Have the dataset in the ledger: as intended in the block, then as done, or as gone if the block fails.

    A dataset that is reused is recorded again, because `train` takes the one of the newest record.
    """
    row = run.ledger.intend(Dataset(run=run.name, name=fingerprint, backend=run.config.backend, path=str(dataset)))
    try:
        yield
    except BaseException as error:
        release_frames()
        with suppress(LorasumError):  # the first error matters, and not that the ledger cannot be written either
            run.ledger.save(replace(row, state="gone", reason=str(error)))
        raise
    run.ledger.save(replace(row, state="done"))


def _recipe(run: RunContext, oddities: Oddities) -> Recipe:
    """The recipe of the dataset. No row is read."""
    data, sagemaker = run.config.data, run.config.sagemaker
    sources = open_sources(data, oddities.say, login=S3Login(sagemaker.profile, sagemaker.region))
    model = resolve_model(run.config.model, run.reporter)
    tokenizer, commit = tokenizer_identity(model)
    identities: dict[str, str] = {split: source.identity() for split, source in sources.items()}
    model = replace(model, revision=commit)
    chat = _chat_template(model, data.chat_format)
    return Recipe(model, sources, data, chat is not None, Settings.of(identities, tokenizer, data, chat))


def _chat_template(model: ModelRef, wanted: bool | None) -> str | None:
    """The model's chat template; None if prompts do not use it.

    Raises:
        ModelError: it has none, and the config asks for one.
    """
    template = None if wanted is False else chat_template(model)
    if wanted and template is None:
        raise ModelError(
            f"the tokenizer of {model.id} has no chat template",
            "set data.format: template, or choose an instruct model",
        )
    return template


def _page(run: str, dataset: Path, manifest: Manifest, recipe: Recipe, rejects: Path) -> str:
    """The page on the dataset, with some examples as the model sees them."""
    from lorasum.pages.data_page import data_page  # here: a dataset that is there needs no page

    beside = [file for file in (rejects, shared_file(rejects)) if file.exists()]
    addresses = {file: f"../{file.parent.name}/{file.name}" for file in beside}
    shown = _rendered(dataset, recipe, _ON_THE_PAGE)
    return data_page(run, manifest, shown, addresses.get(rejects, ""), addresses.get(shared_file(rejects), ""))


def _rendered(dataset: Path, recipe: Recipe, count: int) -> tuple[RenderedExample, ...]:
    """The first training examples, decoded from the dataset on disk."""
    decode = recipe.tokenizer.decode
    return tuple(
        RenderedExample(decode(ids[:prompt]), decode(ids[prompt:]), len(ids))
        for ids, prompt in store.read_first(dataset, count)
    )
