"""Push: put the trained model, or its adapter alone, into a repository of the Hugging Face hub."""

from pathlib import Path
from typing import Any

from lorasum.context import RunContext
from lorasum.errors import LorasumError
from lorasum.formatting import counted
from lorasum.lifecycle.artifacts import artifact_folder
from lorasum.lifecycle.lookup import chosen_job
from lorasum.models.hub import push_files
from lorasum.results.serving import EvaluateResult
from lorasum.results.sharing import PushResult
from lorasum.scoring import evaluation_files
from lorasum.scoring.evaluation import TUNED
from lorasum.shared.names import ADAPTER_FOLDER, BASE_SUMMARIES_FILE

_CARD = "README.md"
_FIGURES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "chrf": "chrF"}


def push(
    run: RunContext, repository: str, adapter: bool = False, public: bool = False, job: str | None = None
) -> PushResult:
    """Upload the artifact of a completed job as one commit. Its model card gets the scores of its evaluation.

    Args:
        repository: owner/name; made if there is none.
        adapter: upload the adapter alone, which needs its base model.
        public: whether everybody may see it.
        job: the completed job; by default the newest of this config.

    Raises:
        LorasumError: nothing is trained, the artifact is damaged, or the hub refuses.
    """
    chosen = chosen_job(run, job, merged=not adapter)
    below = f"{ADAPTER_FOLDER}/" if adapter else ""
    folder = artifact_folder(run.backend, chosen, below) / below
    files: dict[str, Path | bytes] = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    if not adapter:
        files = {name: path for name, path in files.items() if not name.startswith(f"{ADAPTER_FOLDER}/")}
    files.pop(BASE_SUMMARIES_FILE, None)  # it tells of the user's own chats
    if not files:
        raise LorasumError(f"the artifact of job {chosen.name} has no files", "run `lorasum train` again")
    evaluation = evaluation_files.newest(run.name, chosen.artifact)
    if evaluation and _CARD in files:
        files[_CARD] = card_with_scores((folder / _CARD).read_text(encoding="utf-8"), run.name, evaluation[0]).encode()
    what = "adapter" if adapter else "merged model"
    run.reporter.step(f"uploading {counted(len(files), 'file')} to {repository}, {'public' if public else 'private'}")
    address = push_files(repository, files, not public, f"The {what} of {chosen.name}, by lorasum")
    return PushResult(run.name, chosen.name, repository, address, not public, "adapter" if adapter else "merged_model")


def card_with_scores(card: str, name: str, evaluation: EvaluateResult) -> str:
    """A model card with the scores of the tuned model, for people and in its metadata."""
    from huggingface_hub import EvalResult, ModelCard

    scores = evaluation.scores[TUNED]
    found: Any = ModelCard(card)
    found.data.model_name = name
    found.data.eval_results = [
        EvalResult(
            task_type="summarization",
            dataset_type="dialogues",
            dataset_name=f"{evaluation.examples} test dialogues",
            dataset_split="test",
            metric_type="chrf" if key == "chrf" else "rouge",
            metric_name=label,
            metric_value=round(getattr(scores, key).mean, 2),
        )
        for key, label in _FIGURES.items()
    ]
    head = f"| | {' | '.join(_FIGURES.values())} | no unsupported facts |\n|---|{'---:|' * (len(_FIGURES) + 1)}\n"
    rows = "".join(
        f"| {who} | {' | '.join(f'{getattr(one, key).mean:.1f}' for key in _FIGURES)} | {one.faithful.mean:.0%} |\n"
        for who, one in evaluation.scores.items()
    )
    said = f"Means over {evaluation.examples} test dialogues that it was not trained on."
    return f"{found}\n## Scores\n\n{said}\n\n{head}{rows}"
