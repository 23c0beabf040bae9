"""PROTOCOL 1: members, their attributes, meters, admission, money and leaving."""

import msgspec
import pytest

from consensus.ed25519 import Ed25519Verifier
from consensus.errors import InvalidGenesis, MalformedInput
from consensus.hashing import address_of, tagged_hash
from consensus.types import MAX_TOTAL
from contracts.engine import genesis_state
from contracts.genesis import Admission, check_genesis, sign_registration
from contracts.receipts import (
    BalanceChanged,
    CreditChanged,
    CreditReason,
    MemberJoined,
    MemberLeft,
    MeterChanged,
    MoneyIssued,
    MoneyRedeemed,
    ReasonCode,
)
from contracts.transaction import (
    ChangeMeter,
    Issue,
    Join,
    Leave,
    Meter,
    Readings,
    Redeem,
    TradeAccept,
    TradeCancel,
    TradeOffer,
    TradeOpen,
    Transfer,
)
from contracts.validation import InvalidReason, InvalidTransaction
from tests.support.chain import START_MS, VERIFIER, Chain, Key

SMALL_ORDER = (bytes([1]) + bytes(31), bytes(32), (2**255 - 20).to_bytes(32, "little"))
NON_CANONICAL = ((2**255 - 19 + 9).to_bytes(32, "little"), (2**255 - 19).to_bytes(32, "little"))


def invited(**options: object) -> Chain:
    """A chain with three operators of whom two must sign."""
    return Chain(operators=3, threshold=2, admission=Admission.INVITED, **options)  # type: ignore[arg-type]


def join_of(chain: Chain, key: Key, *, hours: int = 1, approvers: int = 2) -> Join:
    """A join with meter and invite approved by the first operators."""
    signers = chain.operators[:approvers]
    invite = chain.invite(key, chain.time_ms + hours * 3_600_000, signers)
    return Join(key.public_key, chain.meter(key, Key(77), approvers=signers), invite)


def open_join(chain: Chain, key: Key, meter: Key | None = None) -> Join:
    """A join of an open chain."""
    return Join(key.public_key, chain.meter(key, key if meter is None else meter), None)


# ---------------------------------------------------------------- 1.1, 1.2


def test_1_1_a_member_enters_with_credit_50_and_no_traded_energy() -> None:
    """1.1: <a_i, b_i, T_i, N_i>; on entry T = 50 and N = 0, at genesis and later."""
    chain = Chain(balance=7)
    founder = chain.account(chain.members[0])
    assert (founder.balance, founder.credit, founder.energy_wh) == (7, 50_000, 0)
    key = Key(1)
    receipt = chain.receipt(key, open_join(chain, key))
    assert receipt.events[:2] == (
        MemberJoined(key.address, key.public_key),
        CreditChanged(key.address, CreditReason.ENTRY, 50_000, 50_000),
    )
    account = chain.account(key)
    assert (account.balance, account.credit, account.energy_wh) == (0, 50_000, 0)


def test_1_2_money_is_wh_times_price_exactly() -> None:
    """1.2: prices are micro-units per kWh, so value in nano-units is wh * price, without rounding."""
    chain = Chain()
    seller, buyer = chain.members[:2]
    before = chain.account(buyer).balance
    terms = chain.terms(seller, buyer, quantity_wh=333, price=123_457, penalty_bp=0)
    assert chain.receipt(seller, TradeOpen(terms), buyer).code is ReasonCode.OK
    assert before - chain.account(buyer).balance == 333 * 123_457


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("quantity_wh", 0),
        ("quantity_wh", 10**9 + 1),
        ("price", -1),
        ("price", 10**9 + 1),
        ("penalty_bp", 10_001),
    ],
)
def test_1_2_quantity_price_and_penalty_have_bounds(field: str, wrong: int) -> None:
    """1.2: quantity 1..10^9 Wh, price 0..10^9; the value of the largest trade is 10^18."""
    chain = Chain()
    seller, buyer = chain.members[:2]
    largest = chain.terms(seller, buyer, quantity_wh=10**9, price=10**9, penalty_bp=10_000)
    assert largest.quantity_wh * largest.price == 10**18
    with pytest.raises(MalformedInput):
        chain.transaction(seller, TradeOffer(msgspec.structs.replace(largest, **{field: wrong})))


