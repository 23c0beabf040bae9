"""The simulated doors themselves: time, links, disks, keys, sets, transactions."""

import random

import pytest

from consensus.delegates import Delegate
from consensus.effects import AbstainRecord, JournalRecord, SentRecord
from consensus.errors import InvariantViolation, MalformedInput
from consensus.hashing import address_of
from consensus.inputs import Instant
from consensus.messages import Prepare
from consensus.removal import transaction_id
from network.simulation.agenda import Agenda
from network.simulation.clock import GENESIS_MS, NodeClock
from network.simulation.disk import Disk, DiskFailed
from network.simulation.faults import (
    ClogLinks,
    Crash,
    FaultPlanner,
    FrozenClock,
    LoseJournal,
    RestoreDisk,
    RotJournal,
    WrongClock,
)
from network.simulation.keys import Ed25519Ring, KeyedHashRing, KeyRing
from network.simulation.letters import AskHeight, GiveHeight, Letter
from network.simulation.network import CALM, Clog, Cut, Impairment, LinkQuality, Network
from network.simulation.scenario import FAULT_KINDS, FRAIL_KINDS
from network.simulation.timetable import Timetable
from network.simulation.workload import Workload, open_transaction


def never() -> bool:
    return False


def test_agenda_runs_in_order_of_time_then_of_entry() -> None:
    agenda, seen = Agenda(), list[str]()
    agenda.after(2_000, lambda: seen.append("later"))
    agenda.after(1_000, lambda: seen.append("first"))
    agenda.call_later_ms(1, lambda: seen.append("second"))
    agenda.after(1_500, lambda: seen.append("cancelled")).cancel()
    agenda.run(5_000, never)
    assert seen == ["first", "second", "later"]
    assert (agenda.now_us, agenda.now_ms(), agenda.done) == (5_000, 5, 3)


def test_agenda_halts_where_an_action_says_so() -> None:
    agenda, seen = Agenda(), list[int]()
    agenda.call(1, seen.append, 1)
    agenda.call(2, agenda.halt)
    agenda.call(3, seen.append, 3)
    agenda.run(100)
    assert (seen, agenda.now_us) == ([1], 2)
    agenda.run(100)
    assert (seen, agenda.now_us) == ([1, 3], 100)


def test_agenda_stops_when_asked() -> None:
    agenda, seen = Agenda(), list[int]()
    for number in range(5):
        agenda.after(number, lambda number=number: seen.append(number))
    agenda.run(100, lambda: len(seen) == 2)
    assert (seen, agenda.now_us) == ([0, 1], 1)


def test_a_wrong_clock_leaves_the_monotonic_one_alone() -> None:
    clock = NodeClock(Agenda(), 77, 5)
    clock.offset_ms = -3_600_000
    assert (clock.instant().wall_ms, clock.instant().monotonic_ms) == (GENESIS_MS - 3_600_000, 77)
    clock.correct()
    assert clock.instant().wall_ms == GENESIS_MS + 5


class Post:
    """A network of three nodes, and what arrived."""

    def __init__(self, quality: LinkQuality = CALM) -> None:
        self.agenda = Agenda()
        self.arrived: list[tuple[int, int, Letter]] = []
        self.network = Network(self.agenda, random.Random(1), lambda *letter: self.arrived.append(letter))
        self.network.quality = quality

    def run(self) -> list[tuple[int, int, Letter]]:
        self.agenda.run(self.agenda.now_us + 10_000_000, never)
        return self.arrived


def test_calm_links_deliver_once() -> None:
    post = Post()
    post.network.send(0, 1, AskHeight())
    assert post.run() == [(0, 1, AskHeight())]


def test_links_lose_double_and_reorder() -> None:
    lossy = Post(LinkQuality(loss_bp=10_000))
    lossy.network.send(0, 1, AskHeight())
    assert lossy.run() == []
    double = Post(LinkQuality(duplicate_bp=10_000))
    double.network.send(0, 1, AskHeight())
    assert len(double.run()) == 2
    slow = Post(LinkQuality(straggler_bp=5_000, straggler_us=1_000_000))
    for height in range(20):
        slow.network.send(0, 1, GiveHeight(height, bytes(32)))
    heights = [letter.height for *_, letter in slow.run() if isinstance(letter, GiveHeight)]
    assert sorted(heights) == list(range(20))
    assert heights != sorted(heights)


def test_a_cut_is_one_way_or_by_kind_and_takes_what_is_under_way() -> None:
    post = Post()
    one_way, by_kind = Cut((0,), (1,)), Cut((0, 1, 2), (2,), ("AskHeight",))
    post.network.send(0, 1, AskHeight())
    post.network.cut(one_way)
    post.network.cut(by_kind)
    post.network.send(1, 0, AskHeight())
    post.network.send(1, 2, AskHeight())
    post.network.send(1, 2, GiveHeight(1, bytes(32)))
    assert sorted((source, target) for source, target, _ in post.run()) == [(1, 0), (1, 2)]
    post.network.heal(one_way)
    post.network.send(0, 1, AskHeight())
    assert len(post.run()) == 3
    post.network.heal_all()
    post.network.send(1, 2, AskHeight())
    assert len(post.run()) == 4


