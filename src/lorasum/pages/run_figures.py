"""The figures of a run, by name, as the tables of its page show them. An empty figure is not known."""

from lorasum.formatting import dollars, duration, gigabytes, loss
from lorasum.pages.facts import RunFacts
from lorasum.scoring.evaluation import TUNED


def key_figures(run: RunFacts) -> dict[str, str]:
    scores = run.evaluation.scores.get(TUNED) if run.evaluation else None
    return {
        "ROUGE-L": str(scores.rougeL) if scores else "",
        "no unsupported facts": f"{scores.faithful.mean:.0%}" if scores else "",
        **training_figures(run),
    }


def training_figures(run: RunFacts) -> dict[str, str]:
    done, start = run.done, run.start
    return {
        "loss on the test split": loss(done.eval_loss) if done else "",
        "loss in training": loss(done.train_loss) if done else "",
        "weights of step": f"{done.kept_step:,} of {start.steps:,}" if done and start and done.kept_step else "",
        "kept because it is": done.kept_because if done else "",
        "merged model": f"none: {done.not_merged}" if done and done.not_merged else "",
        "tokens trained on": f"{done.tokens:,}" if done else "",
        "tokens per second": f"{done.tokens_per_second:,.0f}" if done and done.tokens_per_second else "",
        "time of the job": duration(done.seconds) if done else "",
        "cost of the job": usd(run.usd),
        "state": "" if run.job.state == "done" else f"{run.job.state} {run.job.reason}".strip(),
    }


def memory_figures(run: RunFacts) -> dict[str, str]:
    start, done = run.start, run.done
    if start is None:
        return {}
    peak = done.peak_memory_bytes if done else 0
    return {
        **{name: gigabytes(size) for name, size in start.memory_parts.items()},
        "of the base model, shared in main memory": gigabytes(start.shared_bytes) if start.shared_bytes else "",
        "estimated in all": gigabytes(start.memory_bytes) if start.memory_bytes else "",
        "free before loading": gigabytes(start.memory_free_bytes) if start.memory_free_bytes else "",
        "measured at its peak": gigabytes(peak) if peak else "",
        "layers computed again": f"{start.recomputed_layers} of {start.layers}" if start.layers else "",
        "packs at once": f"{start.packs_at_once}" if start.packs_at_once else "",
    }


def planned_and_actual(run: RunFacts) -> dict[str, str]:
    """What was expected of the job when it was started, and what it came to."""
    done, planned, hour = run.done, run.job.planned_seconds, run.job.usd_per_hour
    took = done.tokens / done.tokens_per_second if done and done.tokens_per_second else None
    expected = None if planned is None or not hour else hour * planned / 3600
    return {
        "time of the steps, as planned": "no such job was measured before" if planned is None else duration(planned),
        "time of the steps": "" if took is None else duration(took),
        "time of the whole job": duration(done.seconds) if done else "",
        "price of an hour": usd(hour),
        "cost of the steps, as planned": "" if expected is None else dollars(expected),
        "cost of the whole job": usd(run.usd),
        "cost of the run's endpoints": usd(run.endpoint_usd),
    }


def settings(run: RunFacts) -> dict[str, str]:
    manifest = run.manifest
    data = {"max_length": f"{manifest.max_length:,}", "prompt": manifest.prompt_format} if manifest else {}
    return {"dataset": run.job.origin.fingerprint, **data, **run.job.hyperparameters}


def environment(run: RunFacts) -> dict[str, str]:
    start, record = run.start, run.record
    layers = f"{start.quantized_layers} layers in {start.quantization}" if start and start.quantized_layers else ""
    return {
        "job": run.job.name,
        "started": run.job.created_at[:16].replace("T", " ") + " UTC",
        "backend": " ".join(filter(None, (run.job.backend, run.job.account_and_region))),
        "base model": " at ".join(filter(None, (run.job.origin.model, run.job.origin.model_revision))),
        "device": start.device if start else "",
        "computed in": f"{start.compute_dtype}: {start.dtype_reason}" if start else "",
        "held in": layers,
        "parameters": f"{start.parameters:,}, {start.trainable_parameters:,} of them trained" if start else "",
        "adapter on": ", ".join(start.lora_targets) if start else "",
        "artifact": run.job.artifact,
        "dataset made by lorasum": run.manifest.lorasum_version if run.manifest else "",
        **(dict(record.versions) if record else {}),
    }


def usd(amount: float | None) -> str:
    return "free" if amount == 0 else dollars(amount)
