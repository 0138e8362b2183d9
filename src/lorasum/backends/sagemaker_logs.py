"""What a container said: its log in CloudWatch."""

from lorasum.backends.sagemaker_requests import metric_event
from lorasum.backends.sagemaker_session import Session, aws_errors, is_missing
from lorasum.errors import BackendError

_LOG_TAIL = 12  # lines
_LONGEST = 300  # characters of a line that is shown


class Log:
    """The lines of the first stream of `group` whose name begins with `prefix`, each once."""

    def __init__(self, session: Session, group: str, prefix: str) -> None:
        self._session = session
        self._group = group
        self._prefix = prefix
        self._stream: str | None = None
        self._token: str | None = None

    def new_lines(self) -> list[str]:
        """What came since the last call; nothing before the container has said its first word."""
        found: list[str] = []
        client = self._session.client("logs")
        while self._stream or self._find():
            token = {"nextToken": self._token} if self._token else {}
            with aws_errors("read the container's log", "logs:GetLogEvents"):
                page = client.get_log_events(
                    logGroupName=self._group, logStreamName=self._stream, startFromHead=True, **token
                )
            found += [event["message"] for event in page["events"]]
            if page["nextForwardToken"] == self._token or not page["events"]:
                self._token = page["nextForwardToken"]
                break
            self._token = page["nextForwardToken"]
        return found

    def tail(self) -> list[str]:
        """Its last lines, without the script's own events."""
        lines = [line.rstrip()[:_LONGEST] for line in self.new_lines() if line.strip() and metric_event(line) is None]
        return lines[-_LOG_TAIL:]

    def _find(self) -> bool:
        try:
            with aws_errors("find the container's log", "logs:DescribeLogStreams"):
                prefix = {"logStreamNamePrefix": self._prefix} if self._prefix else {}
                client = self._session.client("logs")
                streams = client.describe_log_streams(logGroupName=self._group, limit=1, **prefix)["logStreams"]
        except BackendError as error:
            if is_missing(error.__cause__):
                return False
            raise
        self._stream = streams[0]["logStreamName"] if streams else None
        return bool(streams)