def test_letters_wait_behind_a_clog_and_come_in_a_burst() -> None:
    post = Post()
    clog = Clog((0,), (1, 2))
    post.network.clog(clog)
    for height in range(5):
        post.network.send(0, 1, GiveHeight(height, bytes(32)))
    post.network.send(1, 0, AskHeight())
    assert post.run() == [(1, 0, AskHeight())]
    post.network.unclog(clog)
    begun_us = post.agenda.now_us
    post.agenda.run(begun_us + 10_000, never)
    assert len(post.arrived) == 6
    post.network.send(0, 1, AskHeight())
    assert len(post.run()) == 7


def test_links_go_bad_in_one_direction_and_recover() -> None:
    post = Post()
    worse = Impairment((0,), (1,), LinkQuality(loss_bp=10_000))
    post.network.impair(worse)
    post.network.send(0, 1, AskHeight())
    post.network.send(1, 0, AskHeight())
    assert post.run() == [(1, 0, AskHeight())]
    post.network.repair(worse)
    post.network.send(0, 1, AskHeight())
    assert len(post.run()) == 2


def test_connections_live_over_links_that_carry_something_both_ways() -> None:
    post = Post()
    post.network.cut(Cut((0,), (1,), ("AskHeight",)))
    assert post.network.connected(0, 1)
    post.network.cut(Cut((0,), (1,)))
    assert not post.network.connected(0, 1)
    assert not post.network.connected(1, 0)
    assert post.network.connected(0, 2)


def test_a_drifting_clock_never_goes_back_and_is_corrected() -> None:
    agenda = Agenda()
    clock, seen = NodeClock(agenda, 0, 7), list[int]()
    for rate_ppm in (10_000, -10_000, 0):
        clock.drift(rate_ppm)
        agenda.run(agenda.now_us + 100_000_000, never)
        seen.append(clock.instant().monotonic_ms)
    assert seen == [101_000, 200_000, 300_000]
    clock.drift(10_000)
    assert clock.delay_us(1_010) == 1_000_000
    agenda.run(agenda.now_us + 100_000_000, never)
    assert clock.instant().wall_ms == GENESIS_MS + 401_000 + 7
    clock.correct()
    assert clock.instant().wall_ms == GENESIS_MS + 400_000 + 7
    assert clock.instant().monotonic_ms == 401_000


def test_a_frozen_wall_clock_leaves_the_monotonic_one_alone() -> None:
    agenda = Agenda()
    clock = NodeClock(agenda, 0)
    clock.freeze()
    agenda.run(5_000_000, never)
    assert clock.instant() == Instant(GENESIS_MS, 5_000)
    clock.thaw()
    assert clock.instant().wall_ms == GENESIS_MS + 5_000


def test_a_failing_disk_says_so_and_a_rotten_journal_is_a_lost_one() -> None:
    disk = Disk()
    disk.write((sent(0),))
    disk.fail(True)
    with pytest.raises(DiskFailed):
        disk.sync()
    disk.fail(False)
    disk.sync()
    disk.rot_journal()
    assert not disk.lost
    assert disk.journal() == ()
    assert disk.lost


def test_an_image_brings_back_the_past() -> None:
    disk = Disk()
    disk.write((sent(0),))
    disk.sync()
    image = disk.image()
    disk.write((sent(1),))
    disk.sync()
    disk.restore(image)
    assert disk.journal() == (sent(0),)
    assert not disk.lost


def sent(view: int) -> SentRecord:
    return SentRecord(1, Prepare(0, 1, view, bytes(32), bytes(32), bytes(64)))


def test_a_disk_keeps_what_was_synced_and_a_prefix_of_the_rest() -> None:
    kept = set()
    for seed in range(40):
        disk = Disk()
        disk.write((sent(0),))
        disk.sync()
        disk.write((sent(1), sent(2)))
        disk.crash(random.Random(seed))
        journal = disk.journal()
        assert journal == (sent(0), sent(1), sent(2))[: len(journal)]
        kept.add(len(journal))
    assert kept == {1, 2, 3}


def test_a_disk_knows_what_was_ever_durable() -> None:
    disk = Disk()
    disk.write((sent(0),))
    assert not disk.ever_sent(sent(0).message)
    disk.sync()
    disk.forget(2)
    assert disk.journal() == ()
    assert disk.ever_sent(sent(0).message)


def test_forgetting_keeps_standing_records() -> None:
    disk, standing = Disk(), AbstainRecord(1)
    records: tuple[JournalRecord, ...] = (sent(0), standing)
    disk.write(records)
    disk.sync()
    disk.forget(5)
    assert disk.journal() == (standing,)


def test_a_lost_journal_is_known_to_be_lost() -> None:
    disk = Disk()
    disk.write((sent(0),))
    disk.sync()
    disk.wipe()
    assert (disk.journal(), disk.lost, disk.height) == ((), True, 0)


