"""The epoch: duties, ballots, plans, evidence, faults, seats, phases, rewards (annex on the epoch)."""

from typing import Any

from node.auditor import planner
from node.auditor.election import (
    Count,
    Voter,
    count,
    electable_in_recount,
    electable_in_tally,
    head,
    primary,
    ranked,
)
from node.auditor.encoding import address_of, encode, path_holds, tagged, u64
from node.auditor.ledger import Code, Event, Ledger, Reason, Refused, demand
from node.auditor.shapes import (
    BAD_TRANSACTION,
    CONFLICT,
    Ballot,
    Block,
    Header,
    Plan,
    Transaction,
    Vote,
)
from node.auditor.state import (
    BallotRecord,
    BestPlan,
    ChainRecord,
    Conduct,
    Groups,
    Seat,
    SeatSet,
    Snapshot,
)
from node.auditor.validity import transaction_fault

RUNNING, PLANNING, VOTING, CLOSING = 1, 2, 3, 4
NO_BLOCK, WRONG_BLOCK, DOWN = 1, 2, 3
FAULT_REASONS = {NO_BLOCK: Reason.NO_BLOCK, WRONG_BLOCK: Reason.WRONG_BLOCK, DOWN: Reason.DOWN}
VERSION = 1
MAX_BALLOTS_PER_EPOCH = 4
EPOCHS_KEPT = 8
"""Besides the current one and the next: faults are counted over ten epochs (PROTOCOL 5.5)."""


