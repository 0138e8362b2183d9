"""Export: write the trained model as a file of another program's format."""

from pathlib import Path

from lorasum.backends.records import JobRef
from lorasum.context import RunContext
from lorasum.errors import LorasumError
from lorasum.lifecycle.artifacts import artifact_folder, check_artifact
from lorasum.lifecycle.lookup import chosen_job
from lorasum.models.gguf_architecture import architecture_of
from lorasum.models.gguf_export import export_gguf
from lorasum.results.sharing import ExportResult
from lorasum.system.files import writing


def export(run: RunContext, gguf: Path, job: str | None = None, force: bool = False) -> ExportResult:
    """Write the merged model of a completed job as a GGUF file.

    Args:
        gguf: the file.
        job: the completed job; by default the newest of this config.
        force: replace a file that is there.

    Raises:
        LorasumError: nothing is trained, the artifact is damaged, or the file is there or cannot be written.
        ModelError: the model is of a kind that is not written right.
    """
    if gguf.exists() and not force:
        raise LorasumError(f"{gguf} is there already", "name another file, or say --force")
    chosen = chosen_job(run, job, merged=True)
    reference = JobRef(chosen.name, chosen.location)
    check_artifact(run.backend, reference)
    if config := run.backend.artifact_file(reference, "config.json"):  # before gigabytes are copied here
        architecture_of(config)
    folder = artifact_folder(run.backend, chosen)
    run.reporter.step(f"writing {gguf}")
    with writing(gguf):
        exported = export_gguf(folder, gguf, run.name)
    return ExportResult(
        run.name, chosen.name, str(gguf.absolute()), gguf.stat().st_size, exported.architecture, exported.tensors
    )
