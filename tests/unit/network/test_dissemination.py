"""Who hands decided blocks to whom, and whom a member asks when nobody does (PROTOCOL 6.12)."""

from network.dissemination import Dissemination
from tests.unit.network.harness import key

OWN, A, B, C, D1, D2, D3 = (key(n) for n in range(1, 8))
ALL = (A, B, C, D1, D2, D3)


def policy(delegates: tuple[bytes, ...], group: tuple[bytes, ...]) -> Dissemination:
    made = Dissemination(OWN, silence_ms=1_000, now_ms=0)
    made.set_groups(delegates, group)
    return made


def test_a_delegate_hands_blocks_to_its_group_without_itself_and_other_delegates() -> None:
    assert policy((D1, OWN), (OWN, A, B)).decided(5, 10) == (A, B)
    assert policy((D1, OWN, D2), (OWN, D2, B)).decided(5, 10) == (B,)


def test_a_member_hands_blocks_to_nobody() -> None:
    assert policy((D1, D2), (OWN, A, D1)).decided(5, 10) == ()


def test_where_every_member_is_a_delegate_nobody_is_handed_anything() -> None:
    """k = 0, PROTOCOL 4.6."""
    assert policy((OWN, A, B), (OWN,)).decided(5, 10) == ()


def test_a_member_whose_delegate_is_silent_asks_the_other_delegates_first_and_its_own_last() -> None:
    made = policy((D1, D2, D3), (OWN, A, B, D2))
    assert made.to_ask(999, ALL) is None
    asked = [made.to_ask(now_ms, ALL) for now_ms in range(1_000, 7_000, 1_000)]
    assert asked == [D1, D3, A, B, D2, D1]


def test_it_asks_once_per_interval() -> None:
    made = policy((D1, D2), (OWN, D2))
    assert made.to_ask(1_000, ALL) == D1
    assert made.to_ask(1_001, ALL) is None
    assert made.to_ask(1_999, ALL) is None
    assert made.to_ask(2_000, ALL) == D2


def test_only_who_can_be_reached_is_asked() -> None:
    made = policy((D1, D2, D3), (OWN, D2))
    assert made.to_ask(1_000, (D3,)) == D3
    assert made.to_ask(2_000, ()) is None
    assert made.to_ask(2_500, (D3,)) == D3


def test_news_from_whomever_ends_the_asking() -> None:
    made = policy((D1, D2), (OWN, D2))
    assert made.to_ask(1_000, ALL) == D1
    made.heard(7, 1_500)
    assert made.to_ask(2_400, ALL) is None
    assert made.to_ask(2_500, ALL) == D1


def test_an_old_block_is_no_news() -> None:
    made = policy((D1, D2), (OWN, D2))
    made.heard(7, 100)
    made.heard(7, 900)
    made.heard(3, 900)
    assert made.to_ask(1_100, ALL) == D1


def test_a_delegate_asks_nobody() -> None:
    assert policy((D1, OWN), (OWN, A)).to_ask(60_000, ALL) is None


def test_a_new_set_of_groups_starts_the_round_anew() -> None:
    made = policy((D1, D2), (OWN, D2))
    assert made.to_ask(1_000, ALL) == D1
    made.set_groups((D3, D2), (OWN, D2))
    assert made.to_ask(1_000, ALL) == D3
