"""Endpoints that the node signs with its own key: payloads, token, origin, conflicts."""

from typing import Any

import pytest

from consensus.ed25519 import Ed25519Verifier
from contracts.signatures import reading_bytes
from contracts.transaction import (
    BuyerRule,
    Leave,
    Readings,
    TradeAccept,
    TradeCancel,
    TradeDecline,
    TradeOffer,
    TradeWithdraw,
    Transfer,
)
from node.api.access import Guard, is_loopback
from node.api.routes import ROUTES
from tests.unit.node.api.conftest import Serve, Served
from tests.unit.node.fake_node import OFFER_ID, TRADE_ID
from tests.unit.node.mini_chain import GENESIS_MS, key

OTHER = key(2).address.hex()
TERMS = {"buyer": OTHER, "quantity_wh": 1_000, "price": 250_000, "start_ms": GENESIS_MS + 10_000, "slots": 2}
READING = {
    "member": OTHER,
    "slot": 5,
    "counter": 1,
    "exported_wh": 10,
    "imported_wh": 0,
    "public_key": "ab" * 32,
    "signature": "cd" * 64,
}
CALLS: list[tuple[str, Any]] = [
    ("/v1/trades", TERMS),
    (f"/v1/trades/{OFFER_ID.hex()}/accept", None),
    (f"/v1/trades/{OFFER_ID.hex()}/decline", None),
    (f"/v1/trades/{OFFER_ID.hex()}/withdraw", {}),
    ("/v1/readings", {"readings": [READING]}),
    ("/v1/ballots", {"choices": [OTHER]}),
    ("/v1/transfers", {"recipient": OTHER, "amount": "5"}),
    ("/v1/leave", None),
]


async def test_an_offer_fills_in_the_node_and_the_defaults(served: Served) -> None:
    status, data, _ = await served.post("/v1/trades", json=TERMS)
    assert status == 202
    assert data["trade_url"] == f"/v1/trades/{data['id']}"
    (payload,) = served.node.payloads
    assert isinstance(payload, TradeOffer)
    terms = payload.terms
    assert (terms.seller, terms.buyer.hex()) == (served.node.own.address, OTHER)
    assert (terms.penalty_bp, terms.buyer_rule, terms.expiry_ms) == (0, BuyerRule.PAY_ACTUAL, terms.start_ms)


async def test_an_offer_between_others_is_422(served: Served) -> None:
    body = {**TERMS, "seller": key(3).address.hex()}
    assert (await served.problem("POST", "/v1/trades", json=body))[:2] == (422, "not_a_party")


