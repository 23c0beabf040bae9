"""The bounded queue of one peer: votes first, gossip lost first."""

from hypothesis import given
from hypothesis import strategies as st

from network.outbox import Outbox
from network.wire import Lane


def test_votes_overtake_blocks_and_gossip() -> None:
    outbox = Outbox(1_000, 10)
    outbox.put(b"gossip", Lane.GOSSIP)
    outbox.put(b"block", Lane.SYNC)
    outbox.put(b"vote", Lane.CONSENSUS)
    outbox.put(b"vote 2", Lane.CONSENSUS)
    assert outbox.take(1_000) == [b"vote", b"vote 2", b"block", b"gossip"]
    assert (len(outbox), outbox.waiting_bytes) == (0, 0)


def test_a_batch_is_bounded_but_never_empty() -> None:
    outbox = Outbox(1_000, 10)
    for frame in (b"x" * 60, b"y" * 60, b"z"):
        outbox.put(frame, Lane.SYNC)
    assert outbox.take(50) == [b"x" * 60]
    assert outbox.take(61) == [b"y" * 60, b"z"]
    assert outbox.take(50) == []


def test_gossip_does_not_fill_a_batch_past_a_waiting_block() -> None:
    outbox = Outbox(1_000, 10)
    outbox.put(b"g", Lane.GOSSIP)
    outbox.put(b"v" * 30, Lane.CONSENSUS)
    outbox.put(b"b" * 30, Lane.SYNC)
    assert outbox.take(40) == [b"v" * 30]


def test_when_full_the_oldest_gossip_goes() -> None:
    outbox = Outbox(10, 100)
    assert outbox.put(b"old  ", Lane.GOSSIP) == 0
    assert outbox.put(b"new  ", Lane.GOSSIP) == 0
    assert outbox.put(b"vote", Lane.CONSENSUS) == 1
    assert outbox.take(100) == [b"vote", b"new  "]


def test_full_by_count_is_full_too() -> None:
    outbox = Outbox(1_000, 2)
    outbox.put(b"1", Lane.GOSSIP)
    outbox.put(b"2", Lane.GOSSIP)
    assert outbox.put(b"3", Lane.GOSSIP) == 1
    assert outbox.take(100) == [b"2", b"3"]


def test_past_the_high_water_mark_without_gossip_to_drop_there_is_no_room() -> None:
    outbox = Outbox(10, 100)
    outbox.put(b"12345678", Lane.SYNC)
    assert outbox.put(b"vote", Lane.CONSENSUS) is None
    assert outbox.put(b"block", Lane.SYNC) is None
    assert outbox.put(b"gossip", Lane.GOSSIP) == 1
    assert outbox.take(100) == [b"12345678"]


def test_clearing_tells_how_much_was_lost() -> None:
    outbox = Outbox(100, 100)
    outbox.put(b"1", Lane.GOSSIP)
    outbox.put(b"2", Lane.CONSENSUS)
    assert outbox.clear() == 2
    assert (len(outbox), outbox.waiting_bytes, outbox.take(10)) == (0, 0, [])


Step = tuple[bool, bytes, Lane]


@given(
    st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=20), st.sampled_from(Lane)), max_size=60)
)
def test_bounds_and_order_hold_and_nothing_but_gossip_is_lost(steps: list[Step]) -> None:
    outbox = Outbox(80, 8)
    accepted: dict[Lane, list[bytes]] = {lane: [] for lane in Lane}
    taken: dict[Lane, list[bytes]] = {lane: [] for lane in Lane}
    for puts, data, lane in steps:
        if puts:
            frame = bytes((lane,)) + data
            if outbox.put(frame, lane) is not None:
                accepted[lane].append(frame)
        else:
            for frame in outbox.take(30):
                taken[Lane(frame[0])].append(frame)
        assert outbox.waiting_bytes <= 80
        assert len(outbox) <= 8
    for frame in outbox.take(10_000):
        taken[Lane(frame[0])].append(frame)
    for lane in (Lane.CONSENSUS, Lane.SYNC):
        assert taken[lane] == accepted[lane]
    rest = iter(accepted[Lane.GOSSIP])
    assert all(frame in rest for frame in taken[Lane.GOSSIP])
