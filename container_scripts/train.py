"""Training entry point: LoRA on a frozen, quantised base model. What it leaves behind is written by artifact.py.

SageMaker's container (through start.py) and lorasum's local backend run it in the same way: hyperparameters as flags,
folders in SM_* variables. Events go to stdout, one JSON object a line (see shared/events.py), and everything else to
stderr.
"""

import json
import logging
import os
import signal
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import artifact
import launch
from engine.arguments import Arguments, Folders, parse_arguments, read_folders
from engine.failure import PeerLostError, TrainingError, write_failure
from engine.metrics import Metrics
from gpu import avoid_fragmentation, gpu_fault, leave_cudnn_attention, serving_dtype
from loading import Loaded, load
from shared.container_limits import limit_threads
from shared.events import MERGE_LEFT_OUT, ProgressEvent, SavedEvent, StartEvent, WarningEvent
from shared.names import ADAPTER_FOLDER, ADAPTER_ONLY, BASE_SECONDS, MANIFEST_FILE, REPORT_TO, STEPS_DONE
from shared.records import DatasetFacts, from_json
from trackers import Trackers

if TYPE_CHECKING:
    import torch

    from engine.checkpoint import Checkpoints
    from engine.distributed import Group
    from engine.packs import Packs
    from engine.setup import Setup
    from engine.stopping import StopSignal


def main() -> int:
    """Parse the flags and train, or start the processes that do so. If that fails, write the reason to the file
    `failure`. Returns the exit status.
    """
    arguments = parse_arguments(sys.argv[1:])
    folders = read_folders(os.environ)
    if ranks := launch.ranks(os.environ):
        return launch.run(ranks, folders.output)
    launch.end_with_parent(os.environ)
    avoid_fragmentation(os.environ)
    is_first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(level=logging.INFO if is_first else logging.ERROR, format="%(message)s", stream=sys.stderr)
    try:
        return train(arguments, folders)
    except SystemExit:
        for number in (signal.SIGTERM, signal.SIGALRM):  # one was heard: nothing is to be raised while Python ends
            signal.signal(number, signal.SIG_IGN)
        raise
    except PeerLostError as error:
        print(error, file=sys.stderr)
        return launch.PEER_LOST
    except Exception as error:
        if write_failure(folders.output, error):
            if isinstance(error, TrainingError):
                print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
            traceback.print_exc()
        return 1


def train(arguments: Arguments, folders: Folders) -> int:
    """Run the whole job, step by step. Returns 0.

    Raises:
        SystemExit: the job got SIGTERM.
        TrainingError: it failed, and the user can do something about it.
    """
    from engine.stopping import END_TAKES, StopSignal

    stop = StopSignal(END_TAKES)  # before the imports that take seconds
    check_gpu()
    metrics = Metrics(folders.output_data if os.environ.get("RANK", "0") == "0" else None)
    metrics.emit(ProgressEvent("starting", 0, 2, "loading libraries"))
    from engine.distributed import join
    from engine.libraries import import_libraries

    import_libraries(arguments.quantization)
    leave_cudnn_attention()
    limit_threads()
    group = join(os.environ)
    names = [name for name in os.environ.get(REPORT_TO, "").split(",") if name and group.is_first]
    called = os.environ.get("TRAINING_JOB_NAME", arguments.run_name)
    settings = json.loads(json.dumps(asdict(arguments), default=str))
    with Trackers(names, called, folders.output, settings, metrics):
        return run_job(arguments, folders, metrics, stop, group)


