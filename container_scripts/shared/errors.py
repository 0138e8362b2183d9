"""What a training job, or the look at its base model, raises."""


class TrainingError(Exception):
    """A training that cannot be, or cannot go on: one line of what is wrong, and one of what the user can do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint
