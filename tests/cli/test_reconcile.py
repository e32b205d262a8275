"""`reconcile` as a person runs it: beside the simulator's ledger, and beside files good and bad."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import SecretStr

from mpesa_mcp.app.core import open_core
from mpesa_mcp.app.local import LocalPlatform, add_simulator_access, local_platform
from mpesa_mcp.identity.organizations import organization_by_slug
from mpesa_mcp.identity.principal import Principal
from mpesa_mcp.payments.intake import open_payment
from mpesa_mcp.payments.models import Attempt, Payment
from mpesa_mcp.payments.reading import wait_until_settled
from mpesa_mcp.payments.requests import StkPushRequest
from mpesa_mcp.settings import Settings
from mpesa_mcp.values import Environment, Kes, Msisdn, Role, SystemClock, eat_today, new_id

from .conftest import MASTER_KEY, Outcome, Terminal

NOON = datetime(2026, 11, 16, 9, 0, tzinfo=UTC)
DAY = ("--from", "2026-11-16", "--to", "2026-11-16")
HEADER = "Receipt No.,Completion Time,Details,Transaction Status,Paid In,Withdrawn,Balance"
LISTS = {
    "matched",
    "matched_without_receipt",
    "missing_here",
    "missing_there",
    "amounts_differ",
    "statuses_differ",
    "charges",
}


@dataclass(frozen=True)
class Installation:
    """Acme with a simulator shortcode, and payments written straight into its books."""

    terminal: Terminal
    directory: Path

    def enter(self, *payments: dict[str, Any]) -> list[str]:
        """Ids of succeeded pushes of KES 1,500 from 254700000001 at noon, unless said otherwise."""

        async def write() -> list[str]:
            settings = Settings(data_dir=self.terminal.data_dir, master_key=SecretStr(MASTER_KEY))
            async with open_core(settings) as core:
                organization_id = (await organization_by_slug(core.store, "acme")).organization_id
                rows = [_payment(organization_id, values) for values in payments]
                async with core.store.session(organization_id) as session:
                    session.add(*rows)
                    await session.flush()
                    session.add(*(_attempt(row) for row in rows))
                return [row.id for row in rows]

        return asyncio.run(write())

    def payment(self, payment_id: str) -> Any:
        return self.terminal.ask("payment", "show", "--org", "acme", payment_id)

    def statement(self, *lines: str, before: Sequence[str] = ()) -> str:
        file = self.directory / "statement.csv"
        file.write_text("\r\n".join([*before, HEADER, *lines, "Total,,,,1.00,,"]), encoding="utf-8-sig")
        return str(file)

    def reconcile(self, *words: str, **variables: str) -> Outcome:
        return self.terminal.run("reconcile", "--org", "acme", *DAY, *words, **variables)


def _payment(organization_id: str, values: dict[str, Any]) -> Payment:
    at = values.get("created_at", NOON)
    given: dict[str, Any] = {
        "organization_id": organization_id,
        "id": new_id("pay"),
        "kind": "stk_push",
        "status": "succeeded",
        "environment": "simulator",
        "shortcode_id": "sc_1",
        "shortcode": "174379",
        "phone": "254700000001",
        "amount_cents": 150_000,
        "created_by": "key:tester",
        "created_at": at,
        "updated_at": at,
        "settled_at": at,
    }
    return Payment(**{**given, **values})


def _attempt(row: Payment) -> Attempt:
    return Attempt(
        organization_id=row.organization_id,
        id=new_id("att"),
        payment_id=row.id,
        operation=row.kind,
        callback_token_sha256="",
        sent_at=row.created_at,
        in_flight_until=row.created_at,
    )


def a_line(
    receipt: str, *, time: str = "12:00:20", paid_in: str = '"1,500.00"', out: str = "", details: str = ""
) -> str:
    details = details or "Pay Bill from 2547******01 - JANE DOE"
    return f"{receipt},2026-11-16 {time},{details},Completed,{paid_in},{out},"


@pytest.fixture
def acme(terminal: Terminal, tmp_path: Path) -> Installation:
    assert terminal.run("org", "create", "Acme", "--slug", "acme").exit_code == 0

    async def give_access() -> None:
        settings = Settings(data_dir=terminal.data_dir, master_key=SecretStr(MASTER_KEY))
        async with open_core(settings) as core:
            organization = await organization_by_slug(core.store, "acme")
            await add_simulator_access(core, organization.organization_id, role=Role.MANAGER)

    asyncio.run(give_access())
    return Installation(terminal, tmp_path)


def test_a_statement_that_agrees_leaves_nothing_over(acme: Installation) -> None:
    acme.enter({"receipt": "SKE0000AA1"}, {"receipt": "SKE0000BB1", "kind": "b2c"})
    charge = a_line("SKE0000BB1", paid_in="", out="-22.40", details="Business Payment Charge")
    file = acme.statement(a_line("SKE0000AA1"), a_line("SKE0000BB1", paid_in="", out='"-1,500.00"'), charge)
    outcome = acme.reconcile("--statement", file, "--json")
    assert (outcome.exit_code, outcome.stderr) == (0, "")
    assert set(outcome.value) == LISTS | {"totals"}
    assert [each["receipt"] for each in outcome.value["matched"]] == ["SKE0000AA1", "SKE0000BB1"]
    assert [each["amount_theirs"] for each in outcome.value["charges"]] == ["22.40"]
    totals = outcome.value["totals"]
    assert totals["ours"] == totals["theirs"] == {"count": 2, "paid_in": "1500.00", "paid_out": "1500.00"}
    assert totals["charges"] == {"count": 1, "amount": "22.40"}
    told = acme.reconcile("--statement", file)
    assert (told.exit_code, told.stderr) == (0, "Nothing is left over.\n")


def test_what_is_left_over_is_listed_and_exits_with_one(acme: Installation) -> None:
    [_, unknown, *_] = acme.enter(
        {"receipt": "SKE0000AA1"},
        {"status": "unknown", "phone": "254700000001", "settled_at": None},
        {"receipt": "SKE0000AA3", "amount_cents": 100},
        {"status": "unknown", "amount_cents": 99_900, "settled_at": None},
    )
    injected = '"=cmd() \u202e from 254700000009 - [red]PAY"'
    file = acme.statement(
        a_line("SKE0000AA2"), a_line("SKE0000AA3"), a_line("SKE0000ZZ1", paid_in="7.00", details=injected)
    )
    outcome = acme.reconcile("--statement", file, "--json")
    assert outcome.exit_code == 1
    receipts = {name: [each["receipt"] for each in outcome.value[name]] for name in LISTS}
    assert receipts["missing_there"] == ["SKE0000AA1"]
    assert receipts["amounts_differ"] == ["SKE0000AA3"]
    assert receipts["statuses_differ"] == ["SKE0000AA2"]
    assert f"payment resolve {unknown} --org acme" in outcome.value["statuses_differ"][0]["what_to_do"]
    [foreign] = outcome.value["missing_here"]
    assert (foreign["receipt"], foreign["payment_id"], foreign["amount_theirs"]) == ("SKE0000ZZ1", None, "7.00")
    assert foreign["untrusted_text"] == "=cmd() from 2547*****009 - [red]PAY"
    told = acme.reconcile("--statement", file)
    undecided, count = told.stderr.splitlines()
    assert (told.exit_code, count) == (1, "4 left over.")
    assert undecided.startswith("undecided here: 1 of these days has no outcome here yet, and the statement shows no")
    assert "mpesa-mcp payment review --org acme" in undecided
    assert outcome.value["statuses_differ"][0]["what_to_do"] in told.stdout, "on one line, to be copied"
    assert "SKE0000ZZ1" in told.stdout
    assert "[red]PAY" in told.stdout
    assert "254700000009" not in told.stdout
    assert acme.payment(unknown)["status"] == "unknown"


def test_a_missing_receipt_is_taken_only_when_asked_for(acme: Installation) -> None:
    [payment_id] = acme.enter({})
    file = acme.statement(a_line("SKE0000AA1"))
    looked = acme.reconcile("--statement", file, "--json")
    assert looked.exit_code == 0
    assert looked.value["matched_without_receipt"][0]["payment_id"] == payment_id
    assert acme.payment(payment_id)["receipt"] is None
    taken = acme.reconcile("--statement", file, "--adopt", "--json")
    assert "was taken" in taken.value["matched_without_receipt"][0]["what_to_do"]
    shown = acme.payment(payment_id)
    assert (shown["receipt"], shown["status"]) == ("SKE0000AA1", "succeeded")
    assert [line["event"] for line in shown["history"]] == ["receipt_adopted"]
    assert len(acme.reconcile("--statement", file, "--json").value["matched"]) == 1


def test_midnight_in_nairobi_makes_nothing_missing(acme: Installation) -> None:
    end = datetime(2026, 11, 16, 21, 0, tzinfo=UTC)
    late = {"created_at": end - timedelta(seconds=10), "settled_at": end + timedelta(seconds=5)}
    early = {key: at - timedelta(days=1) for key, at in late.items()}
    acme.enter({"receipt": "SKE0000AA1", **late}, {"receipt": "SKE0000AA2", **early})
    outcome = acme.reconcile("--statement", acme.statement(a_line("SKE0000AA2", time="00:00:05")), "--json")
    assert (outcome.exit_code, len(outcome.value["matched"])) == (0, 1)
    assert outcome.value["totals"]["completed_after_the_period"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"PK\x03\x04", "export it from the portal as CSV"),
        (b"a,b,c\n1,2,3\n", "columns, which are Receipt No., Completion Time"),
        (f"{HEADER}\n{a_line('SKE0000AA1', paid_in='abc')}\n".encode(), "Line 2"),
        (f"{HEADER}\nSKE0000AA1,2026-01-05 10:00:00,,Completed,5.00,,\n".encode(), "2026-01-05 to 2026-01-05"),
        (f"Short Code:,600000\n{HEADER}\n{a_line('SKE0000AA1')}\n".encode(), "none of the organization's"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence_and_changes_nothing(
    acme: Installation, content: bytes | None, said: str
) -> None:
    [payment_id] = acme.enter({})
    file = acme.directory / "given.csv"
    if content is not None:
        file.write_bytes(content)
    outcome = acme.reconcile("--statement", str(file), "--adopt", "--json")
    assert (outcome.exit_code, outcome.stdout) == (1, "")
    assert len(outcome.stderr.splitlines()) == 1
    assert said in outcome.stderr
    assert acme.payment(payment_id)["receipt"] is None


def test_a_directory_is_no_statement(acme: Installation) -> None:
    outcome = acme.reconcile("--statement", str(acme.directory))
    assert outcome.exit_code == 1
    assert "directory" in outcome.stderr


def test_days_in_the_wrong_order_are_refused_and_no_days_are_wrong_usage(acme: Installation) -> None:
    days = ("--from", "2026-11-17", "--to", "2026-11-16")
    refused = acme.terminal.run("reconcile", "--org", "acme", *days)
    assert (refused.exit_code, refused.stderr) == (1, "--from must not be later than --to.\n")
    assert acme.terminal.run("reconcile", "--org", "acme", "--from", "16/11/2026", "--to", "now").exit_code == 2
    assert acme.terminal.run("reconcile", "--org", "acme").exit_code == 2
    assert acme.terminal.run("reconcile", "--org", "nobody", *DAY).exit_code == 1


def test_several_environments_or_shortcodes_must_be_told_apart(acme: Installation) -> None:
    acme.enter({"receipt": "SKE0000AA1"}, {"receipt": "SKE0000AA2", "environment": "sandbox"})
    file = acme.statement(a_line("SKE0000AA1"))
    refused = acme.reconcile("--statement", file)
    assert (refused.exit_code, "--environment" in refused.stderr) == (1, True)
    assert acme.reconcile("--statement", file, "--environment", "simulator").exit_code == 0
    acme.enter({"receipt": "SKE0000AA3", "shortcode": "600000"})
    refused = acme.reconcile("--statement", file, "--environment", "simulator")
    assert (refused.exit_code, "--shortcode" in refused.stderr) == (1, True)
    chosen = ("--environment", "simulator", "--shortcode", "174379")
    assert acme.reconcile("--statement", file, *chosen).exit_code == 0
    named = acme.statement(a_line("SKE0000AA1"), before=["Organization statement", "Short Code:,174379"])
    assert acme.reconcile("--statement", named, "--environment", "simulator").exit_code == 0


def test_only_the_simulator_has_a_ledger_and_it_must_run(acme: Installation) -> None:
    acme.enter({"receipt": "SKE0000AA1"})
    silent = acme.reconcile(SIMULATOR_URL="http://127.0.0.1:9")
    assert (silent.exit_code, "mpesa-mcp simulator" in silent.stderr) == (1, True)
    refused = acme.reconcile("--environment", "production")
    assert (refused.exit_code, "--statement" in refused.stderr) == (1, True)


@pytest.fixture
def platform() -> Iterator[tuple[BlockingPortal, LocalPlatform]]:
    """A whole server with its simulator, in a thread of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(local_platform(delay_ms=10, reconcile_speed=1000)) as opened,
    ):
        yield portal, opened


