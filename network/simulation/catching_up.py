"""Following the chain: the shipped synchronizer between simulated doors (PROTOCOL 6.12, 10.1, 10.2)."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from consensus.block import CertifiedBlock
from consensus.delegates import Delegate, DelegateSet
from consensus.encoding import encode
from consensus.inputs import DecidedReceived, SyncState
from consensus.types import PublicKey
from network.admission import BanList
from network.dissemination import Dissemination
from network.simulation.letters import SyncLetter
from network.simulation.surroundings import Process
from network.sync import SyncSession
from network.sync_effects import DeliverBlock, SyncLimits
from network.synchronizer import Synchronizer
from network.wire import ApplicationMessage, Decided, Role, StatusAnnouncement

TICK_MS = 4_000
"""Sixteen times the shipped one: with the protocol's usual timers of seconds little waits for it, and a tick of each
node four times a second would be half of all events."""
SILENT_INTERVALS = 3
"""Empty-block intervals without news after which a member asks others than its delegate."""
BAN_MS, BAN_MAX_MS = 10_000, 3_600_000


class CatchingUp:
    """Volatile; begins anew with each life of the process. It is the synchronizer's `Links` as well."""

    def __init__(self, process: Process, replica_height: Callable[[], int | None]) -> None:
        """``replica_height`` is that of the replica if it may take a decided block now, else None."""
        self._process = process
        self._replica_height = replica_height
        self._connected: dict[PublicKey, None] = {}
        self._bans = BanList(BAN_MS, BAN_MAX_MS)
        self._deliveries: deque[CertifiedBlock] = deque()
        self._told: tuple[DelegateSet, int] | None = None
        around = process.around
        silence_ms = SILENT_INTERVALS * around.parameters.empty_block_interval_ms
        self.session = SyncSession(process.disk.height, SyncLimits(overslept_ms=2 * TICK_MS))
        self._synchronizer = Synchronizer(
            links=self,
            scheduler=process,
            session=self.session,
            dissemination=Dissemination(process.member.public_key, silence_ms, process.now_ms()),
            load_block=self._load,
            tip=self._tip,
            deliver=self._deliver,
            on_caught_up=lambda caught_up: process.step(SyncState(process.at(), caught_up)),
            tick_ms=TICK_MS,
        )

    def begin(self) -> None:
        """A process that starts takes itself as behind until q delegates say otherwise."""
        self._process.step(SyncState(self._process.at(), False))
        self.tell_delegates()
        self._synchronizer.start()

    # ------------------------------------------------------------------ `network.links.Links`

    def send(self, public_key: PublicKey, message: ApplicationMessage) -> bool:
        """To a connected peer."""
        if public_key not in self._connected:
            return False
        self._process.post(public_key, message)  # type: ignore[arg-type]
        return True

    def broadcast(self, public_keys: Iterable[PublicKey], message: ApplicationMessage) -> int:
        """To those of them that are connected."""
        return sum(self.send(key, message) for key in public_keys)

    def connected(self) -> tuple[PublicKey, ...]:
        """Peers to whom a connection lives."""
        return tuple(self._connected)

    def role_of(self, public_key: PublicKey) -> Role | None:
        """All are members."""
        return Role.MEMBER if public_key in self._connected else None

    def waiting_bytes(self, public_key: PublicKey) -> int:
        """Simulated links are never full."""
        del public_key
        return 0

    def punish(self, public_key: PublicKey, reason: str) -> None:
        """Disconnect and ban for a while."""
        process = self._process
        process.around.world.punished(process, public_key, reason)
        self._bans.ban(public_key, process.now_ms())
        self.peer(public_key, False)

    # ------------------------------------------------------------------ from the world

    def peer(self, public_key: PublicKey, connected: bool) -> None:
        """A connection came up or broke; one with a banned peer is not made before the ban is over."""
        if not connected:
            if self._connected.pop(public_key, True) is None:
                self._synchronizer.on_peer(public_key, False)
            return
        banned_ms = self._bans.remaining_ms(public_key, self._process.now_ms())
        if banned_ms:
            self._process.call_later_ms(banned_ms + 1, lambda: self.peer(public_key, True))
        elif public_key not in self._connected:
            self._connected[public_key] = None
            self._synchronizer.on_peer(public_key, True)

    def take(self, sender: PublicKey, letter: SyncLetter) -> None:
        """One of the four messages of following the chain."""
        if sender in self._connected:
            self._synchronizer.on_message(sender, letter)

    # ------------------------------------------------------------------ from the replica

    def fetch(self, height: int, holders: tuple[PublicKey, ...]) -> None:
        """Somebody is ahead."""
        self._synchronizer.fetch(height, holders)

    def send_decided(self, height: int, to: PublicKey) -> None:
        """Answer a late delegate's view-change (PROTOCOL 6.6)."""
        data = self._load(height)
        if data is not None:
            self._process.post(to, Decided(height, data))

    def decided(self, certified: CertifiedBlock) -> None:
        """The ledger holds a block: hand it to the own group."""
        self._synchronizer.decided(certified.block.header.height, encode(certified))

    def go_on(self) -> None:
        """Hand the replica what waits for its height."""
        self.tell_delegates()
        self._hand_over()

    def tell_delegates(self) -> None:
        """Who decides the next height, and who is in the own group."""
        process = self._process
        context = process.ledger.context()
        if (context.delegates, context.epoch) == self._told:
            return
        self._told = (context.delegates, context.epoch)
        own = process.member
        self._synchronizer.set_delegates(
            tuple(delegate.public_key for delegate in context.delegates),
            group_of(own, context.delegates, process.around.members),
            own.public_key,
            context.delegates.quorum,
        )

    # ------------------------------------------------------------------ inside

    def _deliver(self, effect: DeliverBlock) -> None:
        self._deliveries.append(effect.certified)
        self._process.call_later_ms(0, self._hand_over)

    def _hand_over(self) -> None:
        process = self._process
        while self._deliveries:
            height = self._deliveries[0].block.header.height
            ready = self._replica_height()
            if height > process.disk.height and (ready is None or ready < height):
                return  # the one below is on its way through disk and ledger
            certified = self._deliveries.popleft()
            if height <= process.disk.height or ready != height:
                continue
            process.step(DecidedReceived(process.at(), certified))
            if self._replica_height() == height:
                self._deliveries.clear()  # they come again behind a true one
                self._synchronizer.invalid(height, "its certificate or its parts are not what C(h) decided")

    def _load(self, height: int) -> bytes | None:
        certified = self._process.disk.read_block(height)
        return None if certified is None else encode(certified)

    def _tip(self) -> StatusAnnouncement:
        ledger = self._process.ledger
        return StatusAnnouncement(ledger.height, ledger.context().parent_hash, 1)


def group_of(own: Delegate, delegates: DelegateSet, members: Sequence[Delegate]) -> tuple[PublicKey, ...]:
    """Stand-in groups: members without a seat are dealt out to the delegates in turn."""
    others = [member for member in members if delegates.position(member.address) is None]
    rank = delegates.position(own.address)
    if rank is None:
        rank = others.index(own) % len(delegates) if own in others else 0
    dealt = tuple(item.public_key for place, item in enumerate(others) if place % len(delegates) == rank)
    return (delegates.ranking[rank].public_key, *dealt)
