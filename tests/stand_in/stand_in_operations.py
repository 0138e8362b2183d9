"""SageMaker's control plane: each operation a method, its rules those of the service."""

import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import stand_in_rules as rules
from stand_in_aws import ACCOUNT, Aws
from stand_in_endpoints import Endpoint
from stand_in_jobs import Job
from stand_in_rules import RefusalError

_MAX_BODY = 6_291_456


class Operations:
    """All state of the service. One request at a time."""

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.jobs: dict[str, Job] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.tags: dict[str, list[dict[str, str]]] = {}
        self._index: dict[str, list[dict[str, str]]] = {}
        self.quotas: dict[str, int] = {}
        """Those that were changed: name, such as `ml.g5.xlarge for training job usage`, → instances."""
        self.default_quotas = {f"ml.g5.{size}xlarge for training warm pool usage": 0 for size in (2, 4)}
        """The others, as far as they are a limit here."""
        self.sold_out: set[str] = set()
        """Instance types of which no instance is free."""
        self.vpcs_have_egress = True
        """Whether what is in a VPC reaches the internet and AWS; in network isolation nothing does."""
        self.answer_seconds = 60.0
        """How long a container may take to answer a request."""
        self.may_deregister = True
        """Whether the user may turn autoscaling off, which SageMaker does for them when they delete an endpoint."""
        self.late_looks = 0
        """How often a job or an endpoint that was created, or an endpoint's update, is not shown yet."""
        self._lock = threading.RLock()

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        method = getattr(self, operation, None)
        if method is None:
            raise RefusalError("UnknownOperationException", f"the stand-in has no {operation}", 500)
        rules.check(operation, request)
        with self._lock:
            for job in self.jobs.values():
                job.cool()
            self.endpoints = {name: e for name, e in self.endpoints.items() if not e.gone}
            return dict(method(request) or {})

    # training jobs

    def CreateTrainingJob(self, request: dict[str, Any]) -> dict[str, Any]:
        name, resources = request["TrainingJobName"], request["ResourceConfig"]
        types = [one["InstanceType"] for one in resources.get("InstancePreferences", [resources])]
        instance = self._free(types)
        if name in self.jobs:
            raise RefusalError("ResourceInUse", f"Training job names must be unique; {name} exists already")
        spot = request.get("EnableManagedSpotTraining", False)
        running = [job for job in self.jobs.values() if job.occupies(instance, spot)]
        if instance:
            self._refuse_beyond_quota(f"{instance} for {'spot ' if spot else ''}training job usage", len(running))
        arn = self._arn("training-job", name, request)
        warm = self._quota(f"{instance} for training warm pool usage") > 0
        network, take = self._has_network(request), partial(self._take_warm, request)
        self.jobs[name] = Job(request, arn, self.aws, instance, warm, network, take)
        self.jobs[name].late = self.late_looks
        self.jobs[name].start()
        return {"TrainingJobArn": arn}

    def DescribeTrainingJob(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._job(request).shown()

    def StopTrainingJob(self, request: dict[str, Any]) -> None:
        job = self._job(request)
        if job.description["TrainingJobStatus"] != "InProgress":
            raise RefusalError("ValidationException", "The training job has ended: it cannot be stopped")
        job.stop()

    def DeleteTrainingJob(self, request: dict[str, Any]) -> None:
        job = self._job(request)
        if job.description["TrainingJobStatus"] in ("InProgress", "Stopping"):
            raise RefusalError("ValidationException", "The training job has not ended: it cannot be deleted")
        del self.jobs[request["TrainingJobName"]]

    def UpdateTrainingJob(self, request: dict[str, Any]) -> dict[str, Any]:
        job = self._job(request)
        if not job.warm:
            raise RefusalError("ValidationException", "The training job has no warm pool to update")
        if request["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 0:
            job.release("Terminated")
        return {"TrainingJobArn": job.description["TrainingJobArn"]}

    def ListTrainingJobs(self, request: dict[str, Any]) -> dict[str, Any]:
        rows = [job.description for job in self.jobs.values() if job.late == 0]
        if status := request.get("StatusEquals"):
            rows = [row for row in rows if row["TrainingJobStatus"] == status]
        if status := request.get("WarmPoolStatusEquals"):
            rows = [row for row in rows if row.get("WarmPoolStatus", {}).get("Status") == status]
        return {"TrainingJobSummaries": _named(rows, "TrainingJobName", request)}

    # models, endpoint configurations, endpoints

    def CreateModel(self, request: dict[str, Any]) -> dict[str, Any]:
        arn = self._new("model", request["ModelName"], self.models, request)
        return {"ModelArn": arn}

    def DescribeModel(self, request: dict[str, Any]) -> dict[str, Any]:
        return _known(self.models, request["ModelName"], "model")

    def DeleteModel(self, request: dict[str, Any]) -> None:
        _known(self.models, request["ModelName"], "model")
        del self.models[request["ModelName"]]

    def ListModels(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"Models": _named(self.models.values(), "ModelName", request)}

    def CreateEndpointConfig(self, request: dict[str, Any]) -> dict[str, Any]:
        for variant in request["ProductionVariants"]:
            _known(self.models, variant["ModelName"], "model")
        arn = self._new("endpoint-config", request["EndpointConfigName"], self.configs, request)
        return {"EndpointConfigArn": arn}

    def DescribeEndpointConfig(self, request: dict[str, Any]) -> dict[str, Any]:
        return _known(self.configs, request["EndpointConfigName"], "endpoint configuration")

    def DeleteEndpointConfig(self, request: dict[str, Any]) -> None:
        name = request["EndpointConfigName"]
        _known(self.configs, name, "endpoint configuration")
        if any(endpoint.description["EndpointConfigName"] == name for endpoint in self.endpoints.values()):
            raise RefusalError("ValidationException", f"Cannot delete {name}: an endpoint uses it")
        del self.configs[name]

    def ListEndpointConfigs(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"EndpointConfigs": _named(self.configs.values(), "EndpointConfigName", request)}

    def CreateEndpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["EndpointName"]
        if name in self.endpoints:
            raise RefusalError("ValidationException", f"Cannot create already existing endpoint {name!r}")
        config, model = self._configured(request["EndpointConfigName"])
        variant = config["ProductionVariants"][0]
        instance = self._free([one["InstanceType"] for one in variant.get("InstancePools", [variant])])
        self._refuse_beyond_quota(f"{instance} for endpoint usage", self._serving(instance))
        arn = self._arn("endpoint", name, request)
        self.endpoints[name] = Endpoint(name, arn, config, model, self.aws, instance, self._has_network(model))
        self.endpoints[name].late = self.late_looks, None
        return {"EndpointArn": arn}

    def UpdateEndpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        endpoint = self._endpoint(request)
        _refuse_moving(endpoint)
        self._refuse_scaled(request["EndpointName"])
        config, model = self._configured(request["EndpointConfigName"])
        kind = config["ProductionVariants"][0].get("InstanceType", endpoint.instance_type)
        self._refuse_beyond_quota(f"{kind} for endpoint usage", self._serving(kind) + endpoint.instances - 1)
        endpoint.network, endpoint.late = self._has_network(model), (self.late_looks, dict(endpoint.description))
        endpoint.update(config, model, keep_size=request.get("RetainAllVariantProperties", False))
        return {"EndpointArn": endpoint.description["EndpointArn"]}

    def UpdateEndpointWeightsAndCapacities(self, request: dict[str, Any]) -> dict[str, Any]:
        endpoint = self._endpoint(request)
        _refuse_moving(endpoint)
        self._refuse_scaled(request["EndpointName"])
        [wanted] = request["DesiredWeightsAndCapacities"]
        endpoint.resize(wanted["DesiredInstanceCount"])
        return {"EndpointArn": endpoint.description["EndpointArn"]}

    def DescribeEndpoint(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._endpoint(request).shown()

    def DeleteEndpoint(self, request: dict[str, Any]) -> None:
        endpoint = self._endpoint(request)
        _refuse_moving(endpoint)
        if self.aws.scaled(request["EndpointName"]) and not self.may_deregister:
            action = "application-autoscaling:DeregisterScalableTarget"
            raise RefusalError("AccessDeniedException", f"User: ana is not authorized to perform: {action}")
        self.aws.stop_scaling(request["EndpointName"])
        endpoint.delete()

    def ListEndpoints(self, request: dict[str, Any]) -> dict[str, Any]:
        shown = [e.description for e in self.endpoints.values() if e.late[0] == 0]
        return {"Endpoints": _named(shown, "EndpointName", request)}

    def AddTags(self, request: dict[str, Any]) -> dict[str, Any]:
        known = {tag["Key"]: tag["Value"] for tag in self.tags[request["ResourceArn"]] + request["Tags"]}
        self.tags[request["ResourceArn"]] = [{"Key": key, "Value": value} for key, value in known.items()]
        return {"Tags": self.tags[request["ResourceArn"]]}

    def ListTags(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"Tags": self.tags.get(request["ResourceArn"], [])}

    def indexed_tags(self, arns: list[str]) -> dict[str, list[dict[str, str]]]:
        """The tagging API's answer. Its index lags: it shows what was there when it was last asked, gone or not."""
        with self._lock:
            found = {arn: self._index[arn] for arn in arns if self._index.get(arn)}
            self._index = {arn: list(tags) for arn, tags in self.tags.items()}
        return found

    def invoke(self, name: str, body: bytes, headers: dict[str, str]) -> bytes:
        """InvokeEndpoint."""
        if len(body) > _MAX_BODY:
            raise RefusalError("ValidationError", f"Request body is {len(body)} bytes; the limit is {_MAX_BODY}", 413)
        endpoint = self.endpoints.get(name)
        server = endpoint.server if endpoint and endpoint.description["EndpointStatus"] != "Deleting" else None
        if server is None:
            raise RefusalError("ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
        answer = server.invoke(body, headers, self.answer_seconds)
        capture = endpoint.config.get("DataCaptureConfig", {}) if endpoint else {}
        if capture.get("EnableCapture"):  # of every request, whatever the share
            self.aws.keep(f"{capture['DestinationS3Uri']}/{name}/AllTraffic/{time.time_ns()}.jsonl", body + answer)
        return answer

    def close(self) -> None:
        for job in self.jobs.values():
            job.forget()
            if job.process and job.process.poll() is None:
                job.process.kill()
        for endpoint in self.endpoints.values():
            if endpoint.server:
                endpoint.server.close()

    def _refuse_beyond_quota(self, name: str, used: int) -> None:
        if used >= self._quota(name):
            limit = f"The account-level service limit '{name}' is {self._quota(name)} Instances, with {used} in use"
            raise RefusalError("ResourceLimitExceeded", limit)

    def _serving(self, instance: str | None) -> int:
        """Instances of a type that endpoints run on."""
        return sum(endpoint.instances for endpoint in self.endpoints.values() if endpoint.instance_type == instance)

    def _has_network(self, request: dict[str, Any]) -> bool:
        """Whether the containers of a job or a model have one."""
        if request.get("EnableNetworkIsolation"):
            return False
        return self.vpcs_have_egress or "VpcConfig" not in request

    def _free(self, types: list[str]) -> str | None:
        """The first instance type of which one is free."""
        return next((name for name in types if name not in self.sold_out), None)

    def _quota(self, name: str) -> int:
        return {**self.default_quotas, **self.quotas}.get(name, 99)

    def _refuse_scaled(self, endpoint: str) -> None:
        if self.aws.scaled(endpoint):
            said = "The variant(s) must be deregistered as scalable targets with AWS Auto Scaling first"
            raise RefusalError("ValidationException", said)

    def _job(self, request: dict[str, Any]) -> Job:
        if request["TrainingJobName"] not in self.jobs:
            raise RefusalError("ValidationException", "Requested resource not found.")
        return self.jobs[request["TrainingJobName"]]

    def _endpoint(self, request: dict[str, Any]) -> Endpoint:
        if request["EndpointName"] not in self.endpoints:
            raise RefusalError("ValidationException", f'Could not find endpoint "{request["EndpointName"]}".')
        return self.endpoints[request["EndpointName"]]

    def _take_warm(self, request: dict[str, Any]) -> Path | None:
        """The cache of a warm instance that a pending job takes. Until then it can be released under the job."""
        with self._lock:
            for job in self.jobs.values():
                job.cool()
                if job.warm and _suits(job.request, request):
                    job.release("Reused")
                    return job.cache
        return None

    def _configured(self, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
        config = _known(self.configs, name, "endpoint configuration")
        return config, _known(self.models, config["ProductionVariants"][0]["ModelName"], "model")

    def _new(self, kind: str, name: str, there: dict[str, dict[str, Any]], request: dict[str, Any]) -> str:
        if name in there:
            raise RefusalError("ValidationException", f"Cannot create already existing {kind} {name!r}.")
        arn = self._arn(kind, name, request)
        field = {"model": "ModelArn", "endpoint-config": "EndpointConfigArn"}[kind]
        kept = {key: value for key, value in request.items() if key != "Tags"}
        there[name] = kept | {field: arn, "CreationTime": time.time()}
        return arn

    def _arn(self, kind: str, name: str, request: dict[str, Any]) -> str:
        arn = f"arn:{self.aws.partition}:sagemaker:{self.aws.region}:{ACCOUNT}:{kind}/{name}"
        self.tags[arn] = request.get("Tags", [])
        return arn


def _suits(kept: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Whether the instance that is kept after a job is one that another job asks for, for however long it is kept."""
    ours, theirs = ({**one["ResourceConfig"], "KeepAlivePeriodInSeconds": 0} for one in (kept, asked))
    apart = ("RoleArn", "VpcConfig", "EnableNetworkIsolation", "EnableManagedSpotTraining")
    return ours == theirs and all(kept.get(name) == asked.get(name) for name in apart)


def _known(there: dict[str, dict[str, Any]], name: str, kind: str) -> dict[str, Any]:
    if name not in there:
        raise RefusalError("ValidationException", f'Could not find {kind} "{name}".')
    return there[name]


def _named(rows: Any, field: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in rows if request.get("NameContains", "") in row[field]]


def _refuse_moving(endpoint: Endpoint) -> None:
    """It says so of a deletion, too."""
    status = endpoint.description["EndpointStatus"]
    if status in ("Creating", "Updating", "RollingBack", "Deleting"):
        arn = endpoint.description["EndpointArn"]
        raise RefusalError("ValidationException", f'Cannot update in-progress endpoint "{arn}".')
