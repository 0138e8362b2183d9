"""AWS's descriptions of its services, read once in this process: half of what a short client costs."""

import functools
from typing import Any


def parse_once() -> None:
    """Let all sessions of botocore share what is found and parsed, and the methods and rules made of it.

    By itself, each session looks through 400 folders and parses megabytes of JSON again, and makes SageMaker's 400
    methods and the rules of its addresses again for each client.
    """
    from botocore import regions
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

    provide, rules = regions.EndpointProvider, dict[tuple[int, ...], Any]()

    def provider(ruleset_data: Any, partition_data: Any, excluded_params: Any) -> Any:
        key = id(ruleset_data), id(partition_data), id(excluded_params)  # which are kept, for they are parsed once
        if key not in rules:
            rules[key] = provide(ruleset_data, partition_data, excluded_params)
        return rules[key]

    regions.EndpointProvider = provider


@functools.cache
def moto() -> Any:
    """Moto as an application, one for all accounts of this process, which are empty where each begins.

    By itself, it looks through 200 folders for each request.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    found = DomainDispatcherApplication(create_backend_app)
    found.get_backend_for_host = functools.cache(found.get_backend_for_host)
    return found