def test_1_2_a_total_above_2_63_less_1_is_refused() -> None:
    """1.2: neither issue nor an entry grant may lift the total above 2^63 - 1; a genesis neither."""
    chain = invited(balance=10**18, entry_balance=10**18)
    rest = MAX_TOTAL - 8 * 10**18
    signers = chain.operators[:2]
    issue = Issue(chain.members[0].address, rest + 1)
    assert chain.receipt(signers[0], issue, signers[1]).code is ReasonCode.TOTAL_TOO_LARGE
    issue = Issue(chain.members[0].address, rest)
    assert chain.receipt(signers[0], issue, signers[1]).code is ReasonCode.OK
    assert chain.receipt(Key(1), join_of(chain, Key(1))).code is ReasonCode.TOTAL_TOO_LARGE
    with pytest.raises(InvalidGenesis, match="2\\^63"):
        Chain(members=10, balance=10**18)


# ---------------------------------------------------------------- 1.3


def test_1_3_an_address_is_the_first_20_bytes_of_the_keys_hash() -> None:
    """1.3: a_i = first 20 bytes of H(public key)."""
    key = Key(1)
    assert key.address == tagged_hash("address", key.public_key)[:20] == address_of(key.public_key)


@pytest.mark.parametrize("public_key", SMALL_ORDER + NON_CANONICAL)
def test_1_3_small_order_and_non_canonical_keys_are_refused(public_key: bytes) -> None:
    """1.3: as a meter at join, as a meter at genesis, and as a signer, whose signature never verifies."""
    chain = Chain()
    key = Key(1)
    receipt = chain.receipt(key, Join(key.public_key, Meter(public_key, 100, ()), None))
    assert receipt.code is ReasonCode.UNACCEPTABLE_KEY
    registration = msgspec.structs.replace(chain.genesis.members[0], meter_public_key=public_key)
    members = (registration, *chain.genesis.members[1:])
    with pytest.raises(InvalidGenesis, match="small order or not canonical"):
        check_genesis(msgspec.structs.replace(chain.genesis, members=members), VERIFIER)
    forged = bytes([1]) + bytes(63)
    assert not Ed25519Verifier().verify(public_key, b"anything", forged)


def test_1_3_registration_proves_possession() -> None:
    """1.3: a join must be signed by the key that it registers, a genesis registration too."""
    chain = Chain()
    thief, victim = Key(1), Key(2)
    stolen = Join(victim.public_key, chain.meter(thief, thief), None)
    with pytest.raises(InvalidTransaction) as caught:
        chain.block(chain.transaction(thief, stolen))
    assert caught.value.reason is InvalidReason.SIGNER_WRONG
    unsigned = msgspec.structs.replace(chain.genesis.members[0], signature=bytes(64))
    with pytest.raises(InvalidGenesis, match="not signed by its key"):
        genesis_state(
            msgspec.structs.replace(chain.genesis, members=(unsigned, *chain.genesis.members[1:])), VERIFIER
        )


# ---------------------------------------------------------------- 1.4


def test_1_4_in_invited_chains_an_operator_signs_the_meter() -> None:
    """1.4: without operator_threshold approvals of key and power the meter is refused."""
    chain = invited()
    key = Key(1)
    good = join_of(chain, key)
    one = msgspec.structs.replace(good, meter=chain.meter(key, key, approvers=chain.operators[:1]))
    assert chain.receipt(key, one).code is ReasonCode.OPERATOR_APPROVAL_MISSING
    fake = msgspec.structs.replace(good, meter=chain.meter(key, key, approvers=(Key(50), Key(51))))
    assert chain.receipt(key, fake).code is ReasonCode.OPERATOR_APPROVAL_MISSING
    other_power = msgspec.structs.replace(good.meter, max_power_w=good.meter.max_power_w + 1)
    with pytest.raises(InvalidTransaction) as caught:
        chain.block(chain.transaction(key, msgspec.structs.replace(good, meter=other_power)))
    assert caught.value.reason is InvalidReason.SIGNATURE_WRONG
    assert chain.receipt(key, good).code is ReasonCode.OK


def test_1_4_power_is_at_most_the_parameter() -> None:
    """1.4: at join, at a change of meter and at genesis."""
    chain = Chain(max_power_w=5_000)
    key = Key(1)
    assert chain.receipt(key, Join(key.public_key, chain.meter(key, key, 5_001), None)).code is (
        ReasonCode.POWER_TOO_LARGE
    )
    member = chain.members[0]
    change = ChangeMeter(chain.meter(member, key, 5_001))
    assert chain.receipt(member, change).code is ReasonCode.POWER_TOO_LARGE
    assert chain.receipt(member, ChangeMeter(chain.meter(member, key, 5_000))).code is ReasonCode.OK
    strong = sign_registration("test", member, key.public_key, 5_001)
    members = (strong, *chain.genesis.members[1:])
    with pytest.raises(InvalidGenesis, match="max_power_w"):
        check_genesis(msgspec.structs.replace(chain.genesis, members=members), VERIFIER)


