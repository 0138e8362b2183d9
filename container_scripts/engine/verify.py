"""What is verified at the end of a job: that the merged model answers as the adapter does, and what each file is."""

import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from engine.checkpoint import digest
from engine.failure import MergeRefusedError, TrainingError
from engine.memory import free_bytes
from engine.packs import Packs
from generation.batching_rules import centred
from gpu import (
    GpuLostError,
    dtype_that_holds,
    first_line,
    is_lost,
    is_out_of_memory,
    raise_if_no_fault_of_the_code,
)
from shared.base_files import weight_files
from shared.names import EXAMPLE_LENGTHS, INPUT_IDS, PROMPT_LENGTHS, RECORD_FILE
from shared.records import FileFacts, MergeCheck

_log = logging.getLogger(__name__)

_PROMPTS = 2
_LONGEST = 256  # tokens of a prompt that is asked
_POSITIONS = 16  # its last ones, whose logits are compared: a row of BLOOM's has 250,880
_ROUNDING = 2  # times as far as rounding the weights again moves the logits
_ROOM = 1.2  # memory of a loaded model, in sizes of its weights
_ADAPTER = "the adapter is whole: deploy.serve: adapter serves it"

Found = TypeVar("Found")


def file_facts(folder: Path, pattern: str = "*", known: Mapping[str, FileFacts] | None = None) -> dict[str, FileFacts]:
    """Size and SHA-256 of every file below `folder`, but for its own record, by the path below it.

    Args:
        pattern: of the names of the files.
        known: those of files that need not be read again.
    """
    facts = dict(known or {})
    for path in sorted(folder.rglob(pattern)):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in facts and name != RECORD_FILE and path.suffix != ".part":
            facts[name] = FileFacts(path.stat().st_size, digest(path))
    return facts


def first_prompts(packs: Packs) -> list[list[int]]:
    """The ends of the first two prompts of a split, token ids."""
    prompts = []
    for number in range(min(len(packs), _PROMPTS)):
        pack, start = packs[number], 0
        for length, prompt in zip(pack[EXAMPLE_LENGTHS], pack[PROMPT_LENGTHS], strict=True):
            prompts.append(pack[INPUT_IDS][start : start + max(prompt, 1)][-_LONGEST:])
            start += length
    return prompts[:_PROMPTS]


def let_go(device: torch.device) -> None:
    """Give back the memory of models that nobody holds any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def bytes_to_load(folder: Path, dtype: torch.dtype) -> int:
    """Memory that the folder's model takes when it is loaded in `dtype`."""
    weights = sum(path.stat().st_size for path in weight_files(folder))
    return int(weights / stored_dtype(folder).itemsize * dtype.itemsize * _ROOM)


def why_not_merged(error: Exception, device: torch.device) -> str:
    """Why an artifact has no merged model, after an error of merging or checking it.

    Raises:
        Exception: `error`, if it says nothing of the merged model: another start may do without it, as where memory or
            the disk was full, or the GPU was lost. Or the adapter is of no use either.
    """
    if isinstance(error, MergeRefusedError):
        return error.message
    if isinstance(error, TrainingError | OSError | GpuLostError) or is_out_of_memory(error) or is_lost(device):
        raise error
    _log.exception("the merged model cannot be made or checked")
    return f"{type(error).__name__}: {first_line(error)}"


def check_merge(
    base: Path, adapter: Path, merged: Path, prompts: Sequence[Sequence[int]], dtype: torch.dtype, device: torch.device
) -> MergeCheck:
    """Compare the merged model's logits with those of the adapter on the base, neither of them quantized.

    One model is loaded after the other, so memory holds one. The merged one is the first, as its files were just
    written: of a large model, the main memory that keeps them is needed for others' soon. Where there is not enough
    memory, by what is free before or by what happens, nothing is compared.

    Args:
        base, adapter, merged: folders; the merged model is loaded from its own files, as a server loads it.
        prompts: token ids.
        dtype: what both compute in, as a server does. Where fp16 is too small for one of them and a server would leave
            it, the comparison does too.

    Raises:
        MergeRefusedError: the merged model cannot be loaded, or `compare_logits` refuses it.
    """

    def compare() -> MergeCheck:
        answered = _logits(_load(merged, dtype, device), prompts)
        let_go(device)
        plain, adapted, model = _adapted(base, adapter, prompts, dtype, device)
        _round_anew(model, max(torch.finfo(stored_dtype(merged)).eps, torch.finfo(dtype).eps))
        computed = (plain, adapted, _logits(model, prompts), answered)
        served_in = dtype_that_holds(torch.stack(computed), dtype, device)
        if served_in is not dtype:
            del model
            return check_merge(base, adapter, merged, prompts, served_in, device)
        return compare_logits(*computed)

    what = "the merged model is not compared with the adapter"
    return _with_room_for(merged, dtype, device, what, compare) or MergeCheck()


