"""Batches over REST: submitted as JSON or CSV, refused row by row, read, and decided about."""

import anyio
import httpx2
import pytest
from sqlalchemy import update
from sqlmodel import col, select

from mpesa_mcp.app.local import add_simulator_access
from mpesa_mcp.payments.batches.models import BatchLine
from mpesa_mcp.payments.batches.states import RowState
from mpesa_mcp.payments.core import Core
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.policy.models import SpendRule
from mpesa_mcp.values import Role
from tests.isolation.factories import a_payment
from tests.spending import WIDE

from .people import People, make_people

pytestmark = pytest.mark.anyio

CSV = {"Content-Type": "text/csv; charset=utf-8"}


@pytest.fixture(scope="module")
async def people(core: Core) -> People:
    made = await make_people(core)
    await add_simulator_access(core, made.organization_id, role=Role.MANAGER)
    # As if it had been so before there were two org_admins, who must agree to it.
    rule = SpendRule(
        organization_id=made.organization_id,
        scope="organization",
        rule=WIDE,
        changed_at=core.clock.now(),
        changed_by="operator:tester",
    )
    async with core.store.session(made.organization_id) as session:
        session.add(rule)
    return made


def a_file(first: int, rows: int) -> bytes:
    lines = [f"07{first + row:08d},{100 + row},SAL-{row % 100},November" for row in range(rows)]
    return "\n".join(["phone,amount,reference,remarks", *lines]).encode()


