"""Every endpoint that reads: position, paging, hex, money as text, refusals."""

from typing import Any

import pytest

from consensus.block import certified_block_codec
from node.api.routes import ROUTES
from node.service import Health
from tests.unit.node.api.conftest import Served
from tests.unit.node.fake_node import OFFER_ID, TRADE_ID
from tests.unit.node.mini_chain import key

OWN = key(1).address.hex()


@pytest.mark.parametrize(
    "path",
    [
        "/v1/members",
        f"/v1/members/{OWN}",
        f"/v1/members/{OWN}/credit",
        "/v1/groups",
        "/v1/epochs/0",
        "/v1/epochs/current",
        "/v1/delegates",
        "/v1/delegates?height=1",
        "/v1/delegates/changes",
        "/v1/delegates/changes?from=2",
        "/v1/parameters",
        "/v1/blocks",
        "/v1/blocks/3",
        "/v1/blocks/latest",
        "/v1/blocks/3/certificate",
        "/v1/trades",
        f"/v1/trades/{TRADE_ID.hex()}",
        "/v1/status",
    ],
)
async def test_every_answer_that_reads_state_carries_height_and_block_hash(served: Served, path: str) -> None:
    status, data, headers = await served.get(path)
    assert status == 200
    assert headers["Content-Type"].startswith("application/json")
    position = served.node.position()
    assert data["height"] == position.height
    assert data["block_hash"] == position.block_hash.hex()


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"/v1/members/{'00' * 20}", 404, "unknown_resource"),
        (f"/v1/members/{'00' * 20}/credit", 404, "unknown_resource"),
        (f"/v1/members/{'00' * 20}?proof=1", 404, "unknown_resource"),
        ("/v1/members/xyz", 400, "invalid_parameter"),
        (f"/v1/members/0x{'00' * 19}", 400, "invalid_parameter"),
        ("/v1/members?limit=0", 400, "invalid_parameter"),
        ("/v1/members?limit=101", 400, "invalid_parameter"),
        ("/v1/members?limit=ten", 400, "invalid_parameter"),
        ("/v1/members?cursor=!", 400, "invalid_cursor"),
        ("/v1/members?cursor=", 400, "invalid_cursor"),
        ("/v1/members?page=2", 400, "invalid_parameter"),
        ("/v1/epochs/5", 404, "unknown_resource"),
        ("/v1/epochs/-1", 400, "invalid_parameter"),
        ("/v1/delegates?height=99", 404, "unknown_resource"),
        ("/v1/delegates?height=0", 400, "invalid_parameter"),
        ("/v1/delegates/changes?from=0", 400, "invalid_parameter"),
        ("/v1/blocks/99", 404, "unknown_resource"),
        ("/v1/blocks/99/certificate", 404, "unknown_resource"),
        ("/v1/blocks/99/raw", 404, "unknown_resource"),
        ("/v1/blocks/99999999999999999999", 400, "invalid_parameter"),
        (f"/v1/trades/{'00' * 32}", 404, "unknown_resource"),
        ("/v1/trades/00", 400, "invalid_parameter"),
        ("/v1/trades?state=sold", 400, "invalid_parameter"),
        ("/v1/trades?party=me", 400, "invalid_parameter"),
        ("/v1/transactions/zz", 400, "invalid_parameter"),
        ("/v1/nothing", 404, "not_found"),
        ("/v1/events?from=0", 400, "invalid_parameter"),
    ],
)
async def test_refusals(served: Served, path: str, status: int, code: str) -> None:
    found_status, found, _ = await served.problem("GET", path)
    assert (found_status, found) == (status, code)


async def test_another_method_is_405_and_names_those_that_are_served(served: Served) -> None:
    status, data, headers = await served.ask("DELETE", "/v1/trades")
    assert (status, data["code"]) == (405, "method_not_allowed")
    assert headers["Allow"] == "GET, POST"


async def test_pages_follow_each_other(served: Served) -> None:
    found: list[str] = []
    cursor = ""
    while True:
        _, data, _ = await served.get(f"/v1/members?limit=3{cursor}")
        found += [item["address"] for item in data["items"]]
        if data["next_cursor"] is None:
            break
        cursor = f"&cursor={data['next_cursor']}"
    assert found == sorted(found)
    assert len(found) == 4


async def test_a_member_shows_money_as_text_and_credit_as_a_number(served: Served) -> None:
    _, data, _ = await served.get(f"/v1/members/{OWN}")
    assert data["member"]["balance"] == "1000000000000"
    assert data["member"]["credit"] == 50_000
    assert data["proof"] is None


async def test_credit_history_names_reasons(served: Served) -> None:
    _, data, _ = await served.get(f"/v1/members/{OWN}/credit")
    assert data["items"] == [
        {
            "height": 1,
            "time_ms": 1_700_000_000_000,
            "reason": "delegate_reward",
            "delta": 1000,
            "credit": 51000,
        }
    ]


