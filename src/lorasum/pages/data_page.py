"""The page on a prepared dataset: its figures, how long the examples are, and what the model sees of three of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lorasum.data.records import Manifest, SplitStats
from lorasum.pages.charts import histogram
from lorasum.pages.rendering import TableRow, render
from lorasum.results.training import RenderedExample

_FIGURES = {
    "examples": "examples",
    "packs": "packs",
    "tokens": "tokens",
    "completion_tokens": "summary tokens",
    "longest_example_tokens": "longest example",
    "shortest_example_tokens": "shortest example",
}
_NEAR = 1.6  # an axis is made so much longer to have max_length on it


@dataclass(frozen=True, slots=True)
class DataPicture:
    """The figures and charts of a dataset, as the pages show them."""

    head: tuple[str, ...]
    figures: list[TableRow]
    charts: list[tuple[str, Markup, str]]
    left_out: list[TableRow]
    notes: list[TableRow]


def data_page(
    run: str, manifest: Manifest, examples: Sequence[RenderedExample] = (), rejected: str = "", shared: str = ""
) -> str:
    """The page as text.

    Args:
        examples: some that are shown whole.
        rejected: address of the file of rows that were left out, relative to the page; empty if there is none.
        shared: that of the training rows whose dialogues stand in the test split.
    """
    return render(
        "data.html",
        f"{run}: dataset {manifest.fingerprint}",
        run=run,
        manifest=manifest,
        picture=data_picture(manifest),
        examples=examples,
        rejected=rejected,
        shared=shared,
    )


def data_picture(manifest: Manifest) -> DataPicture:
    """What a dataset's manifest says, ready to be shown."""
    splits = manifest.splits.values()
    rows = [TableRow((label, *(f"{getattr(one, name):,}" for one in splits))) for name, label in _FIGURES.items()]
    rows.append(TableRow(("packs filled", *(f"{one.fill:.1%}" for one in splits))))
    noted = {"shared with the test split": manifest.shared_with_test, "seem to be personal": manifest.personal}
    longest = max((one.longest_example_tokens for one in splits), default=0)
    end = manifest.max_length if manifest.max_length <= longest * _NEAR else longest
    return DataPicture(
        head=("", *manifest.splits),
        figures=rows,
        charts=[_chart(name, one, end, manifest.max_length) for name, one in manifest.splits.items() if one.histogram],
        left_out=[TableRow((reason, f"{count:,}")) for reason, count in manifest.dropped.items() if count],
        notes=[
            TableRow((f"{what}: {kind}", f"{count:,}"))
            for what, found in noted.items()
            for kind, count in found.items()
            if count
        ],
    )


def _chart(name: str, stats: SplitStats, end: int, limit: int) -> tuple[str, Markup, str]:
    """Title, chart and note of a split's lengths; all splits have one scale."""
    fullest = max(range(len(stats.histogram)), key=lambda place: stats.histogram[place])
    step = (stats.longest_example_tokens + 1) / len(stats.histogram)
    label = (
        f"{stats.examples:,} examples of {name} by length: {stats.shortest_example_tokens:,} to "
        f"{stats.longest_example_tokens:,} tokens, most of them near {round(step * (fullest + 0.5)):,}; "
        f"max_length is {limit:,}"
    )
    chart = histogram(label, "tokens of an example", stats.histogram, stats.longest_example_tokens + 1, end + 1, limit)
    beyond = f" max_length, {limit:,}, is beyond the right edge." if limit > end else ""
    note = f"{stats.shortest_example_tokens:,} to {stats.longest_example_tokens:,} tokens.{beyond}"
    return f"{name}: examples by length", chart, note
