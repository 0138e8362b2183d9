"""What the service refuses: its own model's rules (required, types, patterns, ranges, enums), and one beyond."""

from functools import cache
from typing import Any

import regex  # its patterns name Unicode classes

from lorasum.config.instances import facts_of


class RefusalError(Exception):
    """An error answer of the service."""

    def __init__(self, code: str, message: str, status: int = 400, **more: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.more = more


@cache
def _service(name: str) -> Any:
    from botocore.session import Session

    return Session().get_service_model(name)


def check(operation: str, request: dict[str, Any], service: str = "sagemaker") -> None:
    """Raise a ValidationException unless the request is one the service takes."""
    from botocore.validate import ParamValidator

    shape = _service(service).operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape).generate_report()
    wrong = [report] if report else list(_violations(shape, request, operation))
    if operation == "CreateTrainingJob" and request.get("EnableManagedSpotTraining"):
        condition = request["StoppingCondition"]
        if condition.get("MaxWaitTimeInSeconds", 0) < condition["MaxRuntimeInSeconds"]:
            wrong.append("MaxWaitTimeInSeconds must be at least MaxRuntimeInSeconds")
    if operation == "CreateTrainingJob" and not wrong:
        _check_volume(request["ResourceConfig"])
    if wrong:
        raise RefusalError("ValidationException", f"{len(wrong)} validation error detected: {'; '.join(wrong)}")


def _check_volume(resources: dict[str, Any]) -> None:
    """A volume may not be larger than the instance's own disk. The service does not say so: its message is empty."""
    types = [one["InstanceType"] for one in resources.get("InstancePreferences", [resources])]
    disks = [disk for name in types if (disk := facts_of(name).disk_gb)]
    if resources.get("VolumeSizeInGB", 0) > min(disks, default=10**9):
        raise RefusalError("ValidationException", "")


def _violations(shape: Any, value: Any, where: str) -> Any:
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if name in value:
                yield from _violations(member, value[name], f"{where}.{name}")
    elif shape.type_name == "list":
        yield from _size(shape, len(value), where)
        for item in value:
            yield from _violations(shape.member, item, where)
    elif shape.type_name == "map":
        yield from _size(shape, len(value), where)
        for key, item in value.items():
            yield from _violations(shape.key, key, f"{where} key")
            yield from _violations(shape.value, item, f"{where}.{key}")
    elif shape.type_name == "string":
        yield from _size(shape, len(value), where)
        pattern = shape.metadata.get("pattern")
        if pattern and not regex.fullmatch(pattern, value, regex.DOTALL):
            yield f"{where} {value!r} does not match {pattern}"
        if shape.enum and value not in shape.enum:
            yield (
                f"Value '{value}' at '{where}' failed to satisfy constraint: Member must satisfy enum value set: "
                f"[{', '.join(shape.enum)}]"
            )
    elif shape.type_name in ("integer", "long", "float", "double"):
        yield from _size(shape, value, where)


def _size(shape: Any, size: float, where: str) -> Any:
    limits = shape.metadata
    if size < limits.get("min", size) or size > limits.get("max", size):
        yield f"{where}: {size} is not between {limits.get('min')} and {limits.get('max')}"
