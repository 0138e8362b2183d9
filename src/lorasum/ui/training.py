"""Shows the results of the verbs up to a trained model: init, prepare, plan, train."""

import shlex
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from lorasum.backends.records import Room
from lorasum.formatting import counted, dollars, duration, loss
from lorasum.results.training import (
    ExampleResult,
    InitResult,
    InstanceOption,
    PlanResult,
    PrepareResult,
    RenderedExample,
    SweepResult,
    TrainPlan,
    TrainResult,
    TranslatedResult,
)
from lorasum.ui.body import body
from lorasum.ui.pieces import Facts, Marked, Rows, as_json, bars, following, from_here, headline, length, mark, memory

_GIB, _GB = 2**30, 10**9


@body.register
def _(result: InitResult) -> RenderableType:
    seen = result.data
    rows = {
        "data": f"{counted(seen.examples, 'dialogue')} with summaries in {', '.join(seen.files[:3])}, "
        f"language {seen.language}",
        "columns": f"{seen.dialogue_column} → {seen.summary_column}",
        "left out": f"{counted(sum(seen.unusable.values()), 'row')}; {seen.first_unusable}" if seen.unusable else "",
        "longest": f"{seen.longest_dialogue_characters:,} characters, and a summary of "
        f"{seen.longest_summary_characters:,}",
        "max_length": f"{result.max_length:,} tokens",
        "model": f"{result.model}, {result.backend}",
    }
    return Group(headline("wrote", from_here(result.config), f"run {result.run}"), Facts(rows), *following(result.next))


@body.register
def _(result: ExampleResult) -> RenderableType:
    files = Text("\n".join(f"  {from_here(file)}" for file in result.files))
    return Group(headline("wrote", result.example, counted(len(result.files), "file")), files, *following(result.next))


@body.register
def _(result: TranslatedResult) -> RenderableType:
    left = [Text(f"  no counterpart  {line}", style="yellow") for line in result.left]
    left += [Text(f"  missing         {line}", style="yellow") for line in result.missing]
    return Group(
        headline("wrote", from_here(result.config), f"from a config of {result.tool}"), *left, *following(result.next)
    )


@body.register
def _(result: PrepareResult) -> RenderableType:
    manifest = result.manifest
    splits = manifest.splits.values()
    table = Rows("", *manifest.splits)
    table.add("examples", *(f"{one.examples:,}" for one in splits))
    table.add("packs", *(f"{one.packs:,}" for one in splits))
    table.add("tokens", *(f"{one.tokens:,}" for one in splits))
    table.add("summary tokens", *(f"{one.completion_tokens:,}" for one in splits))
    table.add("longest example", *(length(one.longest_example_tokens, one.longest_at) for one in splits))
    table.add("shortest example", *(length(one.shortest_example_tokens, one.shortest_at) for one in splits))
    table.add("packs filled", *(f"{one.fill:.0%}" for one in splits))
    rows = {
        "dataset": result.dataset,
        "tokenizer": manifest.tokenizer,
        "left out": ", ".join(f"{count} {reason}" for reason, count in manifest.dropped.items() if count),
        "rows left out are in": result.rejected or "",
        "report": result.page or "",
    }
    same = f"nothing has changed: same sources, template, tokenizer and settings as {manifest.fingerprint}"
    title = same if result.reused else duration(result.seconds)
    pictures = [
        Text.assemble((f"  {name:<6}", "bold"), bars(split.histogram), f" 0 to {split.longest_example_tokens:,} tokens")
        for name, split in manifest.splits.items()
        if split.histogram
    ]
    shown = [part for number, example in enumerate(result.shown, 1) for part in _example(number, example)]
    return Group(headline("prepared", result.run, title), table, *pictures, Facts(rows), *shown)


def _example(number: int, example: RenderedExample) -> list[RenderableType]:
    """An example as the model sees it. The prompt is dimmed, and the trained completion is coloured."""
    head = Text(f"\nexample {number} · {example.tokens:,} tokens", style="bold")
    return [head, Text.assemble((example.prompt, "dim"), (example.completion, "green"))]


