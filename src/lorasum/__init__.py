"""lorasum: from chat logs to a fine-tuned summariser behind an endpoint, and back to zero cost."""

__version__ = "0.1.0"
