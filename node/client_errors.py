"""What asking a node can end in: one exception tree, by who can do something about it."""

import msgspec

from node.api.schema import ProblemView
from node.errors import NodeError


class ClientError(NodeError):
    """Base of everything `node.client` raises on purpose."""


class NodeUnreachable(ClientError):
    """No answer: the node is away, the URL wrong, or the network slow. Whether a submission arrived is not known."""


class UnexpectedAnswer(ClientError):
    """An answer that is no node's of this version."""


class RequestRefused(ClientError):
    """A problem document (RFC 9457)."""

    def __init__(self, problem: ProblemView) -> None:
        """The text names what was wrong and what to do."""
        text = f"{problem.title}: {problem.detail}" if problem.detail else problem.title
        super().__init__(f"{text}. {problem.action}" if problem.action else text)
        self.problem = problem

    @property
    def code(self) -> str:
        """Stable code of `node.api.problems`."""
        return self.problem.code

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.problem.status

    @property
    def retry_after_ms(self) -> int | None:
        """When to try again, where the node said so."""
        return self.problem.retry_after_ms


class BadRequest(RequestRefused):
    """400, 405, 408, 413 or 415: the request itself is wrong."""


class AccessDenied(RequestRefused):
    """401 or 403: the token is missing or wrong."""


class NotFound(RequestRefused):
    """404: not in the ledger, or not seen by this node."""


class Conflict(RequestRefused):
    """409: the resource is in another state."""


class Refused(RequestRefused):
    """422: a rule of the protocol forbids it."""


class Busy(RequestRefused):
    """429: try again after ``retry_after_ms``."""


class Unavailable(RequestRefused):
    """500 or 503: the node cannot answer now."""


_BY_STATUS: dict[int, type[RequestRefused]] = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    422: Refused,
    429: Busy,
}


def refusal_of(status: int, body: bytes, request: str) -> ClientError:
    """The exception for an answer of ``status`` >= 400."""
    try:
        problem = msgspec.json.decode(body, type=ProblemView)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return UnexpectedAnswer(f"{request} answered {status}, and not by a node's problem document")
    return _BY_STATUS.get(status, Unavailable if status >= 500 else BadRequest)(problem)
