"""The section `sweep`: which keys are tried with which values, how often, and for how much money."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from lorasum.config.section import PositiveInt, Section

Value = bool | int | float | str
"""What a swept key can be set to."""

_SWEPT = ("data.", "lora.", "model.", "quantization", "training.")


class Range(Section):
    """Numbers from `low` to `high`. Where both are whole, so are those that are drawn."""

    low: int | float
    """The least."""
    high: int | float
    """The most."""
    log: bool = False
    """Draw each power of ten equally often, as a learning rate wants it."""

    @model_validator(mode="after")
    def _is_a_range(self) -> "Range":
        if not self.low < self.high:
            raise ValueError("low must be below high")
        if self.log and self.low <= 0:
            raise ValueError("a range with log begins above 0")
        return self


class SweepConfig(Section):
    """What `lorasum sweep` tries. It compares by `training.evaluate`: the test loss, or a ROUGE score. Trials merge
    nothing: `sweep` names the commands that serve the best one, and that make its merged model."""

    keys: Annotated[dict[str, list[Value] | Range], Field(min_length=1, max_length=20)]
    """The keys to try, such as `training.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}` or `lora.r: [8, 32]`:
    keys of `data`, `lora`, `model`, `quantization` and `training`."""
    trials: Annotated[int, Field(gt=0, le=1000)] = 10
    """How many sets of values are tried. More can be asked for later: those that were tried are kept."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Another seed draws other values."""
    at_once: PositiveInt = 1
    """Trials that train at the same time."""
    keep_one_in: PositiveInt = 3
    """After its first, third, ninth evaluation a trial goes on only if it is in the best third of those that came as
    far (asynchronous successive halving, Li et al. 2020). 1: none is stopped early."""
    max_usd: Annotated[float, Field(gt=0)] | None = None
    """USD that all trials together may cost, by the price on demand, which must be known. Each gets a time limit from
    what is left."""

    @field_validator("keys")
    @classmethod
    def _can_be_swept(cls, keys: dict[str, list[Value] | Range]) -> dict[str, list[Value] | Range]:
        for key, values in keys.items():
            if not key.startswith(_SWEPT):
                raise ValueError(f"{key} is not a key of data, lora, model, quantization or training")
            if isinstance(values, list) and not 0 < len(values) <= 1000:
                raise ValueError(f"{key} needs 1 to 1000 values")
        return keys