def run_job(arguments: Arguments, folders: Folders, metrics: Metrics, stop: "StopSignal", group: "Group") -> int:
    """The steps of `train`, whose errors it raises. Events go to `metrics`. Only the first of `group` writes files."""
    from base_summaries import summarise_with_base
    from engine import process_memory
    from engine.checkpoint import Checkpoints
    from engine.packs import load_split
    from engine.trainer import train_adapter
    from engine.verify import first_prompts

    started = time.monotonic()
    dataset = from_json(DatasetFacts, (folders.dataset / MANIFEST_FILE).read_bytes())
    packs, test_packs = load_split(folders.dataset, "train"), load_split(folders.dataset, "test")
    checkpoints = Checkpoints(arguments.checkpoint_dir, arguments, dataset.fingerprint)
    resume_from = group.from_first(lambda: claim(checkpoints, arguments, len(packs)))
    metrics.emit(ProgressEvent("starting", 1, 2, "loading the model and trying it out"))
    loaded = load(arguments, folders, dataset, (packs, test_packs), resume_from, group)
    metrics.emit(start_event(loaded, dataset, len(packs), resume_from, group.size))
    setup = prepare_training(loaded, arguments, folders, dataset, (packs, test_packs), group)
    trained = train_adapter(setup, metrics, stop, checkpoints, resume_from)
    group.leave_gpus()
    if not group.is_first:
        group.end_together()
        return 0
    del setup  # the merge needs the memory of what it holds
    others = loaded.plan.shared_bytes * (group.local_size - 1) // group.local_size
    peak = process_memory.peak_bytes(loaded.device, others)  # of the training: the merge has one of its own

    left = leave_model(loaded, arguments, folders, first_prompts(packs), metrics)
    done = replace(trained, seconds=time.monotonic() - started, peak_memory_bytes=peak, not_merged=left.not_merged)
    for folder in (folders.model / ADAPTER_FOLDER, folders.model):  # the adapter's record is one of the other's files
        artifact.save_record(folder, loaded.base, arguments, dataset, done, left)
    if os.environ.get(BASE_SECONDS, "0") != "0":
        metrics.emit(ProgressEvent("ending", 1, 2, "the base model summarises test dialogues"))
    asked, elapsed = artifact.generation(arguments), time.monotonic() - started
    if told := summarise_with_base(loaded.base, folders, dataset, asked, stop, elapsed, loaded.device, metrics.emit):
        metrics.emit(told)
    metrics.emit(done)
    group.end_together()
    return 0


def prepare_training(
    loaded: Loaded,
    arguments: Arguments,
    folders: Folders,
    dataset: DatasetFacts,
    splits: "tuple[Packs, Packs]",
    group: "Group",
) -> "Setup":
    """What is trained on what, and what scores it.

    All of the artifact that needs no training is written too: what fails there fails before the steps are paid for.
    """
    from engine.process_memory import give_back
    from engine.scorer import make_scorer
    from engine.setup import Setup

    give_back()  # what trying the model out has freed
    if group.is_first:
        artifact.save_companions(loaded.base, folders.model, arguments, dataset.eos_token_id)
        if not is_adapter_only():
            artifact.check_room(loaded.base, folders.model, arguments)
    scorer = None
    if arguments.evaluate != "loss":
        scorer = make_scorer(arguments, loaded.packed_loss, loaded.base, folders.dataset, dataset, group)
    return Setup(loaded.model, loaded.packed_loss, *splits, loaded.plan, loaded.dtype, scorer, group)


def leave_model(
    loaded: Loaded, arguments: Arguments, folders: Folders, prompts: list[list[int]], metrics: Metrics
) -> "artifact.Left":
    """Save the adapter, merge it, and compare the two on some prompts (token ids). `loaded` loses its model.

    The adapter is what the GPU time was paid for, so it is written before anything else can fail. If the merged model
    is refused, or nobody has asked for it, the adapter is left alone.
    """
    from engine.verify import check_adapter, check_merge, file_facts, stored_dtype, why_not_merged

    what = "trying the adapter out" if is_adapter_only() else "merging the adapter into the model"
    metrics.emit(ProgressEvent("ending", 0, 2, what))
    base, output, device = loaded.base, folders.model, loaded.device
    adapter = artifact.save_adapter(loaded.model, output, arguments)
    artifact.save_code(adapter)
    metrics.emit(SavedEvent(ADAPTER_FOLDER))
    loaded.model = loaded.packed_loss = None  # the merge needs their memory
    try:
        if is_adapter_only():
            check_adapter(base, adapter, prompts, serving_dtype(device, stored_dtype(base)), device)
            return artifact.Left(not_merged=MERGE_LEFT_OUT)
        artifact.save_merged(base, adapter, output, arguments, metrics)
        dtype = serving_dtype(device, stored_dtype(output))
        with ThreadPoolExecutor(1) as beside:  # hashing lets go of Python's lock
            digests = beside.submit(file_facts, output, "*.safetensors")
            check = check_merge(base, adapter, output, prompts, dtype, device)
        if not check.prompts:
            metrics.emit(WarningEvent("the merged model is not compared with the adapter: there is not enough memory"))
        return artifact.Left(check, digests.result())
    except Exception as error:
        why = why_not_merged(error, device)
        artifact.remove_merged(output)
        hint = getattr(error, "hint", "a version of lorasum that can make it does so by `lorasum train --again`")
        metrics.emit(WarningEvent(f"the artifact has no merged model: {why}; {hint}"))
        return artifact.Left(not_merged=why)


