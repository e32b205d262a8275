"""OAuth, and what each operation says about a bad token (daraja/api.md §1 and §18)."""

from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from mpesa_mcp.simulator.app import create_simulator
from mpesa_mcp.values import FrozenClock

from .conftest import PATHS, Daraja, payload, simulated
from .shapes import shape

pytestmark = pytest.mark.anyio


async def test_a_token_has_the_documented_shape(daraja: Daraja) -> None:
    answer = (await daraja.sign_in()).json()
    assert shape(answer) == shape(payload("oauth_success_string_expiry"))
    assert answer["expires_in"] == "3599"
    assert len(answer["access_token"]) == 28
    assert answer["access_token"].isalnum()


async def test_the_first_use_of_a_consumer_key_fixes_its_secret(daraja: Daraja) -> None:
    assert (await daraja.sign_in("shop", "first")).status_code == 200
    refused = await daraja.sign_in("shop", "second")
    assert refused.status_code == 400
    assert refused.json() | {"requestId": ""} == payload("oauth_error_400_008_01") | {"requestId": ""}
    assert (await daraja.sign_in("shop", "first")).status_code == 200


async def test_the_secret_wrong_is_refused_and_fixes_nothing(daraja: Daraja) -> None:
    assert (await daraja.sign_in("shop", "wrong")).status_code == 400
    assert (await daraja.sign_in("shop", "right")).status_code == 200


async def test_a_new_token_kills_the_former_one_of_the_same_app_only(daraja: Daraja) -> None:
    await daraja.sign_in("other-app", "secret")
    others_token = daraja.token
    await daraja.sign_in()
    first = daraja.token
    await daraja.sign_in()
    second = daraja.token
    statuses = {}
    for token in (others_token, first, second):
        daraja.token = token
        statuses[token] = (await daraja.push("254700000001")).status_code
    assert statuses == {others_token: 200, first: 404, second: 200}


async def test_a_token_lives_an_hour() -> None:
    clock = FrozenClock(datetime(2026, 1, 15, 7, 15, tzinfo=UTC))
    async with simulated(create_simulator(delay_ms=0, clock=clock)) as daraja:
        clock.advance(timedelta(seconds=3599))
        assert (await daraja.push("254700000001")).status_code == 200
        clock.advance(timedelta(seconds=1))
        assert (await daraja.push("254700000001")).status_code == 404


@pytest.mark.parametrize(
    ("headers", "query", "error"),
    [
        ({}, "grant_type=client_credentials", "400.008.01"),
        ({"Authorization": "Bearer abc"}, "grant_type=client_credentials", "400.008.01"),
        ({"Authorization": "Basic %%%"}, "grant_type=client_credentials", "400.008.01"),
        ({"Authorization": "Basic bm9jb2xvbg=="}, "grant_type=client_credentials", "400.008.01"),
        ({"Authorization": "Basic YTpi"}, "grant_type=password", "400.008.02"),
        ({"Authorization": "Basic YTpi"}, "", "400.008.02"),
    ],
)
async def test_bad_token_requests_are_refused(daraja: Daraja, headers: dict[str, str], query: str, error: str) -> None:
    answer = await daraja.http.get(f"/oauth/v1/generate?{query}", headers=headers)
    assert (answer.status_code, answer.json()["errorCode"]) == (400, error)


async def test_asking_for_a_token_by_post_is_no_method(daraja: Daraja) -> None:
    answer = await daraja.http.post("/oauth/v1/generate?grant_type=client_credentials")
    assert answer.json()["errorCode"] == "405.001"


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("stk_push", "stk_push_error_404_001_03_invalid_access_token"),
        ("stk_query", "stk_push_error_404_001_03_invalid_access_token"),
        ("reversal", "stk_push_error_404_001_03_invalid_access_token"),
        ("b2c", "error_401_002_01_invalid_token"),
        ("balance", "error_401_002_01_invalid_token"),
        ("transaction_status", "error_400_003_01_invalid_access_token"),
    ],
)
async def test_each_operation_refuses_a_bad_token_in_its_own_words(
    daraja: Daraja, operation: str, expected: str
) -> None:
    daraja.token = "c9SQxWWhmdVRlyh0zh8gZDTkubVF"
    answer = await daraja.call(operation, {})
    body = payload(expected)
    assert answer.status_code == int(body["errorCode"][:3])
    assert answer.json() | {"requestId": ""} == body | {"requestId": ""}


@pytest.mark.parametrize("operation", PATHS)
async def test_a_missing_token_is_a_bad_token(daraja: Daraja, operation: str) -> None:
    answer: httpx2.Response = await daraja.http.post(PATHS[operation], json={})
    assert answer.json()["errorCode"] in {"404.001.03", "401.002.01", "400.003.01"}