@pytest.mark.parametrize("ring", [KeyedHashRing(3), Ed25519Ring(3)])
def test_keys_verify_their_own_signatures_only(ring: KeyRing) -> None:
    one, other = ring.signer("one"), ring.signer("other")
    signature = one.sign(b"message")
    assert len(signature) == 64
    assert ring.verify(one.public_key, b"message", signature)
    assert not ring.verify(other.public_key, b"message", signature)
    assert not ring.verify(one.public_key, b"massage", signature)
    assert not ring.verify(bytes(32), b"message", signature)
    assert ring.signer("one").public_key == one.public_key


def members(count: int) -> list[Delegate]:
    keys = [KeyedHashRing(0).signer(str(number)).public_key for number in range(count)]
    return [Delegate(address_of(key), key) for key in keys]


def test_the_timetable_keeps_what_consensus_relies_on() -> None:
    """C(1) = C(2); fixed number of seats; within an epoch at most f changes, each new delegate last (7.2, 9.1)."""
    changed = 0
    for seed in range(20):
        timetable = Timetable(members(10), 7, 15, random.Random(seed))
        replaced = 0
        assert timetable.term(1).delegates == timetable.term(2).delegates
        for height in range(2, 100):
            before, now = timetable.term(height - 1), timetable.term(height)
            assert len(now.delegates) == 7
            if now.first_of_epoch:
                replaced = 0
            elif now.delegates != before.delegates:
                replaced += 1
                kept = [d for d in before.delegates if d in now.delegates.ranking]
                assert list(now.delegates.ranking[:-1]) == kept
            assert replaced <= now.delegates.faults
            changed += now.delegates != before.delegates
    assert changed > 0


def test_the_same_seed_gives_the_same_timetable_in_any_order_of_asking() -> None:
    one, other = (Timetable(members(9), 4, 6, random.Random(5)) for _ in range(2))
    last = one.term(40)
    assert [other.term(height) for height in range(1, 41)][-1] == last


def test_a_timetable_without_epochs_never_changes() -> None:
    timetable = Timetable(members(6), 4, None, random.Random(1))
    assert len({timetable.term(height).delegates.hash() for height in range(1, 60)}) == 1


def test_transactions_are_told_apart_by_their_body() -> None:
    workload = Workload(random.Random(1))
    data = [workload.next(GENESIS_MS, 120_000) for _ in range(20)]
    opened = [open_transaction(item) for item in data]
    assert len({item.transaction_id for item in opened}) == 20
    assert [item.transaction_id for item in opened] == [transaction_id(item) for item in data]
    assert all(item.valid_from_ms <= GENESIS_MS <= item.valid_until_ms for item in opened)
    with pytest.raises(MalformedInput):
        open_transaction(b"nonsense")


def test_a_ledger_with_a_gap_is_our_own_bug() -> None:
    from network.simulation.cluster import Simulation, draw

    simulation = Simulation(draw(2, 4))
    simulation.run()
    chain = simulation.checkers.decisions.chain
    disk = Disk()
    disk.append_block(chain[0])
    with pytest.raises(InvariantViolation):
        disk.append_block(chain[2])


def test_a_damaged_block_is_not_read_and_dropped_with_all_above_it_at_the_next_start() -> None:
    from network.simulation.cluster import Simulation, draw

    simulation = Simulation(draw(2, 4))
    simulation.run()
    disk = simulation.honest[0].disk
    height = disk.height
    assert disk.repair_blocks() is None
    disk.rot_block(height - 2)
    assert disk.read_block(height - 2) is None
    assert disk.read_block(height) is not None
    assert disk.repair_blocks() == height - 2
    assert disk.height == height - 3


def test_journals_and_clocks_fail_for_frail_nodes_only() -> None:
    from network.simulation.cluster import Simulation, draw

    simulation = Simulation(draw(3, 7))
    kinds = (*FAULT_KINDS, *FRAIL_KINDS)
    grave = LoseJournal | WrongClock | FrozenClock | RotJournal | RestoreDisk
    plan = FaultPlanner(random.Random(1), simulation.nodes, [2], kinds, 10_000).plan(900, 0, 1_000_000)
    assert {type(p.fault) for p in plan if isinstance(p.fault, grave)} == set(grave.__args__)
    assert {p.fault.node for p in plan if isinstance(p.fault, grave)} == {2}
    assert len({p.fault.node for p in plan if isinstance(p.fault, Crash)}) > 2
    spared = FaultPlanner(random.Random(1), simulation.nodes, [], kinds, 10_000).plan(900, 0, 1_000_000)
    assert not [p for p in spared if isinstance(p.fault, grave)]


def test_only_the_kinds_that_are_on_are_planned() -> None:
    from network.simulation.cluster import Simulation, draw

    nodes = Simulation(draw(3, 7)).nodes
    plan = FaultPlanner(random.Random(1), nodes, [2], ("crash", "swizzle"), 10_000).plan(200, 0, 1_000_000)
    assert {type(p.fault) for p in plan} == {Crash, ClogLinks}