def test_1_4_a_meter_measures_for_one_member() -> None:
    """1.4: one meter each; a key in use is refused, and free again once its member changed it or left."""
    chain = Chain()
    a, b, newcomer = *chain.members[:2], Key(1)
    meter_a = chain.meters[a.address]
    assert chain.receipt(b, ChangeMeter(chain.meter(b, meter_a))).code is ReasonCode.METER_IN_USE
    assert chain.receipt(newcomer, open_join(chain, newcomer, meter_a)).code is ReasonCode.METER_IN_USE
    assert chain.receipt(a, ChangeMeter(chain.meter(a, Key(60)))).code is ReasonCode.OK
    assert chain.receipt(newcomer, open_join(chain, newcomer, meter_a)).code is ReasonCode.OK
    assert chain.receipt(newcomer, Leave()).code is ReasonCode.OK
    assert chain.receipt(b, ChangeMeter(chain.meter(b, meter_a))).code is ReasonCode.OK


@pytest.mark.parametrize(("power_w", "limit_wh"), [(10_000, 2_501), (3, 1), (4, 2), (1, 1)])
def test_1_4_a_register_is_at_most_the_slots_capacity(power_w: int, limit_wh: int) -> None:
    """1.4: power_w * slot_nominal_ms // 3 600 000 + 1; a second stands for 15 minutes in the demo."""
    chain = Chain(slot_nominal_ms=900_000)
    member, meter = chain.members[0], Key(60)
    chain.receipt(member, ChangeMeter(chain.meter(member, meter, power_w)))
    slot = chain.time_ms // 1_000 + 1
    chain.block(at=(slot + 1) * 1_000)
    over = chain.reading(member, slot, limit_wh + 1, counter=1, meter=meter)
    over_import = chain.reading(member, slot, 0, limit_wh + 1, counter=1, meter=meter)
    for reading in (over, over_import):
        assert chain.receipt(member, Readings((reading,))).code is ReasonCode.READING_ABOVE_CAPACITY
    both = chain.reading(member, slot, limit_wh, limit_wh, counter=1, meter=meter)
    assert chain.receipt(member, Readings((both,))).code is ReasonCode.OK


def test_1_4_a_change_of_meter_holds_from_the_first_slot_that_starts_after_it() -> None:
    """1.4: the running slot is still the old meter's, also when the change falls on its first millisecond."""
    chain = Chain()
    member, old, new = chain.members[0], chain.meters[chain.members[0].address], Key(60)
    slot = chain.time_ms // 1_000 + 1
    change = chain.transaction(member, ChangeMeter(chain.meter(member, new)))
    outcome = chain.block(change, at=slot * 1_000)
    assert outcome.receipts[0].events == (MeterChanged(member.address, new.public_key, slot + 1),)
    chain.block(at=(slot + 2) * 1_000)
    codes = []
    for number, key in ((slot, new), (slot + 1, old), (slot, old), (slot + 1, new)):
        reading = chain.reading(member, number, counter=1, meter=key)
        codes.append(chain.receipt(member, Readings((reading,))).code)
    wrong, ok = ReasonCode.READING_KEY_WRONG, ReasonCode.OK
    assert codes == [wrong, wrong, ok, ok]


def test_1_4_two_changes_within_a_slot_leave_the_last() -> None:
    """1.4: both would begin with the same slot; the later one does."""
    chain = Chain()
    member = chain.members[0]
    slot = chain.time_ms // 1_000 + 1
    chain.receipt(member, ChangeMeter(chain.meter(member, Key(60))))
    chain.receipt(member, ChangeMeter(chain.meter(member, Key(61))))
    chain.block(at=(slot + 1) * 1_000)
    first = chain.reading(member, slot, counter=1, meter=Key(60))
    second = chain.reading(member, slot, counter=1, meter=Key(61))
    receipt = chain.receipt(member, Readings((first, second)))
    assert [(r.index, r.code) for r in receipt.rejections] == [(0, ReasonCode.READING_KEY_WRONG)]


