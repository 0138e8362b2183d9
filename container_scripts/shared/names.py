"""Names that the client and its containers both know: columns, files, folders, channels and variables.

It needs the standard library only, as the rest of what start.py reads before anything is installed.
"""

from pathlib import Path
from typing import Final

# The prepared dataset: one row is one pack.
INPUT_IDS: Final = "input_ids"
"""The tokens of all examples of the pack, one example after another."""
EXAMPLE_LENGTHS: Final = "example_lengths"
"""Tokens of each example, in order; they sum to the length of `input_ids`."""
PROMPT_LENGTHS: Final = "prompt_lengths"
"""Tokens of each example that stand before its completion."""
COLUMNS: Final = (INPUT_IDS, EXAMPLE_LENGTHS, PROMPT_LENGTHS)

# Files.
MANIFEST_FILE: Final = "manifest.json"
"""In the dataset's folder: what the dataset is. Written last."""
TEST_FILE: Final = "test.jsonl"
"""In the dataset's folder: the test examples as text, a `HeldOutExample` a line."""
RECORD_FILE: Final = "lorasum.json"
"""In an artifact's folder, and in that of its adapter: an `ArtifactRecord`. Written last."""
BASE_SUMMARIES_FILE: Final = "base_summaries.json"
"""In an artifact's folder: a `BaseSummaries`. A job without time for it has none."""
FAILURE_FILE: Final = "failure"
"""In the output folder: why the job failed, as `failure_text` writes it."""
METRICS_FILE: Final = "metrics.jsonl"
"""In the output data folder: the job's events, one a line."""
ADAPTER_FOLDER: Final = "adapter"
"""In an artifact's folder: the adapter alone, which serves itself on its base model."""
CODE_FOLDER: Final = "code"
"""In an artifact's folder: what serves it."""
ANSWERS_FOLDER: Final = "answers"
"""In a batch job's artifact: its answers, in files of the names of the files of prompts."""
TENSORBOARD_FOLDER: Final = "tensorboard"
"""In the output folder: the event files of TensorBoard, which SageMaker copies to S3 while the job runs."""

# Channels: folders below /opt/ml/input/data.
CHANNEL_TRAINING: Final = "training"
CHANNEL_MODEL: Final = "model"
CHANNEL_CODE: Final = "code"
CHANNEL_BASE: Final = "base"
"""What an earlier job has had the base model say: `BASE_SUMMARIES_FILE`."""
CHANNEL_WHEELS: Final = "wheels"
"""The pinned packages as wheels, for a container without network."""

