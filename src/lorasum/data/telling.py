"""Reports on a new dataset: rows that were left out, and what to check before paying for a training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from lorasum.config.data import DataConfig
from lorasum.data.findings import GIVEN_BACK, Findings, SharedRow
from lorasum.data.records import Manifest
from lorasum.data.tally import Tally
from lorasum.formatting import counted
from lorasum.reporting import Reporter
from lorasum.system.files import read_rows, write_file, writing

_NAMED = 3  # rows of a kind
_FEWEST_ROWS = 4  # by which it can be told that rows are messages


def tell(tallies: Mapping[str, Tally], findings: Findings, data: DataConfig, rejects: Path, report: Reporter) -> None:
    """Report everything, source by source.

    Args:
        tallies: by the name of the source.
        rejects: the file of the rows that were left out.
    """
    for name, tally in tallies.items():
        _tell_left_out(name, tally, data, rejects, report)
    _tell_shared(findings.shared, findings.shared_rows, shared_file(rejects), report)
    _tell_personal(findings, data, report)
    if findings.changed:
        word, becomes, where = findings.changed[0]
        rows = f"{counted(len(findings.changed), 'row')}, of the first {GIVEN_BACK} of each split"
        report.warn(
            f"the tokenizer changes words in {rows}: {word!r} in {where} becomes {becomes!r}; the model never sees "
            "them as they are, and another one may"
        )
    if findings.control:
        text, where = findings.control[0]
        report.warn(
            f"{counted(len(findings.control), 'row')} with control tokens of the tokenizer, such as {text} in {where}: "
            "they are read as text"
        )


def _tell_left_out(name: str, tally: Tally, data: DataConfig, rejects: Path, report: Reporter) -> None:
    if tally.dropped:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in tally.dropped.most_common())
        report.warn(f"{name}: {counted(tally.dropped.total(), 'row')} left out ({reasons}); see {rejects}")
    if tally.repeated * 2 >= tally.kept >= _FEWEST_ROWS:
        report.warn(
            f"{name}: {tally.repeated:,} of {counted(tally.kept, 'row')} have the summary of the row above and another "
            "dialogue: if a row is one message, join the rows of each dialogue"
        )
    if tally.nameless:
        report.warn(
            f"{name}: messages do not tell who speaks, so their lines have no names: {tally.nameless}; rename the key "
            "that tells it to 'speaker'"
        )
    if tally.cut:
        report.warn(f"{name}: {counted(tally.cut, 'dialogue')} cut at the start to fit {data.max_length:,} tokens")


def tell_again(manifest: Manifest, rejects: Path, report: Reporter) -> None:
    """Repeat what is wrong with a dataset that was made earlier, as far as its manifest says."""
    if left_out := {reason: count for reason, count in manifest.dropped.items() if count}:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in left_out.items())
        report.warn(f"{counted(sum(left_out.values()), 'row')} left out ({reasons}); see {rejects}")
    _tell_shared(manifest.shared_with_test, read_shared(shared_file(rejects)), shared_file(rejects), report)
    if kinds := ", ".join(counted(count, kind) for kind, count in manifest.personal.items() if count):
        report.warn(f"the chats seem to hold personal data ({kinds}); --redact takes it out")


def shared_file(rejects: Path) -> Path:
    """The file of training rows whose dialogues stand in the test split, beside that of the rows left out."""
    return rejects.with_name(f"{rejects.stem}-shared.jsonl")


def write_shared(file: Path, rows: Sequence[SharedRow]) -> None:
    """Write them, one JSON object a line; no file where there are none."""
    with writing(file):
        file.unlink(missing_ok=True)
        if rows:
            write_file(file, "".join(json.dumps(asdict(row)) + "\n" for row in rows))


def read_shared(file: Path) -> list[SharedRow]:
    """What was written; nothing where there is no file."""
    found = read_rows(file.read_bytes()) if file.is_file() else ()
    return [SharedRow(*(str(row.get(name, "")) for name in ("kind", "train", "test"))) for row in found]


def _tell_shared(shared: Mapping[str, int], rows: Sequence[SharedRow], file: Path, report: Reporter) -> None:
    """Warn of training dialogues that stand in the test split, and name the first rows of each kind."""
    said = {
        "exact": "the test split shares a dialogue with {}",
        "near": "{} nearly the same as one of the test split",
    }
    for kind, text in said.items():
        if count := shared.get(kind, 0):
            named = [f"{row.train} as {row.test or 'one of the test split'}" for row in rows if row.kind == kind]
            first = f"; {', '.join(named[:_NAMED])}" if named else ""
            more = f"; all are in {file}" if len(named) > _NAMED else ""
            examples = text.format(counted(count, "training example"))
            report.warn(f"{examples}: its scores will flatter the model{first}{more}")


def _tell_personal(findings: Findings, data: DataConfig, report: Reporter) -> None:
    counts = findings.taken_out if data.redact else findings.personal
    kinds = ", ".join(counted(count, kind) for kind, count in counts.items())
    if data.redact:
        report.step(f"took out personal data: {kinds or 'there was none'}")
    elif kinds:
        first = f", the first at {findings.personal_at}" if findings.personal_at else ""
        report.warn(f"the chats seem to hold personal data ({kinds}{first}); --redact takes it out")
    if findings.left_in:
        report.warn(
            f"left in: {counted(findings.left_in, 'number')} of 9 digits or more, the first at {findings.left_in_at}; "
            f"no date, price or order number, and no phone number of data.phone_region ({data.phone_region})"
        )
