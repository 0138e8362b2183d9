"""AWS's descriptions of its services, read once in this process: half of what a short client costs."""

import functools
from typing import Any


def parse_once() -> None:
    """Let all sessions of botocore share what is found and parsed, and the methods made of it.

    By itself, each session looks through 400 folders and parses megabytes of JSON again, and makes SageMaker's 400
    methods again for each client.
    """
    from botocore.client import ClientCreator
    from botocore.loaders import JSONFileLoader, Loader

    if hasattr(JSONFileLoader.load_file, "cache_info"):
        return
    JSONFileLoader.load_file = staticmethod(functools.cache(JSONFileLoader().load_file))
    begin, found = Loader.__init__, dict[Any, Any]()

    def with_what_is_found(self: Any, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        self._cache = found

    Loader.__init__ = with_what_is_found
    make, made = ClientCreator._create_methods, dict[str, dict[str, Any]]()

    def methods(self: Any, service_model: Any) -> dict[str, Any]:
        name = service_model.service_name
        if name not in made:
            made[name] = make(self, service_model)
        return dict(made[name])

    ClientCreator._create_methods = methods