@pytest.mark.parametrize(
    "change",
    [
        {"buyer": None},
        {"buyer": "12"},
        {"quantity_wh": 0},
        {"quantity_wh": "1000"},
        {"quantity_wh": 1.5},
        {"quantity_wh": True},
        {"price": 10**9 + 1},
        {"start_ms": 2**63},
        {"slots": 97},
        {"penalty_bp": 10_001},
        {"buyer_rule": "pay_later"},
        {"colour": "green"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/trades", "/v1/quotes"])
async def test_wrong_terms_are_400_with_the_place(served: Served, path: str, change: dict[str, Any]) -> None:
    status, code, detail = await served.problem("POST", path, json={**TERMS, **change})
    assert (status, code) == (400, "invalid_body")
    assert next(iter(change)) in detail
    assert not served.node.payloads


async def test_actions_on_trades_sign_their_payload(served: Served) -> None:
    expected = {"accept": TradeAccept, "decline": TradeDecline, "withdraw": TradeWithdraw}
    for action, payload in expected.items():
        assert (await served.post(f"/v1/trades/{OFFER_ID.hex()}/{action}"))[0] == 202
        assert served.node.payloads[-1] == payload(OFFER_ID)


@pytest.mark.parametrize(
    ("trade", "action"), [(TRADE_ID, "accept"), (TRADE_ID, "cancel"), (OFFER_ID, "cancel")]
)
async def test_an_action_that_does_not_fit_the_state_is_409(
    served: Served, trade: bytes, action: str
) -> None:
    assert (await served.problem("POST", f"/v1/trades/{trade.hex()}/{action}"))[:2] == (409, "trade_state")
    assert not served.node.payloads


async def test_cancel_signs_for_an_active_trade(served: Served, monkeypatch: Any) -> None:
    from msgspec.structs import replace

    from contracts.receipts import TradeState

    active = replace(served.node.trade(OFFER_ID), state=TradeState.ACTIVE)
    monkeypatch.setattr(served.node, "trade", lambda _: active)
    assert (await served.post(f"/v1/trades/{OFFER_ID.hex()}/cancel"))[0] == 202
    assert served.node.payloads == [TradeCancel(OFFER_ID)]


async def test_an_action_on_an_unknown_trade_is_404(served: Served) -> None:
    assert (await served.problem("POST", f"/v1/trades/{'00' * 32}/accept"))[:2] == (404, "unknown_resource")


async def test_an_action_for_others_is_422(served: Served) -> None:
    terms = served.node.terms()
    served.node.own = key(3)
    served.node.terms = lambda: terms  # type: ignore[method-assign]
    path = f"/v1/trades/{OFFER_ID.hex()}/accept"
    assert (await served.problem("POST", path))[:2] == (422, "not_a_party")


async def test_readings_ballots_transfers_and_leaving(served: Served) -> None:
    assert (await served.post("/v1/readings", json={"readings": [READING]}))[0] == 202
    readings = served.node.payloads[-1]
    assert isinstance(readings, Readings)
    assert readings.readings[0].signature == b"\xcd" * 64
    assert (await served.post("/v1/ballots", json={"choices": [OTHER]}))[0] == 202
    assert served.node.votes == [(bytes.fromhex(OTHER),)]
    assert (await served.post("/v1/transfers", json={"recipient": OTHER, "amount": "9007199254740993"}))[
        0
    ] == 202
    assert served.node.payloads[-1] == Transfer(bytes.fromhex(OTHER), 9_007_199_254_740_993)
    assert (await served.post("/v1/leave"))[0] == 202
    assert isinstance(served.node.payloads[-1], Leave)


async def test_the_node_signs_readings_of_its_own_meter(served: Served) -> None:
    """PROTOCOL 1.4: a meter's key is by default the node's."""
    body = {"readings": [{"slot": 9, "exported_wh": 10, "imported_wh": 2}]}
    assert (await served.post("/v1/readings", json=body))[0] == 202
    reading = served.node.payloads[-1].readings[0]  # type: ignore[union-attr]
    assert (reading.member, reading.slot, reading.counter) == (served.node.own.address, 9, 9)
    message = reading_bytes(reading, served.node.chain.chain_id)
    assert Ed25519Verifier().verify(reading.public_key, message, reading.signature)


async def test_without_a_meter_key_an_unsigned_reading_is_422(serving: Serve) -> None:
    served = await serving(meter=None)
    body = {"readings": [{"slot": 9, "exported_wh": 10, "imported_wh": 2}]}
    assert (await served.problem("POST", "/v1/readings", json=body))[:2] == (422, "no_meter_key")


@pytest.mark.parametrize("change", [{"signature": None}, {"member": None}, {"counter": None}])
async def test_half_signed_readings_are_400(served: Served, change: dict[str, None]) -> None:
    body = {"readings": [{**READING, **change}]}
    status, code, detail = await served.problem("POST", "/v1/readings", json=body)
    assert (status, code) == (400, "invalid_body")
    assert "$.readings[0]" in detail


async def test_the_node_signs_for_no_other_meter(served: Served) -> None:
    body = {"readings": [{"member": OTHER, "slot": 9, "exported_wh": 1, "imported_wh": 0}]}
    assert (await served.problem("POST", "/v1/readings", json=body))[:2] == (400, "invalid_body")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/transfers", {"recipient": OTHER, "amount": 5}),
        ("/v1/transfers", {"recipient": OTHER, "amount": "0"}),
        ("/v1/transfers", {"recipient": OTHER, "amount": "1.5"}),
        ("/v1/transfers", {"recipient": OTHER, "amount": "1\n"}),
        ("/v1/transfers", {"recipient": OTHER, "amount": "9999999999999999999"}),
        ("/v1/transfers", {"amount": "1"}),
        ("/v1/ballots", {"choices": []}),
        ("/v1/ballots", {"choices": [OTHER, OTHER]}),
        ("/v1/ballots", {"choices": [OTHER] * 4}),
        ("/v1/readings", {"readings": []}),
        ("/v1/readings", {"readings": [READING] * 257}),
        ("/v1/readings", {"readings": [{**READING, "signature": "00"}]}),
        ("/v1/leave", {"sure": True}),
    ],
)
async def test_wrong_bodies_are_400(served: Served, path: str, body: Any) -> None:
    if path == "/v1/readings" and len(body["readings"]) > 1:
        body = {"readings": [{**READING, "public_key": "0" * 64, "signature": "0" * 128}] * 257}
        status, _, _ = await served.problem("POST", path, json=body)
        assert status in (400, 413)
        return
    assert (await served.problem("POST", path, json=body))[:2] == (400, "invalid_body")
    assert not served.node.payloads


async def test_a_quote_sends_nothing(served: Served) -> None:
    status, data, _ = await served.post("/v1/quotes", json=TERMS)
    assert (status, data["value"], data["buyer_escrow"]) == (200, "250000000", "250000000")
    assert not served.node.submitted


# ---- tokens


@pytest.mark.parametrize(("path", "body"), CALLS)
async def test_beyond_loopback_every_signing_endpoint_needs_the_token(
    serving: Serve, path: str, body: Any
) -> None:
    served = await serving(beyond=True, token="s3cret")
    options = {} if body is None else {"json": body}
    status, data, headers = await served.post(path, **options)
    assert (status, data["code"], headers["WWW-Authenticate"]) == (401, "token_required", "Bearer")
    wrong = {"Authorization": "Bearer s3cre"}
    assert (await served.problem("POST", path, headers=wrong, **options))[:2] == (403, "token_wrong")
    basic = {"Authorization": "Basic s3cret"}
    assert (await served.problem("POST", path, headers=basic, **options))[:2] == (401, "token_required")
    assert not served.node.submitted
    status, _, _ = await served.post(path, headers={"Authorization": "Bearer s3cret"}, **options)
    assert status == 202


async def test_reading_and_submitting_need_no_token(serving: Serve) -> None:
    served = await serving(beyond=True, token="s3cret")
    assert (await served.get("/v1/status"))[0] == 200
    assert (await served.post("/v1/quotes", json=TERMS))[0] == 200
    headers = {"Content-Type": "application/msgpack"}
    assert (await served.post("/v1/transactions", data=served.node.raw, headers=headers))[0] == 202


def test_the_routes_that_sign_are_exactly_these() -> None:
    signing = {route.path for route in ROUTES if route.signs}
    assert signing == {
        "/v1/trades",
        "/v1/trades/{id}/accept",
        "/v1/trades/{id}/decline",
        "/v1/trades/{id}/withdraw",
        "/v1/trades/{id}/cancel",
        "/v1/readings",
        "/v1/ballots",
        "/v1/transfers",
        "/v1/leave",
    }


async def test_a_page_of_another_site_cannot_make_the_node_sign(served: Served) -> None:
    headers = {"Origin": "https://evil.example"}
    assert (await served.problem("POST", "/v1/leave", headers=headers))[:2] == (403, "cross_origin")
    headers = {"Origin": served.url}
    assert (await served.post("/v1/leave", headers=headers))[0] == 202


async def test_a_rebound_name_cannot_make_the_node_sign(served: Served) -> None:
    headers = {"Host": "evil.example"}
    assert (await served.problem("POST", "/v1/leave", headers=headers))[:2] == (403, "cross_origin")


def test_an_api_beyond_loopback_is_not_served_without_a_token() -> None:
    with pytest.raises(ValueError, match="token"):
        Guard("0.0.0.0", "")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("node1", False),
        ("", False),
    ],
)
def test_what_counts_as_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
