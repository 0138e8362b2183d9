"""AWS's descriptions of its services, read once in this process: half of what a short client costs."""

import functools
import inspect
from typing import Any


def parse_once() -> None:
    """Let all sessions of botocore share what is found and parsed, and the methods, shapes and rules made of it.

    By itself, each session looks through 400 folders and parses megabytes of JSON again, and makes SageMaker's 400
    methods, the shapes of its answers and the rules of its addresses again for each client.
    """
    from botocore import regions
    from botocore.client import ClientCreator
    from botocore.hooks import EVENT_ALIASES, EventAliaser
    from botocore.loaders import JSONFileLoader, Loader

    if hasattr(JSONFileLoader.load_file, "cache_info"):
        return
    JSONFileLoader.load_file = staticmethod(functools.cache(JSONFileLoader().load_file))
    _share(Loader, "_cache")
    _share(EventAliaser, "_alias_name_cache")
    alias, parts = EventAliaser._alias_event_name, {part for part in EVENT_ALIASES if "." not in part}
    several = [part for part in EVENT_ALIASES if "." in part]

    def aliased(self: Any, name: str) -> Any:
        """By itself, it takes a name apart 65 times to see that it has no other."""
        if parts.isdisjoint(name.split(".")) and not any(part in name for part in several):
            return name
        return alias(self, name)

    EventAliaser._alias_event_name = aliased
    ClientCreator._load_service_model = _kept(ClientCreator._load_service_model)
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


def _share(kind: Any, name: str) -> None:
    """Let all objects of a class have one dictionary, which each of them fills."""
    begin, shared = kind.__init__, dict[Any, Any]()

    def begin_with_it(self: Any, *arguments: Any, **named: Any) -> None:
        begin(self, *arguments, **named)
        setattr(self, name, shared)

    kind.__init__ = begin_with_it


def _kept(method: Any) -> Any:
    """A method whose answer depends on its arguments alone, and is kept."""
    kept = dict[tuple[Any, ...], Any]()

    def asked(self: Any, *arguments: Any, **named: Any) -> Any:
        key = (*arguments, *named.items())
        if key not in kept:
            kept[key] = method(self, *arguments, **named)
        return kept[key]

    return asked


def validate_once(resources: Any) -> None:
    """Let the SDK, whose module `resources` this is, make the validator of a method once, and not for each call."""
    validate, made = resources.validate_call, dict[Any, Any]()

    def validator(config: dict[str, Any]) -> Any:
        def of(method: Any) -> Any:
            if method not in made:
                made[method] = validate(config=config)(method)
            return made[method]

        return of

    resources.validate_call = validator
    for kind in (resources.TrainingJob, resources.Model, resources.EndpointConfig, resources.Endpoint):
        for name in {"create", "get", "refresh", "update", "stop", "delete"} & vars(kind).keys():
            validator({"arbitrary_types_allowed": True})(inspect.unwrap(vars(kind)[name]))


@functools.cache
def moto() -> Any:
    """Moto as an application, one for all accounts of this process, which are empty where each begins.

    By itself, it looks through 200 folders for each request.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    found = DomainDispatcherApplication(create_backend_app)
    found.get_backend_for_host = functools.cache(found.get_backend_for_host)
    return found
