"""The bootstrap service: what it holds, and what it does once a chain has formed (PROTOCOL 8).

It is trusted with nothing (8.2). What a lying or hijacked bootstrap could try, and why it fails:

- *Different genesis to different nodes*: each starts only with acknowledgements of its own genesis hash by all members
  in it, and an honest node signs one acknowledgement, which it stores first. Nobody starts.
- *Omit a member*: that member misses its own registration in the genesis and never acknowledges.
- *Invent a member*: a registration is signed by its key, so a key nobody holds cannot be in a genesis that checks.
  Seats for keys of its own it can take, as any stranger can who registers first: name the ``founders``.
- *Other parameters, another k or N, another name, other operators, more money*: the node compares the genesis, field by
  field, with what it saw announced at first contact, or with what its operator pinned by flags.
- *Announce something else later*: the first announcement is stored by the node.
- *A genesis from the future*, whose chain could decide nothing: refused by the node's clock and max_drift_ms.
- *Forged or missing acknowledgements*: each is verified, one of every member.
- *A chain of its own shown to who joins later*: nothing it could sign fits a pinned genesis hash or an invite, which
  names the chain; without either the joiner trusts its first contact once, is told the hash, and keeps it.
- *Stale or forged address records*: the number and the signature are the member's; the transport then wants the key.
- *A bad plan*: the ledger recomputes the claim, and takes none while the built-in plan is within its limits.
- *Forged, changed, replayed or withheld ballots*: signature, epoch and sequence are the voter's; a node that does not
  see its ballot on the ledger in time submits it itself (5.5).
- *False reminders, results, watch*: shown to people, read by no node.
- *Silence*: before formation nothing starts; ask another bootstrap. Afterwards nothing stops.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from consensus.hashing import address_of
from consensus.types import Address, PublicKey, Value
from network.bootstrap.coordinator import Coordinator
from network.bootstrap.directory import Directory
from network.bootstrap.doors import ChainDoor, GenesisFacts
from network.bootstrap.formation import Formation, Stage
from network.bootstrap.store import RecordLog
from network.bootstrap.waiters import LongPolls
from network.bootstrap.watch import Watch

log = structlog.get_logger("network.bootstrap.service")


class Coordination(Value, frozen=True):
    """What runs beside a formed chain."""

    coordinator: Coordinator
    watch: Watch
    chain: ChainDoor


class Coordinate(Protocol):
    """Makes the coordination of a formed chain; given by the node, which knows contracts."""

    def __call__(
        self,
        genesis: GenesisFacts,
        apis: Callable[[], list[tuple[Address, str]]],
        members: Callable[[], Sequence[Address]],
    ) -> Coordination:
        """``apis``: (address, URL) of members; ``members``: all known members."""


class BootstrapService:
    """State and background work; `network.bootstrap.server` puts HTTP before it."""

    def __init__(
        self,
        *,
        formation: Formation,
        directory: Directory,
        record_log: RecordLog,
        polls: LongPolls,
        coordinate: Coordinate,
    ) -> None:
        self.formation = formation
        self.directory = directory
        self.polls = polls
        self.coordination: Coordination | None = None
        self._log = record_log
        self._coordinate = coordinate

    def is_member(self, public_key: PublicKey) -> bool:
        """Whether the directory keeps this key's records in any case."""
        if self.formation.is_registered(public_key):
            return True
        if self.coordination is None:
            return False
        view, address = self.coordination.coordinator.view, address_of(public_key)
        return address in view.joined or any(address in view.group_of(epoch) for epoch in view.groups)

    def members(self) -> list[Address]:
        """Everybody known to be a member, founders and others, in address order."""
        facts = self.formation.facts
        founders = [] if facts is None else [address_of(key) for key in facts.members]
        known = dict.fromkeys(founders or self.formation.registered_addresses())
        if self.coordination is not None:
            view = self.coordination.coordinator.view
            known.update(view.joined)
            for groups in view.groups.values():
                known.update(dict.fromkeys(groups.members))
        return sorted(known)

    async def run(self) -> None:
        """Wait for the chain to form, then coordinate it; never ends but by cancellation."""
        while self.formation.stage is not Stage.FORMED:
            await self.polls.wait_for_change()
        facts = self.formation.facts
        if facts is None:
            return
        log.info("the chain has formed", genesis_hash=facts.hash.hex(), members=len(facts.members))
        self.coordination = self._coordinate(facts, self.directory.apis, self.members)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self.coordination.coordinator.run())
                tasks.create_task(self.coordination.watch.run())
                tasks.create_task(self._tidy_forever())
        finally:
            await self.coordination.chain.close()

    async def _tidy_forever(self) -> None:
        """Drop superseded address records from the log now and then."""
        while True:
            await asyncio.sleep(60)
            if self.directory.wants_rewrite():
                self._log.rewrite((*self.formation.records(), *self.directory.records()))

    def not_ready_because(self) -> list[str]:
        """Why /readyz says no: a formed chain that cannot be followed. Before it forms, serving is all there is."""
        if self.coordination is None or self.coordination.coordinator.following is not None:
            return []
        return ["the chain has formed, but no member's API can be followed: see /v1/watch"]