def check_adapter(
    base: Path, adapter: Path, prompts: Sequence[Sequence[int]], dtype: torch.dtype, device: torch.device
) -> None:
    """What of `check_merge` needs no merged model: that the adapter answers, and not as the base model does.

    Raises:
        MergeRefusedError: it does not. So its merged model would not either.
    """

    def compare() -> None:
        plain, adapted, model = _adapted(base, adapter, prompts, dtype, device)
        served_in = dtype_that_holds(torch.stack((plain, adapted)), dtype, device)
        if served_in is not dtype:
            del model
            check_adapter(base, adapter, prompts, served_in, device)
        elif not adapted.isfinite().all():
            raise MergeRefusedError(
                "the adapter answers with values that are not finite", "train again at a lower learning rate"
            )
        elif torch.equal(adapted, plain):
            raise MergeRefusedError(
                "the adapter answers exactly as the base model", "train longer, or at a higher learning rate"
            )

    _with_room_for(base, dtype, device, "the adapter is not compared with the base model", compare)


def _with_room_for(
    model: Path, dtype: torch.dtype, device: torch.device, what: str, compare: Callable[[], Found]
) -> Found | None:
    """What `compare` finds; None, and `what` in the log, where memory has no room for such a model."""
    let_go(device)  # of what was trained
    needed = bytes_to_load(model, dtype)
    if needed > free_bytes(device):
        _log.warning("%s: that takes %.1f GB of memory", what, needed / 1e9)
        return None
    try:
        return compare()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        _log.warning("%s: %s", what, first_line(error))
        return None


def _adapted(
    base: Path, adapter: Path, prompts: Sequence[Sequence[int]], dtype: torch.dtype, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """The logits of the base model, those with the adapter on it, and the two as a model of PEFT's."""
    from peft import PeftModel

    model = _load(base, dtype, device)
    plain = _logits(model, prompts)
    model = PeftModel.from_pretrained(model, adapter)
    return plain, _logits(model, prompts), model


def compare_logits(
    plain: torch.Tensor, adapted: torch.Tensor, rounded: torch.Tensor, merged: torch.Tensor
) -> MergeCheck:
    """Judge the merged model's logits, (prompts, positions, vocab) float32 as all of them.

    Only their differences within a row say which token is likely. So each row is taken without its mean, which may be
    hundreds of times as large (BLOOM's) and would hide what the adapter changes.

    Args:
        plain, adapted: of the base model, and of the adapter on it.
        rounded: as `adapted`, of weights that were rounded again, as merging does.

    Raises:
        MergeRefusedError: the merged model's are not finite, they are the base model's, or they are further from the
            adapter's than twice what rounding does, and than half of what the adapter changes.
    """
    if not merged.isfinite().all():
        raise MergeRefusedError("the merged model answers with values that are not finite", _ADAPTER)
    if torch.equal(merged, plain):
        raise MergeRefusedError(
            "the merged model answers exactly as the base model: what was learnt is lost in rounding",
            "set training.merge_dtype to float32, which repeats no step; train longer, or at a higher learning rate",
        )
    size = centred(adapted).norm()

    def apart(one: torch.Tensor, other: torch.Tensor) -> float:
        return float(centred(one - other).norm() / size)

    learnt, rounding, off = apart(adapted, plain), apart(rounded, adapted), apart(merged, adapted)
    if not off <= max(learnt / 2, _ROUNDING * rounding):
        raise MergeRefusedError(
            f"the merged model does not answer as the adapter does: its logits are {off:.2g} from the adapter's, "
            f"which are {learnt:.2g} from the base model's; rounding moves them by {rounding:.2g}",
            _ADAPTER,
        )
    if learnt <= _ROUNDING * rounding:
        _log.warning("the adapter changes the answers by no more than rounding does: they cannot tell how it is merged")
    return MergeCheck(len(merged), off, apart(merged, plain))


@torch.no_grad()
def _round_anew(model: Any, epsilon: float) -> None:
    """Move each weight under an adapter of PEFT's by up to half of its last digit, at random."""
    random = torch.Generator(model.device).manual_seed(0)
    for name, weight in model.named_parameters():
        if ".base_layer." in name and weight.is_floating_point():
            weight.addcmul_(weight, torch.empty_like(weight).uniform_(-1, 1, generator=random), value=epsilon / 2)


@torch.no_grad()
def _logits(model: Any, prompts: Sequence[Sequence[int]]) -> torch.Tensor:
    """Logits of each prompt's last positions (prompts, positions, vocab), float32; short prompts count from zero."""
    model.eval()
    rows = []
    for prompt in prompts:
        logits = model(input_ids=torch.tensor([prompt], device=model.device)).logits[0, -_POSITIONS:].float().cpu()
        rows.append(torch.nn.functional.pad(logits, (0, 0, _POSITIONS - len(logits), 0)))
    return torch.stack(rows)


def stored_dtype(folder: Path) -> torch.dtype:
    """The type of the weights in the folder's files."""
    from transformers import AutoConfig

    dtype: torch.dtype | None = AutoConfig.from_pretrained(folder).dtype
    return dtype or torch.float32


def _load(folder: Path, dtype: torch.dtype, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, device_map={"": device})
    except Exception as error:  # transformers raises whatever the files make it stumble over
        raise_if_no_fault_of_the_code(error, device)
        reason = first_line(error)
        raise MergeRefusedError(f"cannot load {folder}: {reason}", _ADAPTER) from error
