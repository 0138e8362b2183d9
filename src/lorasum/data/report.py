"""The report on a prepared dataset: one HTML page with figures and histograms, without scripts or other files."""

from html import escape
from pathlib import Path

from lorasum.data.records import Manifest, SplitStats
from lorasum.files import write_file

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse } td, th { padding: .15rem 1rem .15rem 0; text-align: right }
td:first-child, th:first-child { text-align: left } svg { width: 100%; height: auto } code { font-size: .9em }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd } text { fill: #ddd } }
"""
_WIDTH, _HEIGHT, _AXIS = 720, 180, 20  # of a histogram, in the page's pixels


def write_report(path: Path, run: str, manifest: Manifest) -> None:
    """Write the page.

    Raises:
        OSError: it cannot be written.
    """
    write_file(path, page(run, manifest))


def page(run: str, manifest: Manifest) -> str:
    """The page as text."""
    figures = [
        ("examples", "examples"), ("packs", "packs"), ("tokens", "tokens"), ("completion_tokens", "summary tokens"),
        ("longest_example", "longest example"), ("shortest_example", "shortest example"),
    ]  # fmt: skip
    rows = [
        _row(label, *(f"{getattr(stats, name):,}" for stats in manifest.splits.values())) for name, label in figures
    ]
    rows.append(_row("packs filled", *(f"{stats.fill:.1%}" for stats in manifest.splits.values())))
    left_out = [_row(reason, f"{count:,}") for reason, count in manifest.dropped.items()]
    noted = {"shared with the test split": manifest.shared_with_test, "seem to be personal": manifest.personal}
    notes = [
        _row(f"{what}: {kind}", f"{count:,}") for what, found in noted.items() for kind, count in found.items() if count
    ]
    charts = [
        f"<h2>{name}: tokens per example</h2>{_chart(stats)}"
        for name, stats in manifest.splits.items()
        if stats.histogram
    ]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(run)}: dataset {manifest.fingerprint}</title>
<style>{_STYLE}</style></head><body>
<h1>{escape(run)}: dataset {manifest.fingerprint}</h1>
<p>Packs of up to {manifest.max_length:,} tokens of <code>{escape(manifest.tokenizer)}</code>.</p>
<table>{_row("", *manifest.splits, cell="th")}{"".join(rows)}</table>
{"".join(charts)}
{"<h2>Rows left out</h2><table>" + "".join(left_out) + "</table>" if left_out else ""}
{"<h2>To look at</h2><table>" + "".join(notes) + "</table>" if notes else ""}
<h2>Template</h2><pre>{escape(manifest.template)}</pre>
</body></html>
"""


def _row(*cells: str, cell: str = "td") -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(text)}</{cell}>" for text in cells) + "</tr>"


def _chart(stats: SplitStats) -> str:
    most, step = max(stats.histogram), _WIDTH / len(stats.histogram)
    bars = []
    for index, count in enumerate(stats.histogram):
        high = count / most * (_HEIGHT - 10)
        start, end = (round((stats.longest_example + 1) * n / len(stats.histogram)) for n in (index, index + 1))
        bars.append(
            f'<rect x="{index * step:.1f}" y="{_HEIGHT - high:.1f}" width="{step - 1:.1f}" height="{high:.1f}" '
            f'fill="#4a7dbd"><title>{start:,} to {end - 1:,} tokens: {count:,}</title></rect>'
        )
    labels = f'<text x="0" y="{_HEIGHT + 15}">0</text>'
    labels += f'<text x="{_WIDTH}" y="{_HEIGHT + 15}" text-anchor="end">{stats.longest_example:,}</text>'
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _AXIS}" font-size="12">{"".join(bars)}{labels}</svg>'
