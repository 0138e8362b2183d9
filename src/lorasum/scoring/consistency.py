"""Does the dialogue entail the summary? Asked of a model that was trained to classify such pairs (NLI, or HHEM).

Each sentence of a summary is put beside the dialogue, and the model says how probably the one follows from the other.
The summary's consistency is the mean over its sentences. A dialogue that is too long for the model is read in windows
of whole lines, of which the best one counts for a sentence (Laban et al., "SummaC", 2022, zero-shot). The model runs on
this machine, so no dialogue leaves it.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import regex

from lorasum.errors import LorasumError, ModelError
from lorasum.models.hub import asking_hub, hub_error
from lorasum.models.quiet import quiet_transformers
from lorasum.shared.words import sentences
from lorasum.system.batched import batched
from lorasum.system.files import first_line

if TYPE_CHECKING:
    from lorasum.config.schema import ConsistencyConfig

_ENTAILS = frozenset(("entailment", "entail", "entails", "entailed", "consistent", "supported", "faithful", "factual"))
"""What models call the label that says yes, in small letters."""
_CHOOSE = "choose another evaluate.consistency_model.id"
_BATCH = 16  # pairs at once
_BEHIND_PADDING = 2  # positions that RoBERTa and its kind do not use for tokens


class Consistency:
    """A loaded model that scores summaries.

    Args:
        config: names the model: a hub id at a commit, or a folder. Code that comes with a model is never run.

    Raises:
        LorasumError: torch is not installed.
        ModelError: there is no such model, it is no classifier of pairs, or its labels do not say which means yes.
    """

    def __init__(self, config: "ConsistencyConfig") -> None:
        self._tokenizer, self._model = _load(config)
        self._label = _entailment(self._model.config, config)
        positions = getattr(self._model.config, "max_position_embeddings", None) or 512
        self._room = min(self._tokenizer.model_max_length, positions - _BEHIND_PADDING)
        self._room -= self._tokenizer.num_special_tokens_to_add(pair=True)

    def score(self, dialogue: str, summary: str) -> float:
        """How probably the dialogue entails the summary, 0 to 1; 1 for an empty one, which claims nothing."""
        claims = [part for sentence in sentences(summary) for part in self._parts(sentence, self._room // 2)]
        pairs = [
            (number, window, claim)
            for number, claim in enumerate(claims)
            for window in self._windows(dialogue, self._room - self._length(claim))
        ]
        best = [0.0] * len(claims)
        for some in batched(pairs, _BATCH):
            found = self._probabilities([pair[1:] for pair in some])
            for (number, *_), probability in zip(some, found, strict=True):
                best[number] = max(best[number], probability)
        return sum(best) / len(best) if best else 1.0

    def _probabilities(self, pairs: Sequence[tuple[str, ...]]) -> list[float]:
        """The probability of entailment of (window, claim) pairs."""
        import torch

        texts, claims = zip(*pairs, strict=True)
        encoded = self._tokenizer(list(texts), list(claims), padding=True, return_tensors="pt")
        with torch.inference_mode():
            logits = self._model(**encoded.to(self._model.device)).logits.float()
        if logits.shape[1] == 1:
            found: list[float] = logits[:, 0].sigmoid().tolist()
        else:
            found = logits.softmax(1)[:, self._label].tolist()
        return found

    def _windows(self, dialogue: str, room: int) -> list[str]:
        """Runs of lines of at most `room` tokens. Each begins with the last line of the one before, if that fits."""
        windows: list[list[str]] = [[]]
        for line in (part for whole in dialogue.splitlines() for part in self._parts(whole, room)):
            if windows[-1] and self._length("\n".join([*windows[-1], line])) > room:
                before = windows[-1][-1]
                windows.append([before] if self._length(f"{before}\n{line}") <= room else [])
            windows[-1].append(line)
        return ["\n".join(lines) for lines in windows]

    def _parts(self, text: str, room: int) -> list[str]:
        """`text`, divided at spaces, or within a word, into parts of at most `room` tokens."""
        if self._length(text) <= room or len(text) < 2:
            return [text]
        middle = text.rfind(" ", 1, len(text) // 2) + 1 or len(text) // 2
        return [part for half in (text[:middle], text[middle:]) for part in self._parts(half.strip(), room)]

    def _length(self, text: str) -> int:
        return len(self._tokenizer(text, add_special_tokens=False).input_ids)


def _load(config: "ConsistencyConfig") -> tuple[Any, Any]:
    """The tokenizer and the model, on the GPU if there is one."""
    try:
        import torch
    except ImportError as error:
        raise LorasumError(
            "evaluate.consistency_model runs on this machine, and torch is not installed",
            "pip install 'lorasum[local]'",
        ) from error
    with quiet_transformers(), asking_hub() if config.revision else nullcontext():
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        source = {"revision": config.revision} if config.revision else {}
        try:
            tokenizer = AutoTokenizer.from_pretrained(config.id, trust_remote_code=False, **source)
            model, about = AutoModelForSequenceClassification.from_pretrained(
                config.id, trust_remote_code=False, output_loading_info=True, **source
            )
        except Exception as error:  # OSError, ValueError or the libraries' own
            raise _unusable(error, config) from error
    if about["missing_keys"]:
        raise ModelError(
            f"{config.id} is not a classifier: its files have no {sorted(about['missing_keys'])[0]}",
            "choose a model that was trained for natural language inference (NLI), such as a cross-encoder",
        )
    return tokenizer, model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def _unusable(error: Exception, config: "ConsistencyConfig") -> LorasumError:
    if "trust_remote_code" in str(error):
        return ModelError(f"{config.id} brings code of its own, which is not run", _CHOOSE)
    if Path(config.id).is_dir():
        return ModelError(f"{config.id} cannot be loaded: {first_line(error)}", _CHOOSE)
    if config.revision is None:
        return ModelError(f"there is no folder {config.id}", _CHOOSE)
    found = hub_error(error, config.id, "model")
    return type(found)(found.message, "check evaluate.consistency_model and the network")


def _entailment(model: Any, config: "ConsistencyConfig") -> int:
    """The number of the label that means yes."""
    labels = {str(name): int(number) for number, name in model.id2label.items()}
    if config.label is not None and config.label in labels:
        return labels[config.label]
    if config.label is None and len(labels) == 1:
        return 0
    if config.label is None:
        meaning = [number for name, number in labels.items() if regex.sub(r"\P{L}", "", name.lower()) in _ENTAILS]
        if len(meaning) == 1:
            return meaning[0]
    asked = f"none is {config.label!r}" if config.label is not None else "none of them says which means entailment"
    raise ModelError(
        f"the labels of {config.id} are {', '.join(labels)}: {asked}",
        "set evaluate.consistency_model.label to the one that means that the summary follows from the dialogue",
    )
