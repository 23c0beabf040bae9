"""Changing views: a primary fails, a backup takes over, the protocol runs again (PROTOCOL 6.6, 6.7).

What a view-change or new-view must contain is judged in `consensus.view_change`; this module acts on it.
"""

import msgspec

from consensus.core import Core
from consensus.effects import Send
from consensus.errors import InvalidMessage, invariant
from consensus.judge import MAX_VIEW
from consensus.messages import NewView, PreparedCertificate, ViewChange, view_change_bytes
from consensus.three_phases import note_nested, receive_proposal
from consensus.timers import CLOCK, RESEND, VIEW
from consensus.types import SignatureBytes
from consensus.view_change import check_new_view, check_view_change, choose, view_to_join

_UNSIGNED: SignatureBytes = bytes(64)


# ---------------------------------------------------------------------- messages


def receive_view_change(core: Core, message: ViewChange) -> None:
    """Of each sender only the highest view-change is kept, and only if everything nested in it holds."""
    height = core.height
    height.judge.check_place(message)
    held = height.view_changes.get(message.signer)
    if message.signer == core.public_key or (held is not None and held.view >= message.view):
        return
    check_view_change(message, height.judge)
    _take_view_change(core, message)


def _take_view_change(core: Core, message: ViewChange) -> None:
    if not core.height.note_view_change(message):
        return
    core.saw(message, "view-change")
    if message.prepared is not None:
        note_nested(core, message.prepared.pre_prepare)
        for prepare in message.prepared.prepares:
            note_nested(core, prepare)


def receive_new_view(core: Core, message: NewView) -> None:
    """A valid new-view for a view not below its own moves a delegate there; every delegate recomputes its choice."""
    height = core.height
    height.judge.check_place(message)
    if message.signer == core.public_key or message.view < height.view or message.view <= height.entered_view:
        return
    good = check_new_view(message, height.judge, height.view_changes)
    for item in good:
        if item.signer != core.public_key:
            _take_view_change(core, item)
    _enter_view(core, message.view, choose(good))


def _enter_view(core: Core, view: int, chosen: PreparedCertificate | None) -> None:
    height = core.height
    if view > height.view:
        height.go_to(view, core.now.wall_ms)
    core.cancel_timer(CLOCK)
    height.enter(view, chosen)
    core.trace("new-view", "again" if chosen is not None else "fresh")
    early = [(sender, item) for sender, item in height.early.items() if item.vote.view <= view]
    for sender, proposal in early:
        del height.early[sender]
        try:
            receive_proposal(core, sender, proposal)
        except InvalidMessage as error:
            core.refuse(error)


# ---------------------------------------------------------------------- signing a view-change


def change_view(core: Core, view: int, reason: str) -> bool:
    """Sign view-change (h, view): nothing of a lower view is signed from here on. False at the end of all views."""
    height, context = core.height, core.height.context
    if view > MAX_VIEW:
        return False
    height.go_to(view, core.now.wall_ms)
    invariant(
        height.prepared is None or height.prepared.pre_prepare.view < view, "it names lower views only (6.6)"
    )
    unsigned = ViewChange(
        epoch=context.epoch,
        height=context.height,
        view=view,
        prepared=height.prepared,
        accepted=height.own.accepted(view),
        signer=core.public_key,
        signature=_UNSIGNED,
    )
    signature = core.signer.sign(view_change_bytes(unsigned, core.chain_id))
    message = msgspec.structs.replace(unsigned, signature=signature)
    core.trace("view-change", reason)
    core.publish(message)
    height.note_view_change(message)
    core.saw(message, "view-change")
    core.cancel_timer(VIEW)
    core.cancel_timer(CLOCK)
    return True


def view_timed_out(core: Core) -> None:
    """The current view had its time."""
    height = core.height
    if core.voting and height.decided is None:
        change_view(core, height.view + 1, "timeout")


# ---------------------------------------------------------------------- rules


def reject(core: Core) -> bool:
    """6.4: an invalid proposal makes a delegate sign a view-change at once."""
    height = core.height
    if height.invalid_reason is None or height.decided is not None or not core.voting or not height.in_view:
        return False
    return change_view(core, height.view + 1, "invalid proposal")


def join(core: Core) -> bool:
    """6.6: f + 1 view-changes above the highest it has signed make a delegate join the smallest of those."""
    height = core.height
    if len(height.view_changes) <= height.judge.faults or height.decided is not None or not core.voting:
        return False
    views = (message.view for message in height.view_changes.values())
    view = view_to_join(views, height.view, height.judge.faults)
    if view is None:
        return False
    return change_view(core, view, "join")


def announce_new_view(core: Core) -> bool:
    """6.6: view-changes of q delegates for exactly w make the new primary's new-view."""
    height = core.height
    if height.decided is not None or not core.voting or height.in_view:
        return False
    view, own = height.view, height.own.view_change
    if height.judge.primary_key(view) != core.public_key or own is None or own.view != view:
        return False
    exact = [message for message in height.view_changes.values() if message.view == view]
    if len(exact) < height.judge.quorum:
        return False
    exact.sort(key=lambda message: height.judge.rank(message.signer) or 0)
    core.publish(_signed_new_view(core, tuple(exact)))
    _enter_view(core, view, choose(exact))
    return True


def _signed_new_view(core: Core, view_changes: tuple[ViewChange, ...]) -> NewView:
    context, view = core.height.context, core.height.view
    unsigned = NewView(context.epoch, context.height, view, view_changes, core.public_key, _UNSIGNED)
    signature = core.signer.sign(view_change_bytes(unsigned, core.chain_id))
    return msgspec.structs.replace(unsigned, signature=signature)


def keep_view_timer(core: Core) -> None:
    """6.7: view 0 is timed while something waits; view w > 0 from view-changes >= w of q delegates on."""
    height = core.height
    running = core.timers.get(VIEW)
    wanted = (
        core.voting
        and height.decided is None
        and (_something_waits(core) if height.view == 0 else _has_begun(core))
    )
    if running is not None and (not wanted or running.view != height.view):
        core.cancel_timer(VIEW)
        running = None
    if wanted and running is None:
        core.set_timer(VIEW, core.backoff.timeout_ms(height.view))


def _something_waits(core: Core) -> bool:
    """A proposal, a relayed pending transaction or an overdue empty block."""
    height = core.height
    return core.waiting > 0 or height.empty_due or height.proposal is not None or bool(height.fetching)


def _has_begun(core: Core) -> bool:
    height = core.height
    return height.view_changes_at_least(height.view) >= height.judge.quorum


def keep_resending(core: Core) -> None:
    """6.6: all votes of the undecided height are sent again every view_timeout_ms, at that rate and no faster."""
    height = core.height
    wanted = core.voting and height.decided is None and height.own.signed_anything
    if wanted and RESEND not in core.timers:
        core.set_timer(RESEND, core.parameters.view_timeout_ms)


def resend(core: Core) -> None:
    """The same bytes again; nothing is signed."""
    if core.height.decided is None and core.voting:
        for message in core.height.own.to_resend():
            core.emit(Send(message))