async def _pay(platform: LocalPlatform, *phones: str) -> list[str]:
    """Pushes of KES 1,500 to these phones, each followed until it is settled."""
    principal = Principal(
        platform.organization.organization_id, "key:test", Role.MANAGER, Environment.SIMULATOR, None, "test"
    )
    payments = []
    for phone in phones:
        request = StkPushRequest(phone=Msisdn(phone), amount=Kes.from_shillings(1500), reference="INV-1")
        opened = (await open_payment(platform.core, principal, request)).payment
        settled = await wait_until_settled(platform.core, opened, seconds=20, progress=_unheard)
        assert settled.status.is_settled
        payments.append(settled.payment_id)
    return payments


async def _unheard(_: float) -> None:
    return None


async def _forget(platform: LocalPlatform) -> None:
    async with httpx2.AsyncClient(base_url=platform.simulator_url, trust_env=False) as http:
        assert (await http.post("/_sim/reset")).status_code == 200


def test_the_ledger_agrees_with_what_was_paid_through_the_simulator(
    terminal: Terminal, platform: tuple[BlockingPortal, LocalPlatform]
) -> None:
    portal, opened = platform
    # Succeeds; succeeds with the callback lost; fails; succeeds after the connection broke.
    phones = [f"2547000000{digits}" for digits in ("01", "84", "85", "92")]
    payments = portal.call(_pay, opened, *phones)
    today = eat_today(SystemClock()).isoformat()

    def reconcile(*words: str) -> Outcome:
        return terminal.run(
            "reconcile",
            "--org",
            "demo",
            *("--from", (date.fromisoformat(today) - timedelta(days=1)).isoformat(), "--to", today),
            "--json",
            *words,
            DATA_DIR=str(opened.core.settings.data_dir),
            SIMULATOR_URL=opened.simulator_url,
            MASTER_KEY="",
        )

    outcome = reconcile("--adopt")
    assert outcome.exit_code == 0, outcome.stdout
    found = [each["payment_id"] for name in ("matched", "matched_without_receipt") for each in outcome.value[name]]
    assert sorted(found) == sorted([payments[0], payments[1], payments[3]])
    assert payments[1] in {each["payment_id"] for each in outcome.value["matched_without_receipt"]}
    again = reconcile()
    assert (again.exit_code, len(again.value["matched"]), again.value["matched_without_receipt"]) == (0, 3, [])
    portal.call(_forget, opened)
    emptied = reconcile()
    assert (emptied.exit_code, len(emptied.value["missing_there"])) == (1, 3)
    assert "ledger is empty" in emptied.stderr
    assert {each["what_to_do"] for each in emptied.value["missing_there"]} == {
        "It succeeded here but is not in the simulator's ledger, which begins anew whenever the simulator starts."
    }
