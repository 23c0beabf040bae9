"""Messages from peers, each to the part that deals with it; what is learned of peers along the way, for people."""

from collections.abc import Callable
from typing import assert_never

from consensus.messages import Commit, ConsensusMessage, NewView, Prepare, Proposal, ViewChange
from consensus.types import PublicKey
from network.address_book import AddressGossip
from network.scheduler import Scheduler
from network.synchronizer import Synchronizer
from network.wire import (
    AddressRecords,
    AddressRecordsRequest,
    ApplicationMessage,
    BlocksRequest,
    BlocksResponse,
    CertifiedHeightRequest,
    CertifiedHeightResponse,
    Decided,
    StatusAnnouncement,
    Transactions,
    TransactionsRequest,
    TransactionsResponse,
    UndecidedBlockRequest,
    UndecidedBlockResponse,
)
from node.abstention import Abstention
from node.block_fetch import BlockFetches
from node.clock import Clock
from node.intake import Intake
from node.peering import Peering
from node.proposals import ProposalChecks


class Router:
    """The table of who deals with what; nothing in a message is trusted for who sent it."""

    def __init__(  # noqa: PLR0913 - the parts that it knows
        self,
        *,
        clock: Clock,
        scheduler: Scheduler,
        intake: Intake,
        proposals: ProposalChecks,
        fetches: BlockFetches,
        synchronizer: Synchronizer,
        abstention: Abstention,
        addresses: AddressGossip,
        peering: Peering,
        to_replica: Callable[[PublicKey, ConsensusMessage], None],
    ) -> None:
        self._clock = clock
        self._scheduler = scheduler
        self._intake = intake
        self._proposals = proposals
        self._fetches = fetches
        self._synchronizer = synchronizer
        self._abstention = abstention
        self._addresses = addresses
        self._peering = peering
        self._to_replica = to_replica
        self.heard_ms: dict[PublicKey, int] = {}
        """Monotonic instant of each connected key's last consensus message."""
        self.heights: dict[PublicKey, int] = {}
        """What connected peers announced last; shown to people, believed by nobody."""

    def peer(self, key: PublicKey, connected: bool) -> None:
        """A peer came or went."""
        self._synchronizer.on_peer(key, connected)
        if connected:
            self._addresses.peer_connected(key)
            self._addresses.ask(self._peering.unknown_keys(), key)
        else:
            self.heard_ms.pop(key, None)
            self.heights.pop(key, None)

    def message(self, sender: PublicKey, message: ApplicationMessage) -> None:  # noqa: C901 - one case a kind
        """Hand ``message`` on."""
        match message:
            case Proposal() | Prepare() | Commit() | ViewChange() | NewView():
                self.heard_ms[sender] = self._clock.now().monotonic_ms
                self._to_replica(sender, message)
            case Transactions(transactions):
                self._intake.gossiped(sender, transactions)
            case TransactionsRequest():
                self._proposals.request(sender, message)
            case TransactionsResponse():
                self._proposals.response(message)
            case UndecidedBlockRequest():
                self._fetches.request(sender, message)
            case UndecidedBlockResponse():
                self._fetches.response(message)
            case StatusAnnouncement(height=height):
                self.heights[sender] = height
                self._synchronizer.on_message(sender, message)
            case BlocksRequest() | BlocksResponse() | Decided():
                self._synchronizer.on_message(sender, message)
            case CertifiedHeightRequest():
                self._abstention.request(sender, message)
            case CertifiedHeightResponse():
                self._abstention.response(sender, message)
            case AddressRecords():
                self._addresses.on_records(sender, message, self._scheduler.now_ms())
            case AddressRecordsRequest():
                self._addresses.on_request(sender, message)
            case _:
                assert_never(message)
