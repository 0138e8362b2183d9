"""Reports on a new dataset: rows that were left out, and what to check before paying for a training."""

from collections.abc import Mapping
from pathlib import Path

from lorasum.config.data import DataConfig
from lorasum.data.findings import Findings
from lorasum.data.records import Manifest
from lorasum.data.validate import Tally
from lorasum.reporting import Reporter


def tell(tallies: Mapping[str, Tally], findings: Findings, data: DataConfig, rejects: Path, report: Reporter) -> None:
    """Report everything, source by source.

    Args:
        tallies: by the name of the source.
        rejects: the file of the rows that were left out.
    """
    for name, tally in tallies.items():
        _tell_left_out(name, tally, data, rejects, report)
    _tell_shared(findings.shared, findings.shared_at, report)
    _tell_personal(findings, data, report)
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
    if tally.cut:
        report.warn(f"{name}: {counted(tally.cut, 'dialogue')} cut at the start to fit {data.max_length:,} tokens")


def tell_again(manifest: Manifest, rejects: Path, report: Reporter) -> None:
    """Repeat what is wrong with a dataset that was made earlier, as far as its manifest says."""
    if left_out := {reason: count for reason, count in manifest.dropped.items() if count}:
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in left_out.items())
        report.warn(f"{counted(sum(left_out.values()), 'row')} left out ({reasons}); see {rejects}")
    _tell_shared(manifest.shared_with_test, {}, report)
    if kinds := ", ".join(counted(count, kind) for kind, count in manifest.personal.items() if count):
        report.warn(f"the chats seem to hold personal data ({kinds}); --redact takes it out")


def _tell_shared(shared: Mapping[str, int], places: Mapping[str, str], report: Reporter) -> None:
    """Warn of training dialogues that stand in the test split.

    Args:
        places: of the first of each kind, where that is known.
    """
    said = {
        "exact": "the test split shares a dialogue with {}",
        "near": "{} nearly the same as one of the test split",
    }
    for kind, text in said.items():
        if count := shared.get(kind, 0):
            first = f"; the first is {places[kind]}" if kind in places else ""
            examples = text.format(counted(count, "training example"))
            report.warn(f"{examples}: its scores will flatter the model{first}")


def _tell_personal(findings: Findings, data: DataConfig, report: Reporter) -> None:
    counts = findings.taken_out if data.redact else findings.personal
    kinds = ", ".join(counted(count, kind) for kind, count in counts.items())
    if data.redact:
        report.step(f"took out personal data: {kinds or 'there was none'}")
    elif kinds:
        report.warn(f"the chats seem to hold personal data ({kinds}); --redact takes it out")
    if findings.left_in:
        report.warn(
            f"left in: {counted(findings.left_in, 'number')} of 9 digits or more, the first at {findings.left_in_at}; "
            f"no date, price or order number, and no phone number of data.phone_region ({data.phone_region})"
        )


def counted(number: int, noun: str) -> str:
    """A number and its noun, such as `1 row` or `2,000 rows`."""
    plural = f"{noun}es" if noun.endswith("ss") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
