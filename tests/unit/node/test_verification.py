"""Signature checks beside the loop: right verdicts in order, whatever way they go."""

import asyncio
import threading

import pytest

from consensus.errors import InvalidMessage
from contracts.transaction import Transaction, Transfer, decode_transaction, encode_body, sign_body
from node.keystore import KeyPair
from node.verification import INLINE_SIGNATURES, SLICE_TRANSACTIONS, SignatureChecks, Verdict

KEY = KeyPair(bytes([1]) * 32)


def transactions(count: int) -> list[Transaction]:
    bodies = (
        encode_body(bytes(32), KEY.address, 0, 1, nonce, Transfer(KEY.address, 1)) for nonce in range(count)
    )
    return [decode_transaction(sign_body(body, (KEY,))) for body in bodies]


def nothing(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("count", [0, 1, INLINE_SIGNATURES + 1, 3 * SLICE_TRANSACTIONS + 5])
async def test_verdicts_come_in_order(count: int) -> None:
    items = transactions(count)
    bad = {item.id for item in items[::3]}

    def check(item: Transaction) -> None:
        if item.id in bad:
            raise InvalidMessage(item.id.hex())

    checks = SignatureChecks(check, 2, nothing)
    verdicts = await checks.check(items)
    checks.close()
    told = [None if verdict is None else str(verdict) for verdict in verdicts]
    assert told == [item.id.hex() if item.id in bad else None for item in items]
    assert (checks.checked, checks.waiting) == (count, 0)


async def test_one_is_checked_on_the_loop_and_many_on_threads() -> None:
    names: list[str] = []
    checks = SignatureChecks(lambda _: names.append(threading.current_thread().name), 2, nothing)
    await checks.check(transactions(1))
    assert names == [threading.current_thread().name]
    names.clear()
    await checks.check(transactions(INLINE_SIGNATURES + 1))
    checks.close()
    assert all(name.startswith("signatures") for name in names)


async def test_groups_of_one_turn_are_checked_together_and_answered_apart() -> None:
    checks = SignatureChecks(lambda _: None, 2, nothing)
    groups = [transactions(3), transactions(40), transactions(1)]
    answers = await asyncio.gather(*(checks.check(group) for group in groups))
    checks.close()
    assert [len(answer) for answer in answers] == [3, 40, 1]


@pytest.mark.parametrize("count", [1, INLINE_SIGNATURES + 1])
async def test_our_own_bug_is_reported_not_swallowed(count: int) -> None:
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    def broken(_: Transaction) -> None:
        raise KeyError("bug")

    checks = SignatureChecks(broken, 1, failed.set_result)
    checks.submit(transactions(count), lambda _: None)
    assert isinstance(await failed, KeyError)
    checks.close()


async def test_answers_never_come_from_within_the_call() -> None:
    seen: list[int] = []
    checks = SignatureChecks(lambda _: None, 1, nothing)
    done = asyncio.Event()

    def answer(verdicts: list[Verdict]) -> None:
        seen.append(len(verdicts))
        done.set()

    checks.submit(transactions(1), answer)
    assert seen == []
    await done.wait()
    checks.close()
    assert seen == [1]


async def test_no_group_is_forgotten_while_the_threads_come_and_go() -> None:
    checks = SignatureChecks(lambda _: None, 2, nothing)
    made = transactions(3 * SLICE_TRANSACTIONS)

    async def client(number: int) -> None:
        for turn in range(60):
            size = 1 + (number * 7 + turn * 5) % len(made)
            assert len(await checks.check(made[:size])) == size

    async with asyncio.timeout(20):
        await asyncio.gather(*(client(number) for number in range(8)))
    assert checks.waiting == 0
    checks.close()


async def test_what_waits_at_the_end_is_given_up() -> None:
    begun = threading.Event()

    def check(_: Transaction) -> None:
        begun.set()
        while not checks._closed:
            pass

    checks = SignatureChecks(check, 1, nothing)
    answers: list[list[Verdict]] = []
    checks.submit(transactions(4 * SLICE_TRANSACTIONS), answers.append)
    await asyncio.to_thread(begun.wait, 20)
    checks.close()
    await asyncio.sleep(0)
    assert answers == []
