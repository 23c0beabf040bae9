"""Refusals: the one table from stable codes to HTTP status, title and what to do (RFC 9457)."""

from typing import Any, Final

import msgspec

from node.api.schema import ProblemView
from node.errors import NodeError
from node.service import SubmitCode, SubmitOutcome

PROBLEM_TYPE: Final = "application/problem+json"
_RETRY_SEND: Final = "Wait as Retry-After says, then send the same bytes again; that is safe at any time."


class Kind(msgspec.Struct, frozen=True):
    """One row of the catalogue."""

    status: int
    title: str
    action: str


CATALOGUE: Final[dict[str, Kind]] = {
    # the request
    "malformed_http": Kind(
        400, "Not HTTP/1.1", "Send a well-formed request with at most 8 KiB of header a line."
    ),
    "malformed_json": Kind(
        400, "Not strict JSON", "Correct the body: one JSON value in UTF-8, no key twice, no NaN."
    ),
    "invalid_body": Kind(
        400, "A field has a wrong type or value", "Correct the field that the detail names."
    ),
    "invalid_parameter": Kind(
        400, "A path or query parameter is wrong", "Correct the parameter that the detail names."
    ),
    "invalid_cursor": Kind(
        400, "Not a cursor of this list", "Use next_cursor of the page before, or start without one."
    ),
    "malformed_transaction": Kind(
        400,
        "Not the canonical encoding of a transaction",
        "Encode the transaction as PROTOCOL 9.2 and 9.4 say.",
    ),
    "malformed_batch": Kind(
        400, "Not a batch", "Send a msgpack array of byte strings, or one JSON object a line."
    ),
    "body_timeout": Kind(408, "The body did not arrive in time", "Send the whole body within ten seconds."),
    "body_too_large": Kind(
        413, "The body is too large", "Send less: 64 KiB for one, 4 MiB and 4 096 items for a batch."
    ),
    "transaction_too_large": Kind(
        413, "The transaction is too large", "Keep a transaction within 65 536 bytes."
    ),
    "unsupported_media_type": Kind(
        415, "The content type is not served here", "Use a content type the detail names."
    ),
    # who asks
    "token_required": Kind(
        401,
        "A token is needed",
        "Send 'Authorization: Bearer TOKEN' with the token in api.token of the node's home.",
    ),
    "token_wrong": Kind(
        403, "The token is wrong", "Use the token in api.token of the node's home, or of its config."
    ),
    "cross_origin": Kind(
        403, "A page of another site asked", "Call the API from the node's own pages or a program."
    ),
    # what is asked for
    "not_found": Kind(404, "No such endpoint", "See README.md for the endpoints of this API."),
    "unknown_resource": Kind(
        404, "Not in the ledger", "Check the id or height; ask again if it is only just decided."
    ),
    "unknown_transaction": Kind(
        404,
        "This node never saw the transaction",
        "Ask again in a moment, or submit it; the same bytes are safe.",
    ),
    "method_not_allowed": Kind(
        405, "The method is not served here", "Use a method that the Allow header names."
    ),
    # conflicts and rules
    "trade_state": Kind(
        409, "The trade is in another state", "Look at the trade; this action no longer fits it."
    ),
    "foreign_chain": Kind(
        422, "The transaction is for another chain", "Sign it with this chain's id (/v1/parameters)."
    ),
    "bad_signature": Kind(422, "A signature is wrong", "Sign the canonical body with the key that is named."),
    "not_yet_valid": Kind(422, "The transaction is not valid yet", "Send it when valid_from_ms is reached."),
    "transaction_expired": Kind(
        422, "The transaction's window is over", "Sign a new one with a later window."
    ),
    "refused": Kind(422, "A rule of the protocol forbids it", "Correct what the detail names and sign anew."),
    "no_meter_key": Kind(
        422,
        "This node holds no meter key",
        "Sign the reading with the meter's key, or give the node that key.",
    ),
    "not_a_party": Kind(422, "This node is not a party", "Ask the node of the party that has to sign."),
    # capacity
    "pool_full": Kind(429, "The pool is full", _RETRY_SEND),
    "sender_limit": Kind(429, "Too many transactions of one sender wait", _RETRY_SEND),
    "too_many_streams": Kind(
        429, "Too many event streams are open", "Close one, or wait as Retry-After says."
    ),
    "slow_reader": Kind(429, "The stream was not read", "Connect again with Last-Event-ID; nothing is lost."),
    "internal": Kind(
        500, "The node failed to answer", "Report this with the node's log; the request may be repeated."
    ),
    "not_ready": Kind(
        503, "The node is not ready", "Wait as Retry-After says, or ask another node; see /v1/status."
    ),
    "proof_not_ready": Kind(
        503, "No later header is decided yet", "Ask again in a moment; a proof needs the next block."
    ),
    "shutting_down": Kind(
        503, "The node stops", "Connect again, or to another node; events resume by Last-Event-ID."
    ),
    "too_many_connections": Kind(
        503, "Too many connections are open", "Reuse connections, or try again in a moment."
    ),
}

SUBMIT_CODES: Final[dict[SubmitCode, str]] = {
    SubmitCode.MALFORMED: "malformed_transaction",
    SubmitCode.TOO_LARGE: "transaction_too_large",
    SubmitCode.FOREIGN_CHAIN: "foreign_chain",
    SubmitCode.BAD_SIGNATURE: "bad_signature",
    SubmitCode.NOT_YET_VALID: "not_yet_valid",
    SubmitCode.EXPIRED: "transaction_expired",
    SubmitCode.REFUSED: "refused",
    SubmitCode.POOL_FULL: "pool_full",
    SubmitCode.SENDER_LIMIT: "sender_limit",
    SubmitCode.NOT_READY: "not_ready",
}
"""Every code but ACCEPTED and KNOWN, which are answers and no refusals."""

DEFAULT_RETRY_AFTER_MS: Final = 1_000
"""Where nobody knows better: two blocks of a demo chain, a fifth of the empty-block interval of others."""


class Problem(NodeError):
    """A refusal on its way to the caller."""

    def __init__(self, code: str, detail: str, *, retry_after_ms: int | None = None, **members: Any) -> None:
        """``code`` is a key of `CATALOGUE`; ``members`` are further fields of `ProblemView`."""
        super().__init__(detail)
        self.code = code
        self.kind = CATALOGUE[code]
        self.detail = detail
        if retry_after_ms is None and self.kind.status in (429, 503):
            retry_after_ms = DEFAULT_RETRY_AFTER_MS
        self.retry_after_ms = retry_after_ms
        self.members = members

    def view(self) -> ProblemView:
        """The document."""
        return ProblemView(
            type=f"urn:cgpbft:problem:{self.code}",
            title=self.kind.title,
            status=self.kind.status,
            code=self.code,
            detail=self.detail,
            action=self.kind.action,
            retry_after_ms=self.retry_after_ms,
            **self.members,
        )


def refusal(outcome: SubmitOutcome) -> Problem:
    """The problem of a submission that was not accepted."""
    code = SUBMIT_CODES[outcome.code]
    return Problem(
        code,
        outcome.reason or CATALOGUE[code].title,
        retry_after_ms=outcome.retry_after_ms,
        id=None if outcome.id is None else outcome.id.hex(),
        state=None if outcome.state is None else str(outcome.state),
    )