@body.register
def _(result: TrainResult) -> RenderableType:
    if result.state == "live":
        rows: dict[str, str | Text] = {"job": result.job, "address": result.location, "state": result.state}
        return Group(headline("training", result.run, "the same command follows it"), Facts(rows))
    speed = "" if not result.tokens_per_second else f" at {result.tokens_per_second:,.0f} tokens/s"
    because = f": {result.kept_because}" if result.kept_because else ""
    rows = {
        "job": result.job,
        "loss": f"{loss(result.train_loss)} training, {loss(result.eval_loss)} test",
        "score": f"{result.scored_by} {result.score:.1f}" if result.score is not None else "",
        "weights": f"of step {result.kept_step:,}{because}" if result.kept_step else "",
        "generating": f"{duration(result.generation_seconds)} of the time" if result.generation_seconds else "",
        "tokens": "" if result.tokens is None else f"{result.tokens:,}{speed}",
        "artifact": result.artifact or "",
        "merged model": f"none: {result.not_merged}" if result.not_merged else "",
        **(_loading(result.artifact) if result.artifact and not result.not_merged else {}),
    }
    title = "already done" if result.reused or result.job_seconds is None else duration(result.job_seconds)
    return Group(headline("trained", result.run, title), Facts(rows))


def _loading(artifact: str) -> dict[str, Text]:
    """The lines that load an artifact, a folder or an S3 address, in other programs."""
    remote = artifact.startswith("s3://")
    folder = "model" if remote else artifact
    fetched = {"a copy of S3": f"aws s3 cp --recursive {shlex.quote(artifact)} {folder}"} if remote else {}
    lines = fetched | {
        "transformers": f'AutoModelForCausalLM.from_pretrained("{folder}")',
        "vLLM": f"vllm serve {shlex.quote(folder)}",
    }
    return {f"in {what}": Text(line, no_wrap=True) for what, line in lines.items()}


@body.register
def _(result: TrainPlan) -> RenderableType:
    rows = {
        "job": result.job,
        "entry point": result.entry_point,
        "model": result.model,
        "dataset": result.dataset,
        **{f"--{name}": value for name, value in result.hyperparameters.items()},
    }
    return Facts(rows) if result.request is None else as_json(result.request)


@body.register
def _(result: PlanResult) -> RenderableType:
    hour, serving = result.usd_per_hour, result.endpoint_usd_per_hour
    work = f"{counted(result.packs, 'pack')}, {counted(result.steps, 'step')}, {counted(result.tokens, 'token')} in all"
    rows = {
        "job": result.job,
        "work": work if result.prepared else "unknown: run `lorasum prepare` first",
        "time": _time(result),
        "training": _job_price(result),
        "spot": _spot(result.spot_least_usd_per_hour, hour),
        "endpoint": _endpoint_price(serving),
        "memory": memory(result.memory) if result.memory else _unknown(result.memory_unknown),
        "main memory": _room(result.host, _GIB, "GiB"),
        "disk": _room(result.disk, _GB, "GB"),
    }
    lines = [Marked(mark(one), f"{one.what}: {one.found}{f' → {one.fix}' if one.fix else ''}") for one in result.checks]
    table = [_options(result.instances)] if result.instances else []
    return Group(headline("plan of", result.run, "nothing was started"), Facts(rows), *lines, *table)


def _unknown(why: str) -> str:
    return f"not estimated here: {why}; the job estimates it before it loads the model" if why else ""


def _spot(least: float | None, hour: float | None) -> str:
    """What AWS says of spot. It has no price list of it for SageMaker."""
    if not least or not hour:
        return ""
    return f"up to 90% less, so {dollars(least)} to {dollars(hour)} an hour; AWS publishes no price of SageMaker's spot"


def _room(room: Room | None, unit: int, name: str) -> str:
    """What is needed of a main memory or a disk, by part, and what is there."""
    if room is None:
        return ""
    parts = ", ".join(f"{part} {size / unit:,.1f}" for part, size in room.parts.items())
    there = f" of {room.there_bytes / unit:,.0f}" if room.there_bytes else ""
    return f"{room.needed_bytes / unit:,.1f}{there} {name} ({parts})"


def _options(options: Sequence[InstanceOption]) -> Rows:
    """The types to choose from: what they have, whether the training fits, and what they cost."""
    timed = any(one.training_seconds is not None or one.band for one in options)
    numbers = ("$/h", "time", "$", "endpoint $/h", "a day", "30 days")
    table = Rows("instance", "GPU, GiB", "fits", *numbers, numbers=numbers)
    for one in options:
        gpus = f"{one.gpus} × " if one.gpus > 1 else ""
        fits = {None: Text("?"), True: Text("✓", style="green")}.get(one.fits, Text(f"✗ {one.short_of}", style="red"))
        uses = [use for use, chosen in (("train", one.trains), ("serve", one.serves)) if chosen]
        table.add(
            Text(one.instance_type, style="bold" if uses else "").append(f" {'+'.join(uses)}" if uses else ""),
            f"{gpus}{one.gpu_bytes // _GIB}" if one.gpu_bytes else "?",
            fits,
            _usd(one.usd_per_hour),
            *(_time_and_cost(one) if timed else ("", "")),
            *_endpoint(one),
        )
    return table