def claim(checkpoints: "Checkpoints", arguments: Arguments, packs: int) -> Path | None:
    """The checkpoint to go on from; None if there is none.

    Raises:
        TrainingError: the user was told that no step is repeated, and some would be, or the best weights are lost.
    """
    from engine.schedule import plan_steps
    from engine.train_state import Progress, read_progress

    found = checkpoints.claim()
    if os.environ.get(STEPS_DONE) != "1":
        return found
    progress, lost = read_progress(found) if found else Progress(), ""
    one = replace(arguments, per_device_batch_size=max(arguments.per_device_batch_size, 1))  # auto: as many steps
    left = plan_steps(one, packs).steps - progress.step
    if left > 0 and not progress.learns_no_more(arguments.early_stopping_patience):
        lost = f"checkpoints of the job that has done the steps are gone or damaged: {left} would be repeated"
    elif arguments.keep == "best" and (best := progress.best_step) and checkpoints.whole(best) is None:
        lost = f"the best weights of the job that has done the steps, of step {best}, are gone or damaged"
    if lost:
        raise TrainingError(lost, "deploy.serve: adapter serves what that job left; another training.seed trains anew")
    return found


def is_adapter_only() -> bool:
    """Whether nobody has asked for a merged model."""
    return os.environ.get(ADAPTER_ONLY) == "1"


def check_gpu() -> None:
    """Check that the GPU works, before anything is downloaded.

    Raises:
        TrainingError: the GPU does not work.
    """
    if fault := gpu_fault(os.environ):
        raise TrainingError(
            fault,
            "start the job again, which gets another instance; if that fails too, choose another "
            "sagemaker.training_image or training_instance_type",
        )


def start_event(
    loaded: Loaded, dataset: DatasetFacts, packs: int, resume_from: Path | None, processes: int
) -> StartEvent:
    """The training plan."""
    from engine import checkpoint, model, process_memory, recompute, schedule

    arguments, plan, tokens = loaded.plan.arguments, loaded.plan, dataset.splits["train"].tokens
    parts = process_memory.process_parts(plan, loaded.device.type, loaded.dtype)
    planned = schedule.plan_steps(arguments, packs)
    quantized, whole = model.count_layers(loaded.model)
    trained, all_of_them = loaded.model.get_nb_trainable_parameters()  # a parameter in NF4 has half as many numbers
    return StartEvent(
        device=device_name(loaded.device),
        compute_dtype=str(loaded.dtype).removeprefix("torch."),
        dtype_reason=loaded.reason,
        quantization=arguments.quantization,
        parameters=all_of_them - trained,
        trainable_parameters=trained,
        lora_targets=tuple(loaded.targets),
        packs=packs,
        tokens=tokens,
        tokens_per_step=round(tokens / packs * min(planned.batch_size * planned.accumulation, packs)),
        steps=planned.steps,
        epochs=planned.steps / planned.steps_per_epoch,
        loss_on=arguments.loss_on,
        packs_at_once=arguments.per_device_batch_size,
        layers=plan.layers,
        recomputed_layers=plan.recomputed_layers,
        memory_bytes=sum(parts.values()),
        memory_parts=parts,
        memory_free_bytes=process_memory.process_room(plan.free, loaded.device.type),
        resumed_from_step=checkpoint.step_of(resume_from) if resume_from else 0,
        quantized_layers=quantized,
        whole_layers=whole,
        one_example_at_a_time=not loaded.packed_loss.route.together,
        not_the_fastest_because=loaded.packed_loss.route.reason,
        processes=processes,
        shared_bytes=plan.shared_bytes,
        remade_modules=recompute.count_remade(loaded.model),
    )


def device_name(device: "torch.device") -> str:
    """The GPU's name, or how many threads of the CPU compute."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"cpu, {threads} thread{'s' if threads > 1 else ''}"


if __name__ == "__main__":
    launch.end_at_once(main)
