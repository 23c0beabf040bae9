"""Seeded histories of a whole market: what members may do they do, rightly and wrongly, and delegates fail.

Made by the node's own engine (`tests.support`), certified with the members' keys: what the auditor has to agree with.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from consensus.block import Certificate, CertifiedBlock, Header, full_hash
from consensus.delegates import DelegateSet
from consensus.encoding import encode
from consensus.grouping import GroupingMember, score
from consensus.merkle import leaf_hash, merkle_path, merkle_root
from consensus.messages import Commit, sign_vote
from consensus.types import Address
from contracts.engine import BlockOutcome
from contracts.epoch_state import seat_set_at
from contracts.genesis import Admission
from contracts.receipts import EpochPhase
from contracts.transaction import (
    Ballot,
    BuyerRule,
    ChangeMeter,
    ConflictingVotes,
    Evidence,
    Excuse,
    Heartbeat,
    InvalidHeaderProposed,
    InvalidTransactionProposed,
    Issue,
    Join,
    Leave,
    Plan,
    Reading,
    Redeem,
    Terms,
    TradeAccept,
    TradeCancel,
    TradeDecline,
    TradeOffer,
    TradeOpen,
    TradeWithdraw,
    Transaction,
    Transfer,
)
from tests.support.chain import Key
from tests.support.epochs import EpochChain


class CertifiedChain(EpochChain):
    """A chain that keeps the canonical bytes of its certified blocks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.certified: list[bytes] = []
        self.later_views = 0
        """Views by which certificates are above their headers': the block was proposed again."""

    @property
    def genesis_bytes(self) -> bytes:
        """Canonical bytes of block 0."""
        return encode(self.genesis)

    def block(self, *transactions: Transaction, **options: Any) -> BlockOutcome:
        """As the base, and keep the bytes."""
        outcome = super().block(*transactions, **options)
        assert self.certificate is not None
        self.certified.append(encode(CertifiedBlock(self.blocks[-1], self.certificate)))
        return outcome

    def certify(self, header: Header, delegates: DelegateSet, absent: Iterable[Address] = ()) -> Certificate:
        """Commits of a view ``later_views`` above the header's."""
        again = msgspec.structs.replace(header, view=header.view + self.later_views)
        certificate = super().certify(again, delegates, absent)
        if not self.later_views:
            return certificate
        digest, shares = header.digest(), []
        for share in certificate.signatures:
            key = next(key for key in self.keys.values() if key.public_key == share.signer)
            place = (self.chain_id, header.epoch, header.height, again.view, digest)
            shares.append(msgspec.structs.replace(share, signature=sign_vote(Commit, *place, key).signature))
        return msgspec.structs.replace(certificate, digest=digest, signatures=tuple(shares))