# Environment variables.
SM_CHANNEL_TRAINING: Final = "SM_CHANNEL_TRAINING"
SM_CHANNEL_MODEL: Final = "SM_CHANNEL_MODEL"
SM_CHANNEL_BASE: Final = "SM_CHANNEL_BASE"
SM_MODEL_DIR: Final = "SM_MODEL_DIR"
SM_OUTPUT_DIR: Final = "SM_OUTPUT_DIR"
SM_OUTPUT_DATA_DIR: Final = "SM_OUTPUT_DATA_DIR"
SM_HOSTS: Final = "SM_HOSTS"
"""The machines of the job, a JSON list of their names."""
SM_CURRENT_HOST: Final = "SM_CURRENT_HOST"
"""The name of this machine."""
PROGRAM: Final = "LORASUM_PROGRAM"
"""The container script that start.py becomes; default: train.py."""
HUB_TOKEN_ARN: Final = "LORASUM_HUB_TOKEN_ARN"  # noqa: S105  the name of a variable
"""ARN of the secret that holds the hub's token."""
BASE_MODEL: Final = "LORASUM_BASE_MODEL"
"""Folder, or hub id with an optional @revision, of the model to serve instead of the artifact's own."""
ADAPTERS: Final = "LORASUM_ADAPTERS"
"""The adapters that are served on `BASE_MODEL`, a JSON object: name → folder. A request that names none gets the first.
"""
EXPECT_GPU: Final = "LORASUM_EXPECT_GPU"
"""1 on an instance type with a GPU: a container that cannot use one ends at once."""
NO_NETWORK: Final = "LORASUM_NO_NETWORK"
"""1 where the container has no network: pip must not ask for it."""
MAX_SECONDS: Final = "LORASUM_MAX_SECONDS"
"""How long the training job may take. Where no service ends it then, it ends itself."""
BASE_AS_TRAINED: Final = "LORASUM_BASE_AS_TRAINED"
"""1 where the base model is asked with the prompt of the training, although it has a chat format of its own."""
BASE_SECONDS: Final = "LORASUM_BASE_SECONDS"
"""How long the training job may let the base model summarise test dialogues at its end."""
ADAPTER_ONLY: Final = "LORASUM_ADAPTER_ONLY"
"""1 where the training job leaves its adapter alone, because nobody has asked for a merged model."""
STEPS_DONE: Final = "LORASUM_STEPS_DONE"
"""1 where an earlier job has done the steps, from whose checkpoints this one goes on."""
REPORT_TO: Final = "LORASUM_REPORT_TO"
"""Names of the trackers that get the job's figures, with commas between them."""
TRACKER_KEYS_ARN: Final = "LORASUM_TRACKER_KEYS_ARN"
"""ARN of the secret that holds the trackers' keys."""
PROCESSES: Final = "LORASUM_PROCESSES"
"""How many training processes to start on this machine; 1 if it is not set."""
GPU_BYTES: Final = "LORASUM_GPU_BYTES"
"""Free bytes of the GPUs that memory_plan.py is to plan for, as a JSON list."""
RENDEZVOUS: Final = "LORASUM_RENDEZVOUS"
"""Where the processes of one machine find each other: a URL that torch.distributed takes, such as file:///tmp/x."""
LAUNCHED: Final = "LORASUM_LAUNCHED"
"""1 for a training process whose standard input ends when the process that started it does."""
HUB_CACHE: Final = "/tmp/huggingface"  # noqa: S108
"""Value of HF_HOME in a container on SageMaker: downloads go to the volume, because the image's root is small."""

WARM_CACHE: Final = "SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY"
"""SageMaker's own: a folder that stays for the next job on an instance that is kept warm."""

# Serving.
SERVING_FILES: Final = ("inference.py", "gpu.py", "hub_token.py")
SERVING_FOLDERS: Final = ("generation", "shared")
"""The container scripts that serve a model. They are copied into the code folder of an artifact, or of a base model."""
SERVING_REQUIREMENTS: Final = "requirements-serve.txt"
"""Their pins. In a code folder the file is called requirements.txt."""


def folders_of(root: Path) -> dict[str, str]:
    """The variables that name a job's folders below `root`, which is /opt/ml in a container."""
    data, output = root / "input" / "data", root / "output"
    folders = {
        SM_CHANNEL_TRAINING: data / CHANNEL_TRAINING,
        SM_MODEL_DIR: root / "model",
        SM_OUTPUT_DIR: output,
        SM_OUTPUT_DATA_DIR: output / "data",
    }
    optional = {SM_CHANNEL_MODEL: data / CHANNEL_MODEL, SM_CHANNEL_BASE: data / CHANNEL_BASE}
    folders |= {name: folder for name, folder in optional.items() if folder.is_dir()}
    return {name: str(folder) for name, folder in folders.items()}


def serving_files(scripts: Path) -> dict[str, Path]:
    """What a code folder holds, by its path there, from the folder of the container scripts."""
    modules = [scripts / name for name in SERVING_FILES]
    modules += [path for folder in SERVING_FOLDERS for path in sorted((scripts / folder).glob("*.py"))]
    files = {path.relative_to(scripts).as_posix(): path for path in modules}
    return {**files, "requirements.txt": scripts / SERVING_REQUIREMENTS}
