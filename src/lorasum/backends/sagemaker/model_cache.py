"""Base models of the hub in S3: each revision once, for all runs of a bucket and prefix.

s3://<bucket>/<prefix>/_models/<owner>--<name>/<commit>/        the files that transformers loads
                                              <commit>.json     written last: how many files and bytes there are

No run's folder begins with an underscore, so no run's teardown deletes it.
"""

import json

from lorasum.aws import aws_errors
from lorasum.backends.sagemaker import deletion, storage
from lorasum.backends.sagemaker.layout import S3Layout
from lorasum.backends.sagemaker.session import Session
from lorasum.models.hub import asking_hub, hub_commit, hub_error
from lorasum.models.source import ModelRef, check_folder
from lorasum.shared.base_download import download_base


def wants(session: Session, model: ModelRef) -> bool:
    """Whether this model is kept in S3 for all runs: one of the hub, if the config says so."""
    return session.config.model_cache and model.path is None


def uri(layout: S3Layout, model: ModelRef) -> str:
    """The S3 folder of a model whose revision is known; it ends in a slash."""
    return f"{layout.shared_models}{model.id.replace('/', '--')}/{model.revision or 'main'}/"


def filled(session: Session, layout: S3Layout, model: ModelRef) -> str:
    """The S3 folder of the model, after downloading and uploading it if it is not there or not whole.

    Raises:
        ModelError: the hub has none of this name, it cannot be downloaded, or it is not a model that can be trained.
        BackendError: it cannot be uploaded.
    """
    model = ModelRef(model.id, hub_commit(model.id, model.revision, "model"))
    folder = uri(layout, model)
    marker = folder.rstrip("/") + ".json"
    if (known := storage.read(session, marker)) and known == _counted(*storage.contents(session, folder)):
        return folder
    session.reporter.step(f"downloading {model.id} from the hub, once for all runs")
    try:
        with asking_hub():
            here = download_base(model.id, model.revision)
    except Exception as error:  # whatever its HTTP client raises
        raise hub_error(error, model.id, "model") from error
    check_folder(here)
    deletion.abort_old_uploads(session, layout.shared_models)
    storage.upload(session, storage.folder_files(here), folder, f"uploading {model.id}")
    bucket, key = storage.split_uri(marker)
    with aws_errors(f"write {marker}", "s3:PutObject"):
        session.client("s3").put_object(
            Bucket=bucket, Key=key, Body=_counted(*storage.contents(session, folder)), **session.encryption
        )
    return folder


def _counted(files: int, size: int) -> bytes:
    return json.dumps({"files": files, "bytes": size}).encode()
