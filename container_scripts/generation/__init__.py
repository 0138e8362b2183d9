"""Completes prompts with a model, while serving and while training."""
