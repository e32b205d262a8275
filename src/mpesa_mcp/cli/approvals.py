"""`mpesa-mcp approval`: what waits for people. The command line approves nothing: that takes a person, signed in."""

from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import Document, JsonOption, OrgOption, emit, run

if TYPE_CHECKING:
    from mpesa_mcp.payments.core import Core

commands = typer.Typer(no_args_is_help=True, help="Read what waits for an organization's approval.")


@commands.callback()
def _group() -> None:
    """Keeps `approval list` two words while there is one command."""


@commands.command("list")
def list_(
    org: OrgOption,
    status: Annotated[
        str | None, typer.Option(help="Approvals in this status only: pending, approved, declined, expired or void.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most, newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List approvals, newest first, of every environment. An org_admin decides about one, signed in."""

    async def act(core: "Core") -> list[Document]:
        from mpesa_mcp.identity.organizations import organization_by_slug
        from mpesa_mcp.payments.approval_reading import list_approvals, read_status

        wanted = read_status(status) if status is not None else None
        organization = await organization_by_slug(core.store, org)
        page = await list_approvals(core, organization.organization_id, status=wanted, limit=limit)
        return [
            {
                "approval_id": found.approval.approval_id,
                "status": found.approval.status.value,
                "payment_id": found.approval.payment_id,
                "batch_id": found.approval.batch_id,
                "batch_name": found.batch.name if found.batch is not None else None,
                "environment": found.approval.environment.value,
                "payment_count": found.approval.payment_count,
                "amount": str(found.approval.amount),
                "currency": "KES",
                "phone": found.payment.phone.masked if found.payment is not None else None,
                "held_by": [reason.sentence for reason in found.approval.reasons],
                "approvals": found.approval.approvals,
                "approvers_needed": found.approval.approvers_needed,
                "asked_by": found.approval.asked_by,
                "asker": found.asker,
                "asked_at": found.approval.asked_at,
                "expires_at": found.approval.expires_at,
                "closed_at": found.approval.closed_at,
                "url": core.settings.approval_url(found.approval.approval_id),
            }
            for found in page.items
        ]

    columns = (
        *("asked_at", "approval_id", "status", "amount", "phone", "batch_name"),
        *("asker", "approvals", "approvers_needed", "url"),
    )
    emit(run(act), as_json=as_json, columns=columns)