async def test_a_proof_that_does_not_come_in_time_is_503(served: Served) -> None:
    served.node.proofs_come = False
    for path in (f"/v1/members/{OWN}?proof=1", f"/v1/trades/{TRADE_ID.hex()}?proof=1&timeout_ms=5"):
        assert (await served.problem("GET", path))[:2] == (503, "proof_not_ready")


async def test_groups_epoch_and_delegates(served: Served) -> None:
    _, groups, _ = await served.get("/v1/groups")
    assert [group["number"] for group in groups["groups"]] == [0, 1, 2, 3]
    _, epoch, _ = await served.get("/v1/epochs/current")
    assert (epoch["epoch"], epoch["phase"], epoch["tallies"][0]["recount"]) == (0, "running", False)
    _, delegates, _ = await served.get("/v1/delegates")
    assert (delegates["for_height"], delegates["quorum"], delegates["faults"]) == (4, 3, 1)
    assert delegates["set_hash"] == served.node.chain.delegates.hash().hex()


async def test_parameters_carry_the_genesis_whole(served: Served) -> None:
    _, data, _ = await served.get("/v1/parameters")
    assert data["chain_id"] == served.node.chain.chain_id.hex()
    assert data["parameters"]["tx_window_ms"] == 120_000
    assert data["parameters"]["allow_non_bft"] is False
    assert data["founding_balance"] == "1000000000000"
    assert data["admission"] == "open"


async def test_a_block_its_certificate_and_its_bytes(served: Served) -> None:
    _, block, _ = await served.get("/v1/blocks/1")
    assert block["transactions"] == [{"id": served.node.first_id.hex(), "code": "ok"}]
    assert block["header"]["proposer"] == served.node.chain.delegates.ranking[0].address.hex()
    assert block["height"] == 1
    assert block["at"]["height"] == 3
    _, certificate, _ = await served.get("/v1/blocks/1/certificate")
    assert certificate["block_hash"] == block["block_hash"]
    assert len(certificate["signers"]) == 3
    async with served.session.get(served.url + "/v1/blocks/1/raw") as response:
        assert response.content_type == "application/msgpack"
        assert certified_block_codec.decode(await response.read()) == served.node.chain.blocks[0]


async def test_a_trade_shows_its_slot_table_and_settlement(served: Served) -> None:
    _, trade, _ = await served.get(f"/v1/trades/{TRADE_ID.hex()}")
    assert trade["slots"][0]["paid_wh"] == 450
    assert trade["settlement"]["paid"] == "225000000"
    assert trade["settlement"]["seller_credit_delta"] == -1_000
    assert trade["terms"]["buyer_rule"] == "pay_actual"


async def test_trades_by_party_and_state(served: Served) -> None:
    _, data, _ = await served.get(f"/v1/trades?party={OWN}&state=offered")
    assert [item["id"] for item in data["items"]] == [OFFER_ID.hex()]
    _, data, _ = await served.get(f"/v1/trades?party={'00' * 20}")
    assert data["items"] == []


async def test_status_tells_primary_and_last_votes(served: Served) -> None:
    _, data, _ = await served.get("/v1/status")
    assert data["primary"] == served.node.chain.delegates.ranking[0].address.hex()
    assert data["consensus"]["height"] == 4
    assert [vote["phase"] for vote in data["consensus"]["delegates"]] == ["prepare"] * 4
    assert data["address"] == OWN


async def test_health_is_told_by_status_code(served: Served) -> None:
    assert (await served.get("/livez"))[0] == (await served.get("/readyz"))[0] == 200
    served.node.healthy = Health(True, False, ("behind by 20 blocks",))
    status, data, _ = await served.get("/readyz")
    assert (status, data["problems"]) == (503, ["behind by 20 blocks"])
    assert (await served.get("/livez"))[0] == 200
    served.node.healthy = Health(False, False, ("the consensus task ended",))
    assert (await served.get("/livez"))[0] == 503


async def test_metrics_name_figures_and_count_answers(served: Served) -> None:
    await served.get("/v1/status")
    await served.get("/v1/nowhere")
    async with served.session.get(served.url + "/metrics") as response:
        text = await response.text()
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    lines = text.splitlines()
    assert "cgpbft_consensus_height 4.0" in lines
    assert "cgpbft_consensus_view_changes_total 2.0" in lines
    assert "cgpbft_journal_sync_seconds_total 0.0035" in lines
    assert 'cgpbft_http_requests_total{method="GET",route="/v1/status",status="200"} 1.0' in lines
    assert 'cgpbft_http_requests_total{method="GET",route="none",status="404"} 1.0' in lines


async def test_our_own_fault_is_500_without_its_text(served: Served, monkeypatch: Any) -> None:
    def broken() -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(served.node, "groups", broken)
    status, code, detail = await served.problem("GET", "/v1/groups")
    assert (status, code) == (500, "internal")
    assert "secret" not in detail


def test_every_route_stands_once() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
