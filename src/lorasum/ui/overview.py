"""Shows the results of the verbs that only look: status, runs."""

from rich.console import Group, RenderableType
from rich.text import Text

from lorasum.results import ResourceStatus, RunsResult, StatusResult
from lorasum.ui.body import body
from lorasum.ui.pieces import dollars, new_table


@body.register
def _(result: StatusResult) -> RenderableType:
    done = [Text.assemble(("  ", "dim"), line) for line in result.rebuilt]
    if not result.resources:
        return Group(*done, Text("nothing was created yet"))
    costs = any(resource.usd_per_hour != 0 for resource in result.resources)
    ends = any(resource.is_open and resource.detail.get("expires_at") for resource in result.resources)
    more = [*(["ends (UTC)"] if ends else []), *(["$/h", "cost"] if costs else [])]
    table = new_table("run", "what", "name", "state", "backend", "since (UTC)", *more)
    for resource in result.resources:
        end = [_end(resource)] if ends else []
        table.add_row(*_status_row(resource), *end, *(_costs(resource) if costs else ()))
    return Group(*done, table)


def _end(resource: ResourceStatus) -> Text:
    """When an endpoint's time is over; red where it is and the endpoint is still there."""
    end = resource.detail.get("expires_at")
    if not resource.is_open or not end:
        return Text()
    return Text(_minute(str(end)), style="bold red" if resource.alarm else "")


def _costs(resource: ResourceStatus) -> tuple[str, str]:
    """The price an hour and the cost so far of a running or warm resource; only the cost of an ended one."""
    if not resource.is_open:
        return "", dollars(resource.usd)
    return dollars(resource.usd_per_hour), f"{dollars(resource.usd)} so far"


def _status_row(resource: ResourceStatus) -> list[RenderableType]:
    styles = {"live": "bold green", "failed": "red", "intended": "yellow", "unreadable": "bold red"}
    state = Text(resource.state, style="bold red" if resource.alarm else styles.get(resource.state, "dim"))
    if resource.state in ("unreadable", "gone") and resource.reason:
        state.append(f": {resource.reason}")
    if resource.kept_warm:
        state.append(", kept warm", style="bold green")
    since = _minute(resource.updated_at)
    return [resource.run, resource.kind.replace("_", " "), resource.name, state, resource.backend, since]


def _minute(time: str) -> str:
    """An ISO 8601 time in UTC as month-day hour:minute."""
    return time[5:16].replace("T", " ")


@body.register
def _(result: RunsResult) -> RenderableType:
    if not result.runs:
        return Text("nothing was created yet")
    table = new_table("run", "changed (UTC)", "state", "disk", "cost", "ROUGE-L")
    for one in result.runs:
        state = Text("live", style="bold green") if one.live else Text("ended", style="dim")
        score = "–" if one.rouge_l is None else f"{one.rouge_l:.1f}"
        changed = one.changed_at[:16].replace("T", " ")
        table.add_row(one.run, changed, state, f"{one.bytes / 1e9:,.2f} GB", dollars(one.usd), score)
    return table