# ---------------------------------------------------------------- 1.5


def test_1_5_an_invited_chain_asks_for_an_invite_signed_by_the_threshold() -> None:
    """1.5: none, by too few operators, by strangers, for another key: each refused with its reason."""
    chain = invited()
    key = Key(1)
    good = join_of(chain, key)
    last_ms = good.invite.last_time_ms if good.invite is not None else 0
    strangers = (Key(50), Key(51))
    cases = (
        (None, ReasonCode.INVITE_MISSING),
        (chain.invite(key, last_ms, chain.operators[:1]), ReasonCode.INVITE_WRONG),
        (chain.invite(key, last_ms, strangers), ReasonCode.INVITE_WRONG),
        (chain.invite(Key(2), last_ms, chain.operators[:2]), ReasonCode.INVITE_WRONG),
    )
    for invite, code in cases:
        assert chain.receipt(key, msgspec.structs.replace(good, invite=invite)).code is code
    assert chain.receipt(key, good).code is ReasonCode.OK


def test_1_5_an_invite_names_the_chain() -> None:
    """1.5: an invite of another chain does not verify here."""
    chain, other = invited(), Chain(operators=2, admission=Admission.INVITED, members=5, groups=5)
    key = Key(1)
    foreign = msgspec.structs.replace(
        join_of(chain, key), invite=other.invite(key, chain.time_ms + 10_000, chain.operators[:2])
    )
    with pytest.raises(InvalidTransaction) as caught:
        chain.block(chain.transaction(key, foreign))
    assert caught.value.reason is InvalidReason.SIGNATURE_WRONG


def test_1_5_an_invite_has_a_last_time() -> None:
    """1.5: usable up to its last time, not after."""
    chain = invited()
    for number, late_ms, code in ((1, 0, ReasonCode.OK), (2, 1, ReasonCode.INVITE_EXPIRED)):
        key = Key(number)
        meter = chain.meter(key, key, approvers=chain.operators[:2])
        at = chain.time_ms + 100
        invite = chain.invite(key, at - late_ms, chain.operators[:2])
        assert chain.receipt(key, Join(key.public_key, meter, invite), at=at).code is code


def test_1_5_an_invite_is_usable_once() -> None:
    """1.5: who left needs a new one."""
    chain = invited()
    key = Key(1)
    joined = join_of(chain, key)
    assert chain.receipt(key, joined).code is ReasonCode.OK
    assert chain.receipt(key, Leave()).code is ReasonCode.OK
    assert chain.receipt(key, joined).code is ReasonCode.INVITE_USED
    assert chain.receipt(key, join_of(chain, key, hours=2)).code is ReasonCode.OK


def test_1_5_an_open_chain_admits_without_invite_and_grants_nothing() -> None:
    """1.5: open admission needs entry_balance 0; joining twice is refused."""
    with pytest.raises(InvalidGenesis, match="entry_balance"):
        Chain(entry_balance=1)
    chain = Chain()
    key = Key(1)
    assert chain.receipt(key, open_join(chain, key)).code is ReasonCode.OK
    assert chain.account(key).balance == 0
    assert chain.receipt(key, open_join(chain, key)).code is ReasonCode.ALREADY_A_MEMBER


def test_1_5_who_leaves_and_joins_again_finds_its_old_credit_energy_and_money() -> None:
    """1.5: an address keeps its record for ever, and gets its entry grant once."""
    chain = invited(entry_balance=500, trade_penalty=10_000)
    key = Key(1)
    chain.receipt(key, join_of(chain, key))
    account = chain.account(key)
    chain.state.accounts.put(key.address, msgspec.structs.replace(account, credit=41_000))
    chain.state.commit()
    chain.receipt(key, Leave())
    receipt = chain.receipt(key, join_of(chain, key, hours=2))
    assert receipt.code is ReasonCode.OK
    assert [type(event) for event in receipt.events] == [MemberJoined, MeterChanged]
    again = chain.account(key)
    assert (again.credit, again.balance, again.left_height) == (41_000, 500, None)
    assert chain.totals.genesis == 8 * 10**15 + 500


def test_1_5_members_are_limited() -> None:
    """ARCHITECTURE, limits: a chain takes at most 16 384 members."""
    chain = Chain()
    totals = chain.totals
    chain.state.totals.put(b"", msgspec.structs.replace(totals, members=16_384))
    chain.state.commit()
    assert chain.receipt(Key(1), open_join(chain, Key(1))).code is ReasonCode.TOO_MANY_MEMBERS