class Epoch:
    """The epoch's rules over one ledger; ``_faults`` are those the present block has found."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.state = ledger.state
        self.rules = ledger.parameters
        self._faults: list[tuple[int, bytes, int]] = []
        self._grouped: dict[int, dict[bytes, frozenset[bytes]]] = {}
        """By epoch: each member's group."""

    # ---- looking up

    def seats(self, height: int) -> SeatSet:
        """C(height)."""
        sets = [s for s in self.state.seat_sets.rows.values() if s.from_height <= height]
        return max(sets, key=lambda s: s.from_height)

    def head_of(self, header_height: int) -> bytes:
        """head(h) of the height after the last block's."""
        chain = self.state.chain.value
        first = header_height in (chain.epoch_first_height, 1)
        return head(self.seats(max(header_height - 1, 1)), chain.proposer, self.seats(header_height), first)

    def _members_by_group(self, epoch: int) -> list[list[Voter]]:
        groups, snapshot = self.state.groups[u64(epoch)], self.state.snapshots[u64(epoch)]
        eligible = [member for member in snapshot.members if member[3]]
        result: list[list[Voter]] = [[] for _ in range(groups.group_total)]
        for number, (address, energy, credit, _) in zip(groups.assignment, eligible, strict=True):
            left = self.state.accounts[address].left_height is not None
            recent = [f for f in self._conduct(address).faults if f[0] in (epoch - 1, epoch)]
            wrong, down = any(f[2] for f in recent), any(f[3] for f in recent)
            result[number].append(Voter(address, energy, credit, left, wrong, down))
        return result

    def _group_of(self, address: bytes, epoch: int) -> frozenset[bytes]:
        """Members of the group of ``address``; nobody if it has none."""
        groups, snapshot = self.state.groups.get(u64(epoch)), self.state.snapshots.get(u64(epoch))
        if groups is None or snapshot is None:
            return frozenset()
        if epoch not in self._grouped:
            eligible = [member[0] for member in snapshot.members if member[3]]
            inside: dict[int, list[bytes]] = {}
            for member, number in zip(eligible, groups.assignment, strict=True):
                inside.setdefault(number, []).append(member)
            sets = [(members, frozenset(members)) for members in inside.values()]
            self._grouped[epoch] = {member: whole for members, whole in sets for member in members}
        return self._grouped[epoch].get(address, frozenset())

    def _conduct(self, address: bytes) -> Conduct:
        return self.state.conduct.get(address) or Conduct()

    def _set_conduct(self, address: bytes, conduct: Conduct) -> None:
        if conduct != Conduct():
            self.state.conduct.put(address, conduct)
        elif address in self.state.conduct:
            self.state.conduct.delete(address)

    # ---- step 1

    def begin(self, block: Block) -> None:
        """Active holders, faults (a), counters of (c)."""
        header, height = block.header, block.header.height
        self._faults = []
        current = self.seats(height)
        if current.from_height == height:
            for holder in current.holders:
                self.ledger.update(holder, active_epoch=self.ledger.epoch)
        if height > 1 and 0 < header.view <= current.faults:
            first = self.head_of(height)
            for view in range(header.view):
                self._faults.append((NO_BLOCK, primary(current, first, view), height))
        self._count_missed(block)

    def _count_missed(self, block: Block) -> None:
        chain, height = self.state.chain.value, block.header.height
        (before,) = self.state.missed.value
        after: list[tuple[bytes, int, int, int]] = []
        if chain.phase == CLOSING:
            after = list(before)
        elif height != chain.epoch_first_height and block.last_commit is not None:
            signed = {address_of(key) for key, _ in block.last_commit.signatures}
            known = {counter[0]: counter for counter in before}
            for holder in self.seats(height - 1).holders:
                if holder in signed:
                    continue
                _, heights, since, since_ms = known.get(holder, (holder, 0, height - 1, chain.chain_ms))
                after.append((holder, heights + 1, since, since_ms))
        self._set_missed(after)

    def _set_missed(self, counters: list[tuple[bytes, int, int, int]]) -> None:
        if self.state.missed.value != (tuple(counters),):
            self.state.missed.value = (tuple(counters),)

    # ---- step 3: transactions

    def heartbeat(self, transaction: Transaction) -> None:
        """A sign of life (PROTOCOL 3.2c, 4.6)."""
        sender, (epoch, commit) = transaction.body.sender, transaction.body.payload
        ledger = self.ledger
        demand(epoch == ledger.epoch, Code.HEARTBEAT_WRONG)
        demand(sender in self.state.accounts, Code.NOT_A_MEMBER)
        (counters,) = self.state.missed.value
        counter = next((c for c in counters if c[0] == sender), None)
        if counter is None:
            idle = commit is None and sender not in self.seats(ledger.height).holders
            demand(idle, Code.HEARTBEAT_WRONG)
            ledger.member(sender)
        else:
            _, heights, since, _ = counter
            shown = (
                commit is not None
                and commit.epoch == ledger.epoch
                and since <= commit.height < since + heights
                and address_of(commit.signer) == sender
            )
            demand(shown, Code.HEARTBEAT_WRONG)
            self._set_missed([c for c in counters if c[0] != sender])
        ledger.update(sender, active_epoch=ledger.epoch)
        ledger.emit(Event.HEARTBEAT_SEEN, sender)

    def ballots(self, transaction: Transaction) -> list[tuple[int, Code]]:
        """Judge each ballot by itself; the refused ones by their place."""
        refused = []
        for place, ballot in enumerate(transaction.body.payload[0]):
            try:
                self._ballot(ballot)
            except Refused as refusal:
                refused.append((place, refusal.code))
        return refused

    def _ballot(self, ballot: Ballot) -> None:
        ledger, voting = self.ledger, self.state.chain.value.phase == VOTING
        now, later = ballot.epoch == ledger.epoch, ballot.epoch == ledger.epoch + 1
        demand(now or (later and voting), Code.BALLOT_EPOCH_WRONG)
        group = self._group_of(ballot.voter, ballot.epoch)
        demand(group, Code.BALLOT_VOTER_UNKNOWN)
        ledger.member(ballot.voter)
        distinct = len(set(ballot.choices)) == len(ballot.choices)
        demand(distinct and set(ballot.choices) <= group, Code.BALLOT_CHOICE_OUTSIDE_GROUP)
        key = u64(ballot.epoch) + ballot.voter
        known = self.state.ballots.get(key)
        demand(known is None or ballot.sequence > known.sequence, Code.BALLOT_SEQUENCE_OLD)
        accepted = 0 if known is None else known.accepted
        demand(accepted < MAX_BALLOTS_PER_EPOCH, Code.BALLOT_TOO_MANY)
        self.state.ballots.put(key, BallotRecord(ballot.sequence, ballot.choices, accepted + 1))
        ledger.update(ballot.voter, active_epoch=ledger.epoch)
        ledger.emit(Event.BALLOT_ACCEPTED, ballot.voter, ballot.epoch, ballot.sequence, ballot.choices)

    def _planning_input(self, epoch: int) -> tuple[list[bytes], list[int], list[int], planner.Rules]:
        snapshot = self.state.snapshots[u64(epoch)]
        eligible = [member for member in snapshot.members if member[3]]
        total = min(self.rules.groups, len(eligible)) or len(eligible)
        tolerances = (self.rules.energy_tolerance_bp, self.rules.credit_tolerance_bp)
        rules = planner.Rules(total, snapshot.seed, *tolerances)
        return [m[0] for m in eligible], [m[1] for m in eligible], [m[2] for m in eligible], rules

    def plan(self, transaction: Transaction) -> None:
        """PROTOCOL 4.5."""
        plan: Plan = transaction.body.payload
        sender, ledger = transaction.body.sender, self.ledger
        planning = self.state.chain.value.phase == PLANNING
        demand(planning and plan.epoch == ledger.epoch + 1, Code.PLAN_PHASE_WRONG)
        best = self.state.best_plan.get()
        submitters = () if best is None else best.submitters
        demand(sender not in submitters, Code.PLAN_ALREADY_COMMITTED)
        addresses, energy, credit, rules = self._planning_input(plan.epoch)
        if best is None:
            built_in = planner.built_in_plan(addresses, energy, credit, rules)
            to_beat = planner.score_of(built_in, energy, credit, rules)
        else:
            to_beat = best.score
        claim = (plan.energy_excess_wh, plan.credit_excess)
        demand(claim < to_beat, Code.PLAN_CLAIM_NOT_BETTER)
        whole = len(plan.assignment) == len(addresses)
        demand(whole and planner.is_partition(plan.assignment, rules.groups), Code.PLAN_NO_PARTITION)
        score = planner.score_of(plan.assignment, energy, credit, rules)
        demand(claim == score, Code.PLAN_CLAIM_WRONG)
        self.state.best_plan.value = BestPlan(
            plan.epoch, sender, plan.assignment, score, (*submitters, sender)
        )
        ledger.emit(Event.PLAN_ACCEPTED, plan.epoch, sender, *claim)

    def evidence(self, transaction: Transaction) -> None:
        """PROTOCOL 3.2b."""
        (proof,) = transaction.body.payload
        vote: Vote = proof[1]
        demand(vote.height <= self.ledger.height, Code.EVIDENCE_TOO_EARLY)
        least = min(s.from_height for s in self.state.seat_sets.rows.values())
        demand(vote.height >= least, Code.EVIDENCE_OLD)
        accused = address_of(vote.signer)
        demand(accused in self.seats(vote.height).holders, Code.EVIDENCE_NOT_A_DELEGATE)
        key = u64(vote.height) + accused
        demand(key not in self.state.proven, Code.EVIDENCE_KNOWN)
        proves = _conflict(vote, proof[2]) if proof[0] == CONFLICT else self._wrong_block(proof, accused)
        demand(proves, Code.EVIDENCE_PROVES_NOTHING)
        self.state.proven.put(key, (self.ledger.height,))
        self._faults.append((WRONG_BLOCK, accused, vote.height))

    def _wrong_block(self, proof: tuple[Any, ...], accused: bytes) -> bool:
        vote: Vote = proof[1]
        header: Header = proof[2]
        digest = tagged("block.header", encode(header))
        if (digest, header.height, header.view) != (vote.digest, vote.height, vote.view):
            return False
        if header.proposer != accused:
            return False
        if proof[0] != BAD_TRANSACTION:
            own = (self.ledger.chain_id, VERSION, self.seats(header.height).epoch)
            return (header.chain_id, header.version, header.epoch) != own
        path, raw = proof[3], proof[4]
        if not path_holds(header.transactions_root, tagged("transaction.full", raw), *path):
            return False
        return transaction_fault(raw, self.ledger.chain_id, self.rules, header.time_ms) is not None

    # ---- step 5

    def judge(self) -> None:
        """(c), charges, recount."""
        chain = self.state.chain.value
        if chain.phase != CLOSING:
            (counters,) = self.state.missed.value
            down = [
                c
                for c in counters
                if c[1] >= self.rules.missed_limit and chain.chain_ms - c[3] >= self.rules.missed_ms
            ]
            self._faults += [(DOWN, c[0], self.ledger.height - 1) for c in down]
            self._set_missed([c for c in counters if c not in down])
        for kind, accused, height in self._faults:
            self._charge(kind, accused, height)
        if not (chain.phase == VOTING and self.ends_phase()):
            self._recount()

    def _charge(self, kind: int, accused: bytes, height: int) -> None:
        epoch, conduct = self.ledger.epoch, self._conduct(accused)
        counts = [0, 0, 0]
        for fault in conduct.faults:
            if fault[0] == epoch:
                counts = list(fault[1:])
        first = counts[1] == 0 if kind == WRONG_BLOCK else counts[0] + counts[2] == 0
        counts[kind - 1] += 1
        faults = [f for f in conduct.faults if f[0] != epoch] + [(epoch, counts[0], counts[1], counts[2])]
        conduct = conduct._replace(faults=tuple(sorted(faults)), streak=conduct.streak + first)
        self._set_conduct(accused, conduct)
        self.ledger.emit(Event.FAULT_RECORDED, accused, kind, height, first)
        if not first:
            return
        loss = self.rules.beta << min(conduct.streak - 1, 3)
        self.ledger.change_credit(accused, FAULT_REASONS[kind], -loss)
        seats = [seat for seat in self.seats(height).ranking if seat.holder == accused]
        for supporter in seats[0].supporters if seats else ():
            paid = self._conduct(supporter)
            if supporter != accused and paid.voter_paid_epoch != epoch:
                self._set_conduct(supporter, paid._replace(voter_paid_epoch=epoch))
                self.ledger.change_credit(supporter, Reason.VOTER_PENALTY, -self.rules.gamma)

    def _is_excluded(self, address: bytes, epoch: int) -> bool:
        """From the seats of ``epoch``: has left, or has (b) or (c) recorded in it or the one before (7.2)."""
        recent = [f for f in self._conduct(address).faults if f[0] in (epoch - 1, epoch)]
        left = self.state.accounts[address].left_height is not None
        return left or any(f[2] or f[3] for f in recent)

    def _recount(self) -> None:
        before = self.seats(self.ledger.height + 1)
        epoch, allowance = before.epoch, before.faults - before.replacements
        if allowance <= 0 or not any(self._is_excluded(holder, epoch) for holder in before.holders):
            return
        seed, ballots = self.state.snapshots[u64(epoch)].seed, self._newest_ballots(epoch)
        groups = self._members_by_group(epoch)
        kept: list[Seat] = []
        made: list[Count] = []
        for seat in before.ranking:
            members = groups[seat.group]
            electable = electable_in_recount(members, self.rules.candidate_floor)
            if not self._is_excluded(seat.holder, epoch) or not electable or len(made) == allowance:
                kept.append(seat)
            else:
                made.append(count(seat.group, members, electable, ballots, seed))
        if made:
            self._announce(epoch, made, recount=True)
            ranking = (*kept, *(result.seat for result in made))
            replacements = before.replacements + len(made)
            self._seat(SeatSet(epoch, self.ledger.height + 2, replacements, ranking))

    def _newest_ballots(self, epoch: int) -> dict[bytes, tuple[bytes, ...]]:
        prefix = u64(epoch)
        rows = self.state.ballots.rows.items()
        return {key[8:]: ballot.choices for key, ballot in rows if key[:8] == prefix}

    def _announce(self, epoch: int, results: list[Count], recount: bool) -> None:
        for result in results:
            seat = result.seat
            fields = (epoch, seat.group, seat.holder, seat.votes, result.ballots, recount)
            self.ledger.emit(Event.GROUP_TALLIED, *fields)

    def _seat(self, seats: SeatSet) -> None:
        self.state.seat_sets.put(u64(seats.from_height), seats)
        self.ledger.emit(Event.DELEGATES_CHANGED, seats.from_height, tuple(seats.holders))

    # ---- step 6

    def ends_phase(self) -> bool:
        """Whether the present block is the last of its phase (PROTOCOL 4.4)."""
        chain = self.state.chain.value
        elapsed = self.ledger.chain_ms - chain.phase_since_chain_ms
        if chain.phase == RUNNING:
            return elapsed >= self.rules.run_ms
        if chain.phase == PLANNING:
            return elapsed >= self.rules.planning_ms
        if chain.phase == VOTING:
            return elapsed >= self.rules.voting_ms and chain.phase_blocks >= 1
        return True

    def step(self, header: Header, digest: bytes) -> None:
        """The phase's step, then the Chain record."""
        chain, ended = self.state.chain.value, self.ends_phase()
        if ended:
            steps = {
                RUNNING: lambda: self._snapshot(digest),
                PLANNING: self._form_groups,
                VOTING: self._tally,
                CLOSING: self._close,
            }
            steps[chain.phase]()
        phase, epoch, first = chain.phase, chain.epoch, chain.epoch_first_height
        since, blocks = chain.phase_since_chain_ms, chain.phase_blocks + 1
        if ended:
            phase, since, blocks = phase % CLOSING + 1, self.ledger.chain_ms, 0
            if phase == RUNNING:
                epoch, first = epoch + 1, header.height + 1
            self.ledger.emit(Event.PHASE_CHANGED, epoch, phase)
        last = (header.height, digest, header.time_ms, self.ledger.chain_ms, header.proposer)
        self.state.chain.value = ChainRecord(*last, epoch, first, phase, since, blocks)

    def _snapshot(self, digest: bytes) -> None:
        epoch = self.ledger.epoch
        rows = sorted(self.state.accounts.rows.items())
        here = [(address, account) for address, account in rows if account.left_height is None]
        since = epoch - self.rules.dormant_epochs
        active = [account.active_epoch >= since for _, account in here]
        if sum(active) < max(4, self.rules.groups):
            active = [True] * len(here)
        members = tuple(
            (address, account.energy_wh, account.credit, flag)
            for (address, account), flag in zip(here, active, strict=True)
        )
        seed = tagged("seed", digest)
        snapshot = Snapshot(epoch + 1, self.ledger.height, seed, members)
        self.state.snapshots.put(u64(epoch + 1), snapshot)

    def _form_groups(self) -> None:
        epoch, best = self.ledger.epoch + 1, self.state.best_plan.get()
        addresses, energy, credit, rules = self._planning_input(epoch)
        if best is not None:
            groups = Groups(epoch, rules.groups, best.assignment, best.score, best.submitter)
            self.state.best_plan.clear()
        else:
            assignment = planner.built_in_plan(addresses, energy, credit, rules)
            score = planner.score_of(assignment, energy, credit, rules)
            groups = Groups(epoch, rules.groups, assignment, score, None)
        self.state.groups.put(u64(epoch), groups)
        fields = (tuple(addresses), groups.assignment, *groups.score, groups.submitter is not None)
        self.ledger.emit(Event.GROUPS_FORMED, epoch, *fields)

    def _tally(self) -> None:
        epoch = self.ledger.epoch + 1
        seed, ballots = self.state.snapshots[u64(epoch)].seed, self._newest_ballots(epoch)
        floor = self.rules.candidate_floor
        results = [
            count(number, members, electable_in_tally(members, floor), ballots, seed)
            for number, members in enumerate(self._members_by_group(epoch))
        ]
        self._announce(epoch, results, recount=False)
        ranking = ranked((result.seat for result in results), seed)
        self._seat(SeatSet(epoch, self.ledger.height + 2, 0, ranking))
        self.ledger.elections += 1

    def _close(self) -> None:
        epoch = self.ledger.epoch
        clean = [
            seat
            for seat in self.seats(self.ledger.height).ranking
            if not any(fault[0] == epoch for fault in self._conduct(seat.holder).faults)
        ]
        self._reward(clean)
        for seat in clean:
            conduct = self._conduct(seat.holder)
            self._set_conduct(seat.holder, conduct._replace(streak=max(0, conduct.streak - 1)))
        self._decay()
        self._forget()

    def _reward(self, clean: list[Seat]) -> None:
        gains: list[tuple[bytes, Reason, int]] = []
        for seat in clean:
            gains.append((seat.holder, Reason.DELEGATE_REWARD, self.rules.alpha))
            for supporter in seat.supporters:
                paid = self._conduct(supporter).voter_paid_epoch == self.ledger.epoch
                if supporter != seat.holder and not paid:
                    gains.append((supporter, Reason.VOTER_REWARD, self.rules.delta))
        for address, reason, gain in sorted(gains):
            credit = self.state.accounts[address].credit
            self.ledger.change_credit(address, reason, min(gain, gain * (100_000 - credit) // 50_000))

    def _decay(self) -> None:
        epoch = self.ledger.epoch
        sets = [s for s in self.state.seat_sets.rows.values() if s.epoch == epoch]
        served = {holder for s in sets for holder in s.holders}
        groups = self._members_by_group(epoch + 1)
        alone = {members[0].address for members in groups if len(members) == 1}
        for address, _, _, _ in self.state.snapshots[u64(epoch + 1)].members:
            account = self.state.accounts[address]
            voted = u64(epoch + 1) + address in self.state.ballots
            if account.left_height is None and not voted and address not in served | alone:
                loss = -(-account.credit * self.rules.decay_bp // 10_000)
                self.ledger.change_credit(address, Reason.DECAY, -loss)

    def _forget(self) -> None:
        epoch, state = self.ledger.epoch, self.state
        self._grouped.pop(epoch, None)
        state.snapshots.delete(u64(epoch))
        state.groups.delete(u64(epoch))
        for key in [key for key in state.ballots.rows if key[:8] == u64(epoch)]:
            state.ballots.delete(key)
        for key in [key for key, seats in state.seat_sets.rows.items() if seats.epoch < epoch]:
            state.seat_sets.delete(key)
        least = min(seats.from_height for seats in state.seat_sets.rows.values())
        for key in [key for key in state.proven.rows if key[:8] < u64(least)]:
            state.proven.delete(key)
        for address, conduct in list(state.conduct.rows.items()):
            faults = tuple(fault for fault in conduct.faults if fault[0] >= epoch - EPOCHS_KEPT)
            kept = conduct._replace(voter_paid_epoch=None, faults=faults)
            if kept != conduct:
                self._set_conduct(address, kept)


def _conflict(first: Vote, second: Vote) -> bool:
    same = (first.phase, first.epoch, first.height, first.view, first.signer)
    other = (second.phase, second.epoch, second.height, second.view, second.signer)
    return same == other and first.digest != second.digest
