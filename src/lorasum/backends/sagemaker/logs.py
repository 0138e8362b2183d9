"""A container's log in CloudWatch."""

import time
from collections.abc import Callable, Iterator
from datetime import datetime

from lorasum.aws import aws_errors, is_denied, unless_missing
from lorasum.backends.sagemaker.session import Session, poll_seconds
from lorasum.errors import BackendError
from lorasum.shared.events import read_event
from lorasum.system.retry import until_answered

_LOG_TAIL = 12  # lines
_LONGEST = 300  # characters of a line that is shown


class Log:
    """Reads the streams of `group` whose names begin with `prefix`, each line once.

    A job may have several streams: one that lost its spot instance goes on in a new container.

    Args:
        since: streams that began earlier are left out. A group outlives its endpoint, and the next one of the same
            name writes into it too.
    """

    def __init__(self, session: Session, group: str, prefix: str, since: datetime | None = None) -> None:
        self._since = since.timestamp() * 1000 if since else 0.0
        self._session = session
        self._group = group
        self._prefix = prefix
        self._tokens: dict[str, str] = {}  # by stream: where the next reading begins
        self._read: list[str] = []  # lines that no call has returned yet

    def new_lines(self) -> list[str]:
        """The lines since the last call; none before the container has written its first line.

        Those that were read before an error come with the next call.
        """
        for stream in self._streams():
            self._read_on(stream)
        lines, self._read = self._read, []
        return lines

    def permitted_lines(self) -> list[str]:
        """As `new_lines`; none, after one warning, for an identity that may not read logs."""
        try:
            return self.new_lines()
        except BackendError as error:
            if not is_denied(error.__cause__):
                raise
            self._session.warn_once(f"{error.message}: lorasum goes on without the log. To read it, {error.hint}")
            return []

    def lines(self, is_running: Callable[[], bool]) -> Iterator[str]:
        """The lines from the beginning, and new ones for as long as the container runs. Those outlast an outage."""
        running = is_running()  # asked before the log is read, so that nothing is missed
        yield from map(str.rstrip, self.new_lines())
        while running:
            time.sleep(poll_seconds())
            running = until_answered(is_running, poll_seconds(), self._session.reporter)
            yield from map(str.rstrip, until_answered(self.new_lines, poll_seconds(), self._session.reporter))

    def tail(self) -> list[str]:
        """The last lines, without the events of the training script; none, after a warning, if they cannot be read."""
        try:
            lines = self.permitted_lines()
        except BackendError as error:  # what the log belongs to has failed already, and its reason is to be told
            self._session.reporter.warn(error.message)
            return []
        said = [line.rstrip()[:_LONGEST] for line in lines if line.strip() and read_event(line) is None]
        return said[-_LOG_TAIL:]

    def _read_on(self, stream: str) -> None:
        client = self._session.client("logs")
        while True:
            known = self._tokens.get(stream)
            token = {"nextToken": known} if known else {}
            with aws_errors("read the container's log", "logs:GetLogEvents"):
                page = client.get_log_events(
                    logGroupName=self._group, logStreamName=stream, startFromHead=True, **token
                )
            self._read += [event["message"] for event in page["events"]]
            self._tokens[stream] = page["nextForwardToken"]
            if page["nextForwardToken"] == known:  # the only sign of the end: a page may be empty before it
                return

    def _streams(self) -> list[str]:
        """Names of the streams, the oldest first."""
        prefix = {"logStreamNamePrefix": self._prefix} if self._prefix else {}
        with unless_missing(), aws_errors("find the container's log", "logs:DescribeLogStreams"):
            pages = self._session.client("logs").get_paginator("describe_log_streams")
            streams = [
                stream
                for page in pages.paginate(logGroupName=self._group, **prefix)
                for stream in page["logStreams"]
                if stream.get("creationTime", self._since) >= self._since
            ]
            return [name for _, name in sorted((one.get("creationTime", 0), one["logStreamName"]) for one in streams)]
        return []