# ---------------------------------------------------------------- 1.6


def test_1_6_issue_needs_the_threshold_of_operator_keys() -> None:
    """1.6: one of three operators, or two strangers, issue nothing."""
    chain = invited()
    one, two, three = chain.operators
    issue = Issue(chain.members[0].address, 9)
    assert chain.receipt(one, issue).code is ReasonCode.OPERATOR_APPROVAL_MISSING
    assert chain.receipt(Key(50), issue, Key(51)).code is ReasonCode.OPERATOR_APPROVAL_MISSING
    assert chain.receipt(Key(50), issue, one).code is ReasonCode.OPERATOR_APPROVAL_MISSING
    receipt = chain.receipt(two, issue, three)
    member = chain.members[0].address
    assert receipt.events == (BalanceChanged(member, 9, 10**15 + 9), MoneyIssued(member, 9))
    assert chain.receipt(two, Issue(Key(50).address, 9), three).code is ReasonCode.RECIPIENT_UNKNOWN


def test_1_6_a_chain_without_operators_issues_nothing() -> None:
    """1.6: no threshold of none."""
    chain = Chain()
    member = chain.members[0]
    assert chain.receipt(member, Issue(member.address, 1)).code is ReasonCode.OPERATOR_APPROVAL_MISSING


def test_1_6_redeem_needs_the_operators_and_the_member() -> None:
    """1.6: the member is the sender and signs; its money is destroyed."""
    chain = invited()
    member, stranger = chain.members[0], Key(50)
    one, two, _ = chain.operators
    assert chain.receipt(member, Redeem(4)).code is ReasonCode.OPERATOR_APPROVAL_MISSING
    assert chain.receipt(one, Redeem(4), two).code is ReasonCode.NOT_A_MEMBER
    assert chain.receipt(stranger, Redeem(4), one, two).code is ReasonCode.NOT_A_MEMBER
    assert chain.receipt(member, Redeem(10**15 + 1), one, two).code is ReasonCode.BALANCE_TOO_LOW
    receipt = chain.receipt(member, Redeem(4), one, two)
    assert receipt.events == (
        BalanceChanged(member.address, -4, 10**15 - 4),
        MoneyRedeemed(member.address, 4),
    )
    issued = chain.totals.issued + MAX_TOTAL - chain.totals.redeemed
    totals = msgspec.structs.replace(chain.totals, redeemed=MAX_TOTAL, issued=issued)
    chain.state.totals.put(b"", totals)
    chain.state.commit()
    assert chain.receipt(member, Redeem(4), one, two).code is ReasonCode.TOTAL_TOO_LARGE


def test_1_6_transfer_moves_at_least_1_to_a_registered_member() -> None:
    """1.6: 0 is malformed; strangers and leavers cannot receive; nobody sends more than it has."""
    chain = Chain()
    a, b, c = chain.members[:3]
    with pytest.raises(MalformedInput):
        chain.transaction(a, Transfer(b.address, 0))
    assert chain.receipt(a, Transfer(Key(50).address, 1)).code is ReasonCode.RECIPIENT_UNKNOWN
    assert chain.receipt(Key(50), Transfer(a.address, 1)).code is ReasonCode.NOT_A_MEMBER
    assert chain.receipt(a, Transfer(b.address, 10**15 + 1)).code is ReasonCode.BALANCE_TOO_LOW
    receipt = chain.receipt(a, Transfer(b.address, 10**15))
    assert receipt.events == (
        BalanceChanged(a.address, -(10**15), 0),
        BalanceChanged(b.address, 10**15, 2 * 10**15),
    )
    chain.receipt(c, Leave())
    assert chain.receipt(b, Transfer(c.address, 1)).code is ReasonCode.RECIPIENT_UNKNOWN


def test_1_6_a_transfer_has_no_effect_on_energy_or_credit() -> None:
    """1.6: only the balances move, also of one to itself."""
    chain = Chain()
    a, b = chain.members[:2]
    before = chain.account(a), chain.account(b)
    chain.receipt(a, Transfer(b.address, 3))
    chain.receipt(a, Transfer(a.address, 3))
    after = chain.account(a), chain.account(b)
    assert after == (
        msgspec.structs.replace(before[0], balance=10**15 - 3),
        msgspec.structs.replace(before[1], balance=10**15 + 3),
    )


