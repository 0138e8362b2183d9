"""What a container said: its log in CloudWatch."""

from lorasum.aws import aws_errors, is_missing
from lorasum.backends.sagemaker.session import Session
from lorasum.contract import read_event
from lorasum.errors import BackendError

_LOG_TAIL = 12  # lines
_LONGEST = 300  # characters of a line that is shown


class Log:
    """The lines of the streams of `group` whose names begin with `prefix`, each once.

    There may be several: a job that lost its spot instance goes on in a new one.
    """

    def __init__(self, session: Session, group: str, prefix: str) -> None:
        self._session = session
        self._group = group
        self._prefix = prefix
        self._tokens: dict[str, str] = {}  # by stream: up to where it is read

    def new_lines(self) -> list[str]:
        """What came since the last call; nothing before the container has said its first word."""
        return [line for stream in self._streams() for line in self._new_lines(stream)]

    def tail(self) -> list[str]:
        """Its last lines, without the script's own events."""
        lines = [line.rstrip()[:_LONGEST] for line in self.new_lines() if line.strip() and read_event(line) is None]
        return lines[-_LOG_TAIL:]

    def _new_lines(self, stream: str) -> list[str]:
        found: list[str] = []
        client = self._session.client("logs")
        while True:
            known = self._tokens.get(stream)
            token = {"nextToken": known} if known else {}
            with aws_errors("read the container's log", "logs:GetLogEvents"):
                page = client.get_log_events(
                    logGroupName=self._group, logStreamName=stream, startFromHead=True, **token
                )
            found += [event["message"] for event in page["events"]]
            self._tokens[stream] = page["nextForwardToken"]
            if page["nextForwardToken"] == known or not page["events"]:
                return found

    def _streams(self) -> list[str]:
        """Names of the streams, the oldest first: they end in the time they began."""
        prefix = {"logStreamNamePrefix": self._prefix} if self._prefix else {}
        try:
            with aws_errors("find the container's log", "logs:DescribeLogStreams"):
                answer = self._session.client("logs").describe_log_streams(logGroupName=self._group, **prefix)
        except BackendError as error:
            if is_missing(error.__cause__):
                return []
            raise
        return sorted(stream["logStreamName"] for stream in answer["logStreams"])
