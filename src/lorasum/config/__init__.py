"""One YAML file describes a run: schema.py says what may stand in it, loader.py reads it."""
