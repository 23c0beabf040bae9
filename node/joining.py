"""Becoming a member: this node's registration, sent once and followed to its end (PROTOCOL 1.5, 10.1)."""

from collections.abc import Callable
from typing import Final

import structlog

from consensus.types import Address, Digest
from contracts.genesis import Admission
from contracts.receipts import ReasonCode
from contracts.transaction import Join, Payload
from node.errors import JoinRefused
from node.ledger import Ledger

_ADVICE: Final = {
    ReasonCode.INVITE_MISSING: "ask the operators for an invite and join with --invite FILE",
    ReasonCode.INVITE_WRONG: "the invite is for another key or chain, or too few operators signed it",
    ReasonCode.INVITE_EXPIRED: "ask the operators for a new invite",
    ReasonCode.INVITE_USED: "an invite is good for one use: ask the operators for a new one",
    ReasonCode.OPERATOR_APPROVAL_MISSING: "too few operators approved the meter: ask them for a new invite",
    ReasonCode.METER_IN_USE: "another member's meter has this key: join with --separate-meter from a new home",
    ReasonCode.POWER_TOO_LARGE: "join with a smaller --max-power-w; see max_power_w in `/v1/parameters`",
    ReasonCode.TOO_MANY_MEMBERS: "the chain is full",
}
"""What to do about a rejected registration."""

log = structlog.get_logger("node.joining")

Submit = Callable[[Payload], Digest | None]
"""Signs and submits in the background; the transaction's id, or None if the pool does not take it now."""


class Joining:
    """Looks after every block whether this key is a member, and registers it while it is none."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        own_address: Address,
        join: Join | None,
        returns: bool,
        submit: Submit,
        is_waiting: Callable[[Digest], bool],
        refuse: Callable[[JoinRefused], None],
    ) -> None:
        """``join`` is None where nothing is asked for; ``returns``: register again after having left (PROTOCOL 1.5).

        ``refuse`` stops the node: a key that the chain does not admit has no business there.
        """
        self._ledger = ledger
        self._address = own_address
        self._join = join
        self._returns = returns
        self._submit = submit
        self._is_waiting = is_waiting
        self._refuse = refuse
        self._sent: Digest | None = None

    def look(self) -> None:
        """Do what is due by the state after the last block; once a member, nothing again, lest `leave` be undone."""
        if self._join is None:
            return
        if self._ledger.is_member(self._address):
            self._join = None
            return
        left = self._ledger.state.accounts.get(self._address) is not None
        uninvited = self._ledger.genesis.admission is Admission.INVITED and self._join.invite is None
        if left and (uninvited or not self._returns):
            self._join = None
            return
        if uninvited:
            self._end(ReasonCode.INVITE_MISSING)
        elif self._sent is None or not self._is_waiting(self._sent):
            self._follow(self._join)

    def _follow(self, join: Join) -> None:
        location = None if self._sent is None else self._ledger.locate(self._sent)
        if location is not None and not location.discarded:
            self._end(self._ledger.receipt(location.height, location.index).code)
            return
        self._sent = self._submit(join)
        if self._sent is not None:
            log.info("registration sent", transaction=self._sent.hex())

    def _end(self, code: ReasonCode) -> None:
        key = b"" if self._join is None else self._join.public_key
        self._join = None
        genesis = self._ledger.genesis
        admission = genesis.admission.name.lower()
        self._refuse(
            JoinRefused(
                f"the chain {genesis.chain_name} ({admission}) does not admit the key {key.hex()}: "
                f"{code.name.lower()}; {_ADVICE.get(code, 'see cgpbft join --help')}"
            )
        )
