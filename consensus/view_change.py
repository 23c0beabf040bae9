"""Judging view-changes and new-views (PROTOCOL 6.6).

Pure: nothing here signs or remembers. `consensus.failover` acts on what this module finds.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from consensus.certificate import check_prepared
from consensus.errors import InvalidMessage, invariant
from consensus.judge import Judge
from consensus.messages import Accepted, NewView, PreparedCertificate, ViewChange
from consensus.types import PublicKey

MAX_ACCEPTED: Final = 64
"""Accepted digests in one view-change, the newest: removal (6.10) needs f + 1 of them, and 31 such view-changes with
their certificates stay far below a message's size."""


def check_view_change(message: ViewChange, judge: Judge) -> None:
    """Raise `InvalidMessage` unless the view-change and everything nested in it holds."""
    judge.check_place(message)
    if message.view == 0:
        raise InvalidMessage("view 0 needs no view-change")
    check_accepted(message.accepted, message.view)
    if message.prepared is not None and message.prepared.pre_prepare.view >= message.view:
        raise InvalidMessage("the prepared certificate is not of a lower view")
    judge.check_signature(message)
    if message.prepared is not None:
        check_prepared(message.prepared, judge)


def check_accepted(accepted: tuple[Accepted, ...], below: int) -> None:
    """Raise `InvalidMessage` unless the views ascend, stay below ``below`` and are not too many."""
    if len(accepted) > MAX_ACCEPTED:
        raise InvalidMessage(f"{len(accepted)} accepted digests, at most {MAX_ACCEPTED} are allowed")
    previous = -1
    for item in accepted:
        if not previous < item.view < below:
            raise InvalidMessage("accepted views must ascend and stay below the view-change's")
        previous = item.view


def check_new_view(
    message: NewView, judge: Judge, held: Mapping[PublicKey, ViewChange]
) -> tuple[ViewChange, ...]:
    """The view-changes of ``message`` that count; `InvalidMessage` unless the primary shows q of them.

    A view-change with any bad part does not count; q good ones must remain. ``held`` are those verified before.
    """
    judge.check_place(message)
    if message.view == 0 or message.signer != judge.primary_key(message.view):
        raise InvalidMessage(f"a new-view for view {message.view} is not this signer's to send")
    senders = {item.signer for item in message.view_changes}
    if len(senders) != len(message.view_changes):
        raise InvalidMessage("a new-view names each sender once")
    if len(senders) < judge.quorum:
        raise InvalidMessage(f"{len(senders)} view-changes, a new-view needs {judge.quorum}")
    judge.check_signature(message)
    good = tuple(item for item in message.view_changes if _counts(item, message.view, judge, held))
    if len(good) < judge.quorum:
        raise InvalidMessage(f"only {len(good)} view-changes count, a new-view needs {judge.quorum}")
    return good


def _counts(item: ViewChange, view: int, judge: Judge, held: Mapping[PublicKey, ViewChange]) -> bool:
    if item.view != view:
        return False
    if held.get(item.signer) == item:
        return True
    try:
        check_view_change(item, judge)
    except InvalidMessage:
        return False
    return True


def choose(view_changes: Iterable[ViewChange]) -> PreparedCertificate | None:
    """The prepared certificate of the highest view: its block must be proposed again; None allows a fresh one.

    Two certificates of one view name one digest while at most f delegates lie; beyond that the smaller digest keeps
    every delegate's choice the same.
    """
    best: PreparedCertificate | None = None
    for item in view_changes:
        if item.prepared is not None and (best is None or _outranks(item.prepared, best)):
            best = item.prepared
    return best


def _outranks(certificate: PreparedCertificate, other: PreparedCertificate) -> bool:
    vote, best = certificate.pre_prepare, other.pre_prepare
    return vote.view > best.view or (vote.view == best.view and vote.digest < best.digest)


def view_to_join(views: Iterable[int], above: int, faults: int) -> int | None:
    """The view that f + 1 higher view-changes pull a delegate to, or None.

    Joining the smallest of f + 1 views above one's own, again and again until fewer than f + 1 are above, ends at the
    (f + 1)-th highest: at least one honest delegate stands there or beyond.
    """
    higher = sorted((view for view in views if view > above), reverse=True)
    if len(higher) <= faults:
        return None
    joined = higher[faults]
    invariant(joined > above, "views never go backward (6.6)")
    return joined