def test_1_6_balances_and_escrow_equal_genesis_grants_issued_less_redeemed() -> None:
    """1.6: after every kind of money movement, summed over all accounts and contracts."""
    chain = invited(entry_balance=500)
    one, two, _ = chain.operators
    a, b = chain.members[:2]
    terms = chain.terms(a, b, quantity_wh=777, price=1_001, penalty_bp=333)
    key = Key(1)
    chain.receipt(key, join_of(chain, key))
    chain.receipt(one, Issue(a.address, 40), two)
    chain.receipt(b, Redeem(11), one, two)
    chain.receipt(a, Transfer(key.address, 5))
    chain.receipt(a, TradeOpen(terms), b)
    deposit = 777 * 1_001 * 333 // 10_000
    totals = chain.totals
    assert totals.escrow == 777 * 1_001 + 2 * deposit
    assert totals.balances == sum(account.balance for _, account in chain.state.accounts.items())
    assert totals.balances + totals.escrow == 8 * 10**15 + 500 + 40 - 11
    assert (totals.genesis, totals.issued, totals.redeemed) == (8 * 10**15 + 500, 40, 11)


# ---------------------------------------------------------------- 1.7


def test_1_7_leave_needs_no_open_contract() -> None:
    """1.7: refused while a contract is open, possible once it ended."""
    chain = Chain()
    a, b = chain.members[:2]
    opened = chain.transaction(a, TradeOpen(chain.terms(a, b)), b)
    chain.block(opened)
    assert chain.receipt(a, Leave()).code is ReasonCode.OPEN_CONTRACTS
    chain.block(
        chain.transaction(a, TradeCancel(opened.id)),
        chain.transaction(b, TradeCancel(opened.id)),
    )
    receipt = chain.receipt(a, Leave())
    assert receipt.events == (MemberLeft(a.address),)
    assert chain.account(a).left_height == chain.height
    assert chain.receipt(a, Leave()).code is ReasonCode.MEMBER_HAS_LEFT
    assert chain.receipt(Key(50), Leave()).code is ReasonCode.NOT_A_MEMBER


def test_1_7_a_leave_below_four_members_is_rejected_without_allow_non_bft() -> None:
    """1.7: the fifth may go, the fourth not; with allow_non_bft all but the last may."""
    chain = Chain(members=5)
    assert chain.receipt(chain.members[0], Leave()).code is ReasonCode.OK
    assert chain.receipt(chain.members[1], Leave()).code is ReasonCode.TOO_FEW_MEMBERS
    small = Chain(members=2, groups=2, allow_non_bft=True)
    assert small.receipt(small.members[0], Leave()).code is ReasonCode.OK
    assert small.receipt(small.members[1], Leave()).code is ReasonCode.TOO_FEW_MEMBERS


def test_1_7_who_left_can_act_no_more_but_take_its_money_along() -> None:
    """1.7: no trade, no reading, no change of meter; its own money it may send away or redeem."""
    chain = Chain(operators=1)
    gone, b = chain.members[:2]
    slot = chain.time_ms // 1_000 + 1
    chain.receipt(gone, Leave())
    terms = chain.terms(gone, b)
    left = ReasonCode.MEMBER_HAS_LEFT
    assert chain.receipt(gone, TradeOffer(terms)).code is left
    assert chain.receipt(b, TradeOffer(terms)).code is left
    assert chain.receipt(gone, TradeOpen(chain.terms(b, gone)), b).code is left
    assert chain.receipt(gone, ChangeMeter(chain.meter(gone, Key(60)))).code is left
    chain.run_to((slot + 1) * 1_000)
    assert chain.receipt(b, Readings((chain.reading(gone, slot, counter=1),))).code is left
    assert chain.receipt(gone, Transfer(b.address, 10)).code is ReasonCode.OK
    assert chain.receipt(gone, Redeem(10), chain.operators[0]).code is ReasonCode.OK


def test_1_7_an_offer_of_a_leaver_cannot_be_accepted() -> None:
    """1.7: an offer is no contract, so it does not hinder leaving; it binds nobody afterwards."""
    chain = Chain()
    a, b = chain.members[:2]
    offer = chain.transaction(a, TradeOffer(chain.terms(a, b, start_slot=START_MS // 1_000 + 50)))
    chain.block(offer)
    assert chain.receipt(a, Leave()).code is ReasonCode.OK
    assert chain.receipt(b, TradeAccept(offer.id)).code is ReasonCode.MEMBER_HAS_LEFT
