"""What has changed since a dataset was prepared: the settings and the data that decide about it."""

from collections.abc import Mapping

from lorasum.config.schema import Config
from lorasum.data.files.s3 import S3Login
from lorasum.data.records import Manifest
from lorasum.data.settings import Settings, chosen, identity_digest
from lorasum.data.sources import open_sources, whole_name
from lorasum.errors import LorasumError, ModelError
from lorasum.models.hub import is_commit
from lorasum.models.source import ModelRef, tokenizer_identity
from lorasum.reporting import Reporter

_KEYS = ("columns", "too_long", "max_bad_rows", "duplicates", "messages")  # keys of the config's section `data`


def changed_since(manifest: Manifest, config: Config, model: ModelRef, report: Reporter) -> list[str]:
    """What differs from when the dataset was prepared, such as `data.redact (true now)` or `chats.csv`.

    Files are compared by their digests. The hub is not asked what a branch is now. A warning names what cannot be
    compared, such as a deleted file. The list is empty if the settings are not on record.
    """
    then = manifest.settings
    if then is None:
        return []
    now = Settings.of({}, "", config.data)
    values = [(key, getattr(then, key), getattr(now, key)) for key in _KEYS]
    changed = [f"data.{key}{_values(before, after)}" for key, before, after in values if before != after]
    changed += _redaction(then.redact, now.redact, report)
    changed += _sources(then, config, report)
    if not _same_tokenizer(then, model):
        changed.append("tokenizer in model.id")
    if then.format != now.format:
        changed.append("version of lorasum")
    return changed


def _values(then: object, now: object) -> str:
    return f" ({then}, {now} now)" if not isinstance(now, Mapping) else ""


def _redaction(then: tuple[str, int] | None, now: tuple[str, int] | None, report: Reporter) -> list[str]:
    """What has changed about redaction. A dataset that `prepare --redact` made does not count as changed."""
    if then == now:
        return []
    if now is None:
        report.step("personal data was taken out of this dataset: prepare was called with --redact")
        return []
    if then is None:
        return ["data.redact (true now)"]
    return [f"data.phone_region ({then[0]}, {now[0]} now)" if then[0] != now[0] else "rules of data.redact"]


def _sources(then: Settings, config: Config, report: Reporter) -> list[str]:
    """What has changed about the rows: the settings that choose them, or else the content of the files."""
    before, data = then.sources, config.data
    pinned = data.revision if is_commit(data.revision) else None
    commit = next((part for text in before.values() for part in text.split() if is_commit(part)), None)
    login = S3Login(config.sagemaker.profile, config.sagemaker.region)
    try:
        sources = open_sources(data, commit=pinned or commit, login=login)
        now = {split: identity_digest(source.identity()) for split, source in sources.items()}
    except LorasumError as error:
        report.warn(f"whether the data has changed since it was prepared is not known: {error.message}")
        return []
    if now == before:
        return []
    was = then.chosen
    keys = [f"data.{key} ({was.get(key)}, {value} now)" for key, value in chosen(data).items() if was.get(key) != value]
    changed = (whole_name(source) for split, source in sources.items() if now[split] != before.get(split))
    return keys or list(dict.fromkeys(changed))


def _same_tokenizer(then: Settings, model: ModelRef) -> bool:
    """Whether the tokenizer is the same, as far as that can be told without the hub."""
    if model.path is None and not is_commit(model.revision):
        return True
    try:
        return tokenizer_identity(model)[0] == then.tokenizer
    except ModelError:
        return True  # loading the tokenizer will tell what is wrong