class Market:
    """A chain and what its members know of offers, trades and meters; every choice is drawn from ``seed``."""

    def __init__(self, seed: int, *, halts: float = 0.02, **options: Any) -> None:
        """``halts``: how likely a block comes half a minute or more after its parent."""
        self.draw = random.Random(seed)
        self.halts = halts
        self.asleep: bytes | None = None
        defaults: dict[str, Any] = {
            "members": 9,
            "groups": 4,
            "missed_limit": 4,
            "dormant_epochs": 1,
            "balance": 3 * 10**13,
        }
        self.chain = CertifiedChain(**(defaults | options))
        self.invited = self.chain.genesis.admission is Admission.INVITED
        self.joiners = [Key(20_000 + i) for i in range(6)]
        self.offers: list[tuple[bytes, Terms, Key]] = []
        self.trades: list[tuple[bytes, Terms]] = []
        self.counters: dict[bytes, int] = {}
        self.sequences: dict[tuple[bytes, int], int] = {}
        self.meters_made = 0
        self.acts: list[Callable[[], Transaction | None]] = [
            self.transfer,
            *[self.open_trade] * 3,
            *[self.offer, self.accept] * 2,
            self.withdraw_or_decline,
            self.cancel,
            *[self.readings] * 4,
            self.heartbeat,
            self.join,
            self.leave,
            self.change_meter,
            self.evidence,
            self.operators,
            *[self.ballots] * 2,
            *[self.plan] * 2,
        ]

    # ------------------------------------------------------------ blocks

    def run(self, epochs: int, blocks: int = 10_000) -> CertifiedChain:
        """Blocks until epoch ``epochs`` runs."""
        while self.chain.record.epoch < epochs and self.chain.height < blocks:
            self.step()
        return self.chain

    def step(self) -> None:
        """One block of random content, gaps, views and absences."""
        draw, chain = self.draw, self.chain
        transactions = []
        for _ in range(draw.choice((0, 1, 2, 4, 8))):
            transaction = draw.choice(self.acts)()
            if transaction is not None:
                transactions.append(transaction)
        view = draw.choice((0,) * 12 + (1, 2))
        chain.later_views = draw.choice((0,) * 8 + (1,))
        absent = self._absent()
        least = 50 if transactions else 500
        after_ms = draw.choice((least, 500, 700, 900, 1_500, 2_500))
        if draw.random() < self.halts:
            after_ms = 110_000 if transactions else 130_000
        chain.block(*transactions, after_ms=after_ms, view=view, absent=absent)
        self._note(transactions)

    def _absent(self) -> list[bytes]:
        """Who is missing from the block's certificate: now and then somebody for long."""
        draw, holders = self.draw, self.chain.holders()
        if len(holders) < 4:
            return []
        if draw.random() < 0.08:
            self.asleep = draw.choice(holders) if self.asleep is None else None
        if self.asleep in holders:
            return [self.asleep]
        return draw.sample(holders, draw.choice((0, 0, 1)))

    def _note(self, transactions: list[Transaction]) -> None:
        for transaction, receipt in zip(transactions, self.chain.outcomes[-1].receipts, strict=False):
            if receipt.code:
                continue
            payload = transaction.payload
            if isinstance(payload, TradeOffer):
                offerer = self.chain.keys[transaction.sender]
                self.offers.append((transaction.id, payload.terms, offerer))
            elif isinstance(payload, TradeOpen):
                self.trades.append((transaction.id, payload.terms))
            elif isinstance(payload, TradeAccept):
                self.trades += [(i, terms) for i, terms, _ in self.offers if i == payload.offer_id]
        self.offers, self.trades = self.offers[-12:], self.trades[-40:]

    # ------------------------------------------------------------ money and members

    @property
    def people(self) -> list[Key]:
        """All who ever were members."""
        return list(self.chain.keys.values())

    def anyone(self) -> Key:
        return self.draw.choice(self.people)

    def transfer(self) -> Transaction:
        recipient = self.anyone().address if self.draw.random() < 0.95 else bytes(20)
        amount = self.draw.choice((1, 10**9, 10**14, 2**62))
        return self.chain.transaction(self.anyone(), Transfer(recipient, amount))

    def join(self) -> Transaction | None:
        draw, chain = self.draw, self.chain
        if draw.random() < 0.5:
            return None
        key = draw.choice(self.joiners + chain.members[:2])
        chain.keys.setdefault(key.address, key)
        meter = chain.meters.setdefault(key.address, Key(30_000 + len(chain.meters)))
        approvers = draw.choice((chain.operators, chain.operators[:1]))
        invite = None
        if self.invited and draw.random() < 0.9:
            invite = chain.invite(key, chain.time_ms + draw.choice((-1, 60_000)), approvers)
        power = draw.choice((2_000, 10_000))
        return chain.transaction(key, Join(key.public_key, chain.meter(key, meter, power, approvers), invite))

    def leave(self) -> Transaction | None:
        return self.chain.transaction(self.anyone(), Leave()) if self.draw.random() < 0.15 else None

    def change_meter(self) -> Transaction | None:
        draw, chain = self.draw, self.chain
        if draw.random() < 0.6:
            return None
        member = self.anyone()
        self.meters_made += 1
        key = draw.choice((Key(40_000 + self.meters_made), draw.choice(list(chain.meters.values()))))
        meter = chain.meter(member, key, draw.choice((1_500, 20_000)), chain.operators)
        if draw.random() < 0.9:
            chain.meters[member.address] = key
        return chain.transaction(member, ChangeMeter(meter))

    def operators(self) -> Transaction | None:
        chain, draw = self.chain, self.draw
        if not chain.operators:
            return None
        first, *rest = chain.operators if draw.random() < 0.8 else chain.operators[:1]
        amount = draw.choice((5, 10**15, 2**63 - 1))
        kind = draw.randrange(3)
        if kind == 0:
            return chain.transaction(first, Issue(self.anyone().address, amount), *rest)
        if kind == 1:
            return chain.transaction(self.anyone(), Redeem(amount), first, *rest)
        if not self.trades:
            return None
        return chain.transaction(first, Excuse(draw.choice(self.trades)[0]), *rest)

    # ------------------------------------------------------------ trades

    def terms(self) -> tuple[Key, Key, Terms]:
        draw, chain = self.draw, self.chain
        seller, buyer = draw.sample(self.people, 2)
        if draw.random() < 0.03:
            buyer = seller
        slot = chain.time_ms // chain.parameters.slot_ms + draw.choice((0, 2, 2, 3, 3, 5))
        start = slot * chain.parameters.slot_ms + (7 if draw.random() < 0.03 else 0)
        return (
            seller,
            buyer,
            Terms(
                seller.address,
                buyer.address,
                draw.choice((1, 333, 1_000, 2_500, 6_000)),
                draw.choice((0, 1, 200_000, 999_999_937)),
                start,
                draw.choice((1, 2, 3, 5)),
                draw.choice((0, 1_000, 3_333, 10_000)),
                draw.choice(list(BuyerRule)),
                start - draw.choice((0, 0, 0, 0, 400, 900, -100)),
            ),
        )

    def open_trade(self) -> Transaction | None:
        seller, buyer, terms = self.terms()
        if seller is buyer:
            return None
        return self.chain.transaction(seller, TradeOpen(terms), buyer)

    def offer(self) -> Transaction:
        seller, buyer, terms = self.terms()
        sender = self.draw.choice((seller, buyer) if self.draw.random() < 0.95 else (self.anyone(),))
        return self.chain.transaction(sender, TradeOffer(terms))

    def accept(self) -> Transaction | None:
        if not self.offers:
            return None
        identity, terms, offerer = self.draw.choice(self.offers[-4:])
        other = terms.buyer if offerer.address == terms.seller else terms.seller
        sender = self.chain.keys[other] if self.draw.random() < 0.9 else self.anyone()
        return self.chain.transaction(sender, TradeAccept(identity))

    def withdraw_or_decline(self) -> Transaction | None:
        if not self.offers or self.draw.random() < 0.5:
            return None
        identity, terms, offerer = self.draw.choice(self.offers[-4:])
        if self.draw.random() < 0.5:
            return self.chain.transaction(offerer, TradeWithdraw(identity))
        party = self.chain.keys[self.draw.choice((terms.buyer, terms.seller))]
        return self.chain.transaction(party, TradeDecline(identity))

    def cancel(self) -> Transaction | None:
        if not self.trades:
            return None
        identity, terms = self.draw.choice(self.trades[-3:])
        party = self.chain.keys[self.draw.choice((terms.buyer, terms.seller))]
        return self.chain.transaction(party, TradeCancel(identity))

    # ------------------------------------------------------------ meters

    def readings(self) -> Transaction:
        batch = tuple(self._reading() for _ in range(self.draw.choice((1, 4, 10))))
        return self.chain.readings(*batch)

    def _reading(self) -> Reading:
        draw, chain = self.draw, self.chain
        now = chain.time_ms // chain.parameters.slot_ms
        if self.trades and draw.random() < 0.85:
            _, terms = draw.choice(self.trades[-10:])
            member = chain.keys[draw.choice((terms.seller, terms.buyer))]
            first = terms.start_ms // chain.parameters.slot_ms
            slot = first + draw.randrange(terms.slots)
            share = terms.quantity_wh // terms.slots
            registers = (share, share + 1, 2 * share, share // 2, 0)
        else:
            member, slot = self.anyone(), now - draw.choice((1, 1, 0, 2, 3, 8))
            registers = (0, 100, 2_500, 10**6, 300)
        # A slot is seldom asked for before it can be read.
        slot = min(slot, now - 1) if draw.random() < 0.9 else slot
        counter = slot * 10 if draw.random() < 0.95 else draw.randrange(slot * 11)
        return chain.reading(member, slot, draw.choice(registers), draw.choice(registers), counter=counter)

    # ------------------------------------------------------------ epochs

    def ballots(self) -> Transaction | None:
        chain, draw = self.chain, self.draw
        voting = chain.record.phase is EpochPhase.VOTING
        epoch = chain.record.epoch + (1 if voting or draw.random() < 0.05 else 0)
        batch = [self._ballot(epoch) for _ in range(draw.choice((1, 3, 6)))]
        return chain.ballots(*batch)

    def _ballot(self, epoch: int) -> Ballot:
        chain, draw = self.chain, self.draw
        voter = self.anyone()
        pool = self.people
        if epoch in [snapshot.epoch for _, snapshot in chain.state.epoch.groups.items()]:
            grouping = chain.state.epoch.grouping(epoch)
            if voter.address in grouping.group_of and draw.random() < 0.95:
                pool = chain.group(voter, epoch)
        sequence = self.sequences.get((voter.address, epoch), 0) + draw.choice((1, 1, 1, 0))
        self.sequences[voter.address, epoch] = sequence
        choices = draw.sample(pool, min(len(pool), draw.choice((1, 2, 3))))
        if draw.random() < 0.03:
            choices = [choices[0], choices[0]]
        return chain.ballot(voter, epoch, sequence, *choices)

    def plan(self) -> Transaction | None:
        chain, draw = self.chain, self.draw
        epoch = chain.record.epoch + 1
        if chain.record.phase is not EpochPhase.PLANNING:
            return (
                chain.transaction(self.anyone(), Plan(epoch, (0, 1), 0, 0)) if draw.random() < 0.05 else None
            )
        members = [
            m for m in chain.state.epoch.snapshots.require(epoch.to_bytes(8, "big")).members if m.eligible
        ]
        total = min(chain.parameters.groups, len(members)) or len(members)
        size, larger = divmod(len(members), total)
        sizes = [size] * (total - larger) + [size + 1] * larger
        assignment = [number for number, width in enumerate(sizes) for _ in range(width)]
        tries = [draw.sample(assignment, len(assignment)) for _ in range(30)]
        scores = [self._score(members, tried, total) for tried in tries]
        best = min(scores)
        if draw.random() < 0.3:
            return chain.transaction(self.anyone(), Plan(epoch, tuple(sorted(assignment)[1:]), 0, 0))
        claim = best if draw.random() < 0.8 else (0, max(0, best[1] - 1))
        return chain.transaction(self.anyone(), Plan(epoch, tuple(tries[scores.index(best)]), *claim))

    def _score(self, members: Any, assignment: list[int], total: int) -> tuple[int, int]:
        grouped = [GroupingMember(m.address, m.energy_wh, m.credit) for m in members]
        found = score(grouped, assignment, total, self.chain.parameters)
        return found.energy_excess, found.credit_excess

    def heartbeat(self) -> Transaction:
        chain, draw = self.chain, self.draw
        member, commit = self.anyone(), None
        counters = chain.state.epoch.missed.require(b"").counters
        if counters and draw.random() < 0.7:
            counter = draw.choice(counters)
            member = chain.keys[counter.address]
            height = counter.since_height + draw.randrange(counter.heights + 1)
            commit = sign_vote(Commit, chain.chain_id, chain.record.epoch, height, 0, bytes(32), member)
        epoch = chain.record.epoch + (draw.random() < 0.05)
        return chain.transaction(member, Heartbeat(epoch, commit))

    def evidence(self) -> Transaction | None:
        chain, draw = self.chain, self.draw
        if not chain.height or draw.random() < 0.8:
            return None
        height = max(1, chain.height - draw.choice((0, 1, 5, 60)))
        try:
            holders = [seat.holder for seat in seat_set_at(chain.state, height).ranking]
        except Exception:  # noqa: BLE001 - too old: anybody will do
            holders = [key.address for key in chain.members]
            return chain.transaction(
                self.anyone(), Evidence(ConflictingVotes(*chain.votes(chain.keys[holders[0]])))
            )
        guilty = chain.keys[draw.choice(holders)]
        kind = draw.randrange(3)
        if kind == 2:
            return chain.transaction(self.anyone(), Evidence(self._wrong_transaction(guilty, height)))
        if kind == 0:
            first, second = chain.votes(guilty, height=height)
            if draw.random() < 0.3:
                second = first
            return chain.transaction(self.anyone(), Evidence(ConflictingVotes(first, second)))
        header = msgspec.structs.replace(
            chain.blocks[height - 1].header,
            proposer=guilty.address,
            version=draw.choice((1, 2)),
            epoch=chain.blocks[height - 1].header.epoch + draw.choice((0, 1)),
        )
        vote = chain.pre_prepare(guilty, header)
        return chain.transaction(self.anyone(), Evidence(InvalidHeaderProposed(vote, header)))

    def _wrong_transaction(self, guilty: Key, height: int) -> InvalidTransactionProposed:
        draw, chain = self.draw, self.chain
        time_ms = chain.blocks[height - 1].header.time_ms
        good = chain.transaction(self.anyone(), Leave(), valid_from_ms=time_ms)
        raws = [b"\x00", good.raw, good.raw[:-1] + bytes([good.raw[-1] ^ 1])]
        place = draw.randrange(len(raws))
        leaves = [leaf_hash(full_hash(raw)) for raw in raws]
        header = msgspec.structs.replace(
            chain.blocks[height - 1].header,
            proposer=guilty.address,
            transactions_root=merkle_root(leaves),
        )
        path = merkle_path(leaves, draw.choice((place, place, place, 0)))
        vote = chain.pre_prepare(guilty, header)
        return InvalidTransactionProposed(vote, header, path, raws[place])