async def test_a_batch_is_submitted_once_read_and_decided_about(http: httpx2.AsyncClient, people: People) -> None:
    headers = people.headers("manager")
    payment = {"phone": "0712345678", "amount": 2500, "reference": "SAL-1", "remarks": "November"}
    body = {
        "name": "Salaries",
        "purpose": "salary",
        "idempotency_key": "json",
        "expected_total": 2500,
        "expected_count": 1,
        "payments": [payment],
    }
    first = await http.post("/batches", json=body, headers=headers)
    assert (first.status_code, first.json()["status"], first.json()["replayed"]) == (200, "running", False)
    spaced = {"name": " Salaries", "payments": [payment | {"reference": "SAL-1 ", "remarks": " November "}]}
    for same in (body, body | spaced):
        again = await http.post("/batches", json=same, headers=headers)
        assert (again.json()["batch_id"], again.json()["replayed"]) == (first.json()["batch_id"], True)
    path = f"/batches/{first.json()['batch_id']}"
    for act, status in (("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        decided = await http.post(f"{path}/{act}", headers=headers)
        assert (decided.status_code, decided.json()["status"]) == (200, status)
    refused = await http.post(f"{path}/retry", headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "batch_not_changeable")
    result = await http.get(f"{path}/result", headers=headers)
    assert result.headers["content-type"].startswith("text/csv")
    assert result.text.splitlines()[1].startswith("1,cancelled,2547*****678,2500.00,SAL-1,November")
    listed = (await http.get("/batches", headers=headers)).json()["items"]
    assert [each["batch_id"] for each in listed] == [first.json()["batch_id"]]
    assert (await http.get(path, headers=people.headers("stranger"))).status_code == 404


async def test_a_csv_with_bad_rows_is_refused_with_every_line_and_paid_without_them_when_asked(
    http: httpx2.AsyncClient, people: People
) -> None:
    content = a_file(1_000_000, 3) + b"\n0712,20,A,x\n"
    asked = {"name": "Salaries", "idempotency_key": "csv", "expected_count": "4"}
    headers = people.headers("org_admin_key") | CSV
    refused = await http.post("/batches", params=asked, content=content, headers=headers)
    assert refused.status_code == 422
    error = refused.json()["error"]
    assert error["code"] == "batch_invalid"
    assert [(each["line"], each["field"]) for each in error["errors"]] == [(5, "phone"), (5, "remarks")]
    assert error["errors"][0]["message"].endswith('Read: "0712".')
    assert '"0712"' not in error["message"]
    paid = await http.post("/batches", params=asked | {"skip_invalid": "true"}, content=content, headers=headers)
    assert (paid.status_code, paid.json()["count"], paid.json()["amount"]) == (200, 3, "303.00")
    assert {"outcome": "rejected", "count": 1, "amount": None} in paid.json()["totals"]


async def test_a_field_that_there_is_not_is_told_by_its_line_beside_what_is_wrong_with_others(
    http: httpx2.AsyncClient, people: People
) -> None:
    good = {"phone": "0712345678", "amount": 2500, "reference": "SAL-1", "remarks": "November"}
    body = {"name": "Salaries", "idempotency_key": "more", "payments": [good, good | {"bonus": 1, "phone": "07"}]}
    refused = await http.post("/batches", json=body, headers=people.headers("manager"))
    errors = refused.json()["error"]["errors"]
    assert [(each["line"], each["code"]) for each in errors] == [(2, "unknown_field"), (2, "bad_phone")]
    assert errors[0]["message"].endswith('Read: "bonus".')


async def test_ten_thousand_rows_are_taken_and_more_than_four_mebibytes_are_not(
    http: httpx2.AsyncClient, people: People
) -> None:
    headers = people.headers("manager") | CSV
    asked = {"name": "Payroll", "idempotency_key": "large"}
    large = await http.post("/batches", params=asked, content=a_file(2_000_000, 10_000), headers=headers)
    assert (large.status_code, large.json()["count"]) == (200, 10_000), large.text
    for content, status in ((a_file(1, 10_001), 422), (b"x" * (4 << 20) + b"y", 413)):
        refused = await http.post("/batches", params=asked | {"idempotency_key": "k"}, content=content, headers=headers)
        assert refused.status_code == status


async def test_a_body_that_no_batch_has_is_refused_before_anybody_looks_through_it(
    http: httpx2.AsyncClient, people: People
) -> None:
    nested: object = "0712345678"
    for _ in range(400):
        nested = {"phone": nested}
    rest = {"amount": 20, "reference": "A", "remarks": "Tea money"}
    for payments, said in (
        ([{"phone": nested} | rest], "nested more than 20 deep"),
        ([{"phone": [0] * 1_000_000} | rest], "more values"),
        ([{"phone": ["0712345678"]} | rest], "given as text"),
        ([{}] * 1_000_000, "more values"),
    ):
        body: dict[str, object] = {"name": "Salaries", "idempotency_key": "odd", "payments": payments}
        refused = await http.post("/batches", json=body, headers=people.headers("manager"))
        assert (refused.status_code, said in refused.json()["error"]["message"]) == (422, True), refused.text[:300]


async def test_of_two_who_try_a_batch_again_while_its_rows_fail_none_meets_a_fault(
    http: httpx2.AsyncClient, people: People, core: Core
) -> None:
    headers, acme = people.headers("manager"), people.organization_id
    asked = {"name": "Payroll", "idempotency_key": "raced"}
    submitted = await http.post("/batches", params=asked, content=a_file(3_000_000, 400), headers=headers | CSV)
    batch_id = submitted.json()["batch_id"]
    payments = await _send(core, acme, batch_id)
    answers: list[httpx2.Response] = []

    async def retry() -> None:
        answers.append(await http.post(f"/batches/{batch_id}/retry", headers=headers))

    async def fail_one_after_the_other() -> None:
        """There is always somebody before whoever tries again, and one more row that failed."""
        while len(answers) < 2 and payments:
            async with core.store.session(acme) as session:
                await session.hold_organization(alone=True)
                failed = update(Payment).where(col(Payment.id) == payments.pop())
                await session.change(failed.values(status=PaymentStatus.FAILED))

    async with anyio.create_task_group() as group:
        for task in (fail_one_after_the_other, fail_one_after_the_other, retry, retry):
            group.start_soon(task)
    told = [(each.status_code, each.json().get("error", {}).get("code")) for each in answers]
    assert told == [(409, "batch_changing")] * 2, [each.text for each in answers]
    again = await http.post(f"/batches/{batch_id}/retry", headers=headers)
    waiting = {each["outcome"]: each["count"] for each in again.json()["totals"]}["waiting"]
    assert (again.status_code, waiting) == (200, 400 - len(payments))


async def _send(core: Core, organization_id: str, batch_id: str) -> list[str]:
    """As if every row of the batch had been sent, and not been answered yet; the payments."""
    async with core.store.session(organization_id) as session:
        lines = await session.all(select(BatchLine).where(BatchLine.batch_id == batch_id))
        payments = [
            a_payment(
                core,
                organization_id,
                PaymentStatus.PENDING,
                kind=PaymentKind.B2C,
                phone=line.phone,
                amount_cents=line.amount_cents,
                batch_id=batch_id,
                idempotency_key=f"{batch_id}-{line.line}",
            )
            for line in lines
        ]
        session.add(*payments)
        await session.flush()  # the rows refer to them
        for line, payment in zip(lines, payments, strict=True):
            line.state, line.payment_id = RowState.MADE, payment.id
        return [payment.id for payment in payments]
