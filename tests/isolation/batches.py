"""A batch of an organization whose ids somebody else tries."""

from mpesa_mcp.payments.batches.models import Batch, BatchLine
from mpesa_mcp.payments.core import Core
from mpesa_mcp.values import new_id


async def store_batch(core: Core, organization_id: str, payment_id: str, shortcode: str) -> Batch:
    """One row, paid; nothing is due."""
    now = core.clock.now()
    batch = Batch(
        organization_id=organization_id,
        id=new_id("bat"),
        status="running",
        name="zebra remarks",
        environment="simulator",
        shortcode_id="sc_none",
        shortcode=shortcode,
        purpose="salary",
        idempotency_key="zebra-salaries",
        skip_invalid=False,
        rows_sha256="",
        digest="",
        row_count=1,
        amount_cents=4321_00,
        reserved_in=[],
        created_by="key:zebra",
        created_at=now,
        updated_at=now,
        counted_from=now,
    )
    async with core.store.session(organization_id) as session:
        session.add(batch)
        await session.flush()
        session.add(
            BatchLine(
                organization_id=organization_id,
                batch_id=batch.id,
                line=1,
                state="made",
                amount_cents=4321_00,
                payment_id=payment_id,
                asked_at=now,
            )
        )
    return batch