def _endpoint(one: InstanceOption) -> list[str | Text]:
    """What an endpoint on this type costs by the hour, the day and the month; or that its GPUs have no room."""
    if one.endpoint_fits is False:
        return [Text("✗ GPU", style="red"), "–", "–"]
    return [_usd(one.endpoint_usd_per_hour), _usd(one.endpoint_usd_per_day), _usd(one.endpoint_usd_in_30_days)]


def _time_and_cost(one: InstanceOption) -> tuple[str, str]:
    """The job's time and USD on a type, as measured or else by arithmetic, from the least to the most."""
    if one.training_seconds is not None:
        return duration(one.training_seconds + one.overhead_seconds), "–" if one.usd is None else _usd(one.usd)
    if one.band is None:
        return "–", "–"
    hours = [(steps + one.overhead_seconds) / 3600 for steps in (one.band.shortest_seconds, one.band.longest_seconds)]
    cost = "?" if one.usd_per_hour is None else " to ".join(_usd(one.usd_per_hour * each) for each in hours)
    return f"{hours[0]:.2g} to {hours[1]:.2g} h", cost


def _usd(amount: float | None) -> str:
    """An amount in a column of USD; whole dollars from 100."""
    return "?" if amount is None else f"{amount:,.0f}" if amount >= 100 else f"{amount:,.2f}"


def _time(result: PlanResult) -> str:
    """The time of the steps, where it comes from, and what comes on top."""
    more = f", and about {duration(result.overhead_seconds)} to start and end" if result.overhead_seconds else ""
    if result.training_seconds is not None:
        return f"{duration(result.training_seconds)} at the speed of job {result.measured_job}{more}"
    if (band := result.band) is None:
        return "unknown: no such job has been measured yet"
    work = band.operations / 1e12
    peak = f"the device's {band.peak_operations_per_second / 1e12:.3g} TFLOP/s"
    reached = f"at {band.shares[0] * 100:.0f} to {band.shares[1]:.0%} of {peak}"
    return (
        f"{duration(band.shortest_seconds)} to {duration(band.longest_seconds)} by arithmetic "
        f"({work:,.{0 if work >= 10 else 2}f} TFLOP {reached}), as no such job has been measured yet{more}"
    )


def _job_price(result: PlanResult) -> str:
    """What the job costs: by the hour, as measured, and at most."""
    hour = result.usd_per_hour
    if hour == 0:
        return "free"
    if hour is None:
        return "unknown"
    parts = [f"{dollars(hour)} an hour"]
    band, seconds, more = result.band, result.training_seconds, result.overhead_seconds
    steps = [seconds] if seconds is not None else [band.shortest_seconds, band.longest_seconds] if band else []
    if steps:
        parts.append(f"{' to '.join(dollars(hour * (each + more) / 3600) for each in steps)} for that time")
    if result.limit_seconds is not None and result.max_usd is not None:
        parts.append(f"{dollars(result.max_usd)} at most, when it is stopped after {duration(result.limit_seconds)}")
    return ", ".join(parts)


def _endpoint_price(hour: float | None) -> str:
    """What one instance of an endpoint costs by the hour, the day and the month."""
    if not hour:
        return "unknown" if hour is None else "free"
    return f"{dollars(hour)} an hour, {dollars(hour * 24)} a day, {dollars(hour * 24 * 30)} in 30 days"


@body.register
def _(result: SweepResult) -> RenderableType:
    keys = list(dict.fromkeys(key for one in result.trials for key in one.values))
    paid = any(one.usd != 0 for one in result.trials)
    table = Rows("trial", *keys, result.metric, "state", "evaluations", "cost", wraps=("state",))
    styles = {"done": "green", "failed": "red", "live": "bold green"}
    for one in result.trials:
        value = "–" if one.value is None else f"{one.value:.4g}"
        state = Text(one.state.replace("_", " "), style=styles.get(one.state, "dim"))
        if one.reason and one.state in ("failed", "left_out"):
            state.append(f": {one.reason}")
        name = Text(one.run, style="bold" if one.run == result.best else "")
        tried = [str(one.values.get(key, "")) for key in keys]
        table.add(name, *tried, value, state, str(one.evaluations), dollars(one.usd) if paid else "")
    title = f"{len(result.trials)} trials" + (f", {duration(result.seconds)}" if result.seconds else "")
    verb, title = ("swept", title) if result.page else ("sweep of", f"{title}, nothing was started")
    return Group(headline(verb, result.run, title), table, Facts({"page": result.page or ""}))
