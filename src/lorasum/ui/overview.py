"""Shows the results of the verbs that only look: status, runs, report; and of clean."""

from collections.abc import Sequence
from datetime import UTC
from textwrap import shorten

from rich.console import Group, RenderableType
from rich.text import Text

from lorasum.formatting import dollars, duration, loss, on_disk
from lorasum.results.overview import (
    CleanResult,
    ReportResult,
    ResourceStatus,
    RunsResult,
    StatusResult,
)
from lorasum.system import paths
from lorasum.ui.body import body
from lorasum.ui.pieces import Facts, Marked, Rows, headline

_REASON = 80  # characters of why something failed; --json has them all


@body.register
def _(result: StatusResult) -> RenderableType:
    done = [Text.assemble(("  ", "dim"), line) for line in result.rebuilt]
    if not result.resources:
        look = "`lorasum status --rebuild` with a config records what runs without a record"
        return Group(*done, Text(f"{_nothing_on_record(result.run)}; {look}"))
    costs = any(resource.usd_per_hour != 0 for resource in result.resources)
    elsewhere = any(resource.backend != "local" for resource in result.resources)
    columns = ("run", "what", "name", "state", "backend", "since (UTC)", "progress", "ends (UTC)", "$/h", "cost")
    table = Rows(*columns, wraps=("state", "progress"))
    for one in result.resources:
        where = one.backend if elsewhere else ""
        cells = (one.run, one.kind.replace("_", " "), one.name, _state(one), where, _minute(one.updated_at))
        table.add(*cells, _progress(one), _end(one), *(_costs(one) if costs else ("", "")))
    not_asked = sorted({resource.backend for resource in result.resources if not resource.asked})
    hint = Text(f"as recorded, not asked: {', '.join(not_asked)}", style="dim")
    below = (*_addresses(result.resources), *_reasons(result.resources))
    return Group(*done, table, *below, *([hint] if not_asked else []))


def _addresses(resources: Sequence[ResourceStatus]) -> list[Marked]:
    """Where endpoints of this machine answer; one of SageMaker has its name only."""
    return [
        Marked(Text("  "), f"{one.name} answers at {one.location}")
        for one in resources
        if one.kind == "endpoint" and one.state == "live" and (one.location or "").startswith("http")
    ]


def _reasons(resources: Sequence[ResourceStatus]) -> list[Marked]:
    """Why what has ended did not end well, below the table: a column of it would be too wide for a terminal."""
    return [
        Marked(Text("  "), f"{one.name} {one.state}: {shorten(one.reason, _REASON)}")
        for one in resources
        if one.reason and (one.kind == "dataset" or one.state in ("unreadable", "gone", "failed", "stopped"))
    ]


def _nothing_on_record(run: str | None = None) -> str:
    """With the folder: it is another one where LORASUM_HOME or HOME is wrong, as in a cron job."""
    return f"nothing is on record{f' of run {run}' if run else ''} in {paths.home()}"


def _end(resource: ResourceStatus) -> Text:
    """When an endpoint's time is over; red where it is and the endpoint is still there."""
    if not resource.may_run or not resource.expires_at:
        return Text()
    end = resource.expires_at.astimezone(UTC).isoformat()
    return Text(_minute(end), style="bold red" if resource.alarm else "")


def _progress(resource: ResourceStatus) -> str:
    """`step 3/9, loss 1.500, 6.0 s left`; of a batch `76 of 200 rows, 6.0 s left`."""
    progress, is_batch = resource.progress, resource.kind == "batch_job"
    if progress is None:
        return ""
    if progress.step == 0:
        return f"before its first {'row' if is_batch else 'step'}"
    if progress.step is None or progress.steps is None:
        return f"loss {loss(progress.train_loss)}, test {loss(progress.eval_loss)}"
    left = "" if progress.seconds_left is None else f", {duration(progress.seconds_left)} left"
    if is_batch:
        return f"{progress.step:,} of {progress.steps:,} rows{left}"
    return f"step {progress.step:,}/{progress.steps:,}, loss {loss(progress.train_loss)}{left}"


def _costs(resource: ResourceStatus) -> tuple[str, str]:
    """The price an hour and the cost so far of a running or warm resource; only the cost of an ended one."""
    may_have_grown = resource.usd and (resource.instances, resource.most_instances) != (1, 1)
    usd = f"{dollars(resource.usd)}{' or more' if may_have_grown else ''}"
    return (dollars(resource.usd_per_hour), f"{usd} so far") if resource.may_run else ("", usd)


def _state(resource: ResourceStatus) -> Text:
    styles = {
        "live": "bold green",
        "failed": "red",
        "intended": "yellow",
        "stopped": "yellow",
        "unreadable": "bold red",
    }
    state = Text(resource.state, style="bold red" if resource.alarm else styles.get(resource.state, "dim"))
    if resource.kept_warm:
        state.append(", kept warm", style="bold green")
    if resource.adapters:
        state.append(f", serves {', '.join(resource.adapters)}")
    return state


def _minute(time: str) -> str:
    """An ISO 8601 time in UTC as month-day hour:minute."""
    return time[5:16].replace("T", " ")


@body.register
def _(result: RunsResult) -> RenderableType:
    if not result.runs:
        return Text(_nothing_on_record())
    table = Rows("run", "changed (UTC)", "state", "disk", "cost", "ROUGE-L")
    for one in result.runs:
        state = Text("live", style="bold green") if one.may_run else Text("ended", style="dim")
        score = "–" if one.rougeL is None else f"{one.rougeL:.1f} of {one.dialogues:,}"
        changed = one.changed_at[:16].replace("T", " ")
        table.add(one.run, changed, state, on_disk(one.bytes), dollars(one.usd), score)
    return table


@body.register
def _(result: ReportResult) -> RenderableType:
    what = f"{result.run} beside {result.compared_with}" if result.compared_with else result.run
    rows = {"page": result.page, "missing": "\n".join(result.missing)}
    return Group(headline("reported", what, "one file, which loads nothing"), Facts(rows))


@body.register
def _(result: CleanResult) -> RenderableType:
    if not result.folders:
        return Text("nothing to delete")
    if result.dry_run:
        return Group(*(Text(f"would delete {one}", no_wrap=True) for one in result.folders))
    lines = [Text.assemble(("  deleted ", "green"), str(one)) for one in result.folders]
    return Group(headline("cleaned", "this disk", f"{on_disk(result.bytes)} freed"), *lines)
