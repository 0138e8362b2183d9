"""AWS's descriptions of its services, parsed once in this process: half of what a short client costs."""

import functools


def parse_once() -> None:
    """Let all sessions of botocore share what is parsed; by itself, each parses megabytes of JSON anew."""
    from botocore.loaders import JSONFileLoader

    if not hasattr(JSONFileLoader.load_file, "cache_info"):
        parsed = functools.cache(JSONFileLoader().load_file)
        JSONFileLoader.load_file = staticmethod(parsed)
