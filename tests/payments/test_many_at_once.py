"""A batch with every ending there is, paid by a worker that does together what it can."""

import csv
import io

import anyio
import httpx2
import pytest

from mpesa_mcp.app.local import local_platform
from mpesa_mcp.payments.batches.reading import find_batch
from mpesa_mcp.payments.batches.results import result_csv
from mpesa_mcp.payments.batches.rows import GivenRow
from mpesa_mcp.payments.batches.states import BatchStatus
from mpesa_mcp.payments.batches.submission import BatchRequest, submit_batch
from tests.spending import give_wide_rules, miscounted

from .factories import a_principal

pytestmark = pytest.mark.anyio

# By the last two digits of the phone; 91 and 97 wait for a person or for ever, and 88 is a dispute.
SUCCEED = (*range(20), 84, 86, 87, 89, 90, 92, 93, 95)
FAIL = (81, 82, 83, 85, 94)


async def test_every_row_of_a_batch_ends_as_its_phone_says_and_is_paid_once() -> None:
    async with local_platform(delay_ms=200, reconcile_speed=200, daraja_calls_per_second=10_000) as platform:
        core, principal = platform.core, a_principal(platform.organization.organization_id)
        await give_wide_rules(core, principal.organization_id)
        endings = [*SUCCEED, *FAIL, 88]
        rows = [
            GivenRow(line, f"07000{line:03d}{ending:02d}", 100 + line, "SAL-11", "November salary")
            for line, ending in enumerate(endings, start=1)
        ]
        request = BatchRequest(name="Payroll", rows=rows, idempotency_key="payroll")
        batch = (await submit_batch(core, principal, request)).batch
        with anyio.fail_after(60):
            while not batch.status.is_at_rest or batch.totals.not_known > 1:
                token = core.store.wakeups.token(batch.batch_id)
                await core.store.wakeups.wait(token, 0.2)
                batch = await find_batch(core, principal, batch.batch_id)
        assert batch.status is BatchStatus.UNRESOLVED
        content = b"".join([part async for part in result_csv(core, batch)]).decode()
        outcomes = {int(row["line"]): row["outcome"] for row in csv.DictReader(io.StringIO(content))}
        assert outcomes == {
            line: "succeeded" if ending in SUCCEED else "failed" if ending in FAIL else "disputed"
            for line, ending in enumerate(endings, start=1)
        }
        async with httpx2.AsyncClient(base_url=platform.simulator_url, trust_env=False) as http:
            ledger = (await http.get("/_sim/ledger")).json()
        assert sorted(movement["amount"] for movement in ledger) == [
            100 + line for line, ending in enumerate(endings, start=1) if ending not in FAIL
        ]
        async with core.store.reading(principal.organization_id) as session:
            assert await miscounted(session) == []
