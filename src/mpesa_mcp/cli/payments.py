"""`mpesa-mcp payment`: the organization's payments, for the operator; and what a person decides about them."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from mpesa_mcp.cli.output import JsonOption, OrgOption, emit, operator, run, say

if TYPE_CHECKING:
    from mpesa_mcp.payments.core import Core
    from mpesa_mcp.payments.records import PaymentRecord

commands = typer.Typer(help="Read an organization's payments, and decide what needs a person.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="A payment id.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the history and the audit: 2 to 200 characters.")]


class Decision(StrEnum):
    """What a person found out."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"


_COLUMNS = ("created_at", "payment_id", "kind", "status", "amount", "phone", "reference", "receipt", "environment")


@commands.command("list")
def list_(
    org: OrgOption,
    status: Annotated[str | None, typer.Option(help="Payments in this status only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most, newest first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List payments, newest first, of every environment."""

    async def act(core: "Core") -> list[dict[str, object]]:
        from mpesa_mcp.identity.organizations import organization_by_slug
        from mpesa_mcp.payments.reading import payments_of

        organization = await organization_by_slug(core.store, org)
        found = await payments_of(core, organization.organization_id, status=status, limit=limit)
        return [_document(payment) for payment in found]

    emit(run(act), as_json=as_json, columns=_COLUMNS)


@commands.command("show")
def show(
    org: OrgOption,
    payment_id: Annotated[str, typer.Argument(help="Its id, receipt, idempotency key or an id of Daraja's.")],
    as_json: JsonOption = False,
) -> None:
    """Show one payment with everything that happened to it."""

    async def act(core: "Core") -> dict[str, object]:
        from mpesa_mcp.identity.organizations import organization_by_slug
        from mpesa_mcp.payments.reading import history_of, payment_of

        organization = await organization_by_slug(core.store, org)
        payment = await payment_of(core, organization.organization_id, payment_id)
        lines = await history_of(core, organization.organization_id, payment.payment_id)
        return _document(payment) | {
            "times_asked": payment.times_asked,
            "next_look_at": payment.next_look_at,
            "history": [
                {
                    "at": line.at,
                    "event": line.event,
                    "from": line.before,
                    "to": line.after,
                    "source": line.source,
                    "code": line.code,
                    "note": line.note,
                }
                for line in lines
            ],
        }

    document = run(act)
    if as_json:
        emit(document, as_json=True)
        return
    history = document.pop("history")
    assert isinstance(history, list)
    emit(document, as_json=False)
    typer.echo()
    emit(history, as_json=False, columns=("at", "event", "from", "to", "source", "code", "note"))


@commands.command("review")
def review(org: OrgOption, as_json: JsonOption = False) -> None:
    """List what needs a person, longest waiting first: see `payment show`, then `payment resolve`."""

    async def act(core: "Core") -> list[dict[str, object]]:
        from mpesa_mcp.identity.organizations import organization_by_slug
        from mpesa_mcp.payments.desk import payments_to_review

        organization = await organization_by_slug(core.store, org)
        return [
            {
                "payment_id": item.payment.payment_id,
                "kind": item.payment.kind.value,
                "status": item.payment.status.value,
                "environment": item.payment.environment.value,
                "amount": str(item.payment.amount),
                "currency": "KES",
                "phone": item.payment.phone.masked,
                "why": item.why,
                "since": item.since,
                "last_code": item.last_code,
            }
            for item in await payments_to_review(core, organization.organization_id)
        ]

    columns = ("since", "payment_id", "kind", "status", "amount", "phone", "last_code", "why")
    found = run(act)
    emit(found, as_json=as_json, columns=columns)
    if found and not as_json:
        first = found[0]["payment_id"]
        say(
            "Find out what became of each, in the M-PESA portal or from whoever was to be paid or to pay; then say it, "
            "of the first one here with:\n"
            f'mpesa-mcp payment resolve {first} --org {org} --as succeeded|failed --reason "how you found out"'
        )


@commands.command("resolve")
def resolve(
    org: OrgOption,
    payment_id: IdArgument,
    decision: Annotated[Decision, typer.Option("--as", help="What became of it.")],
    reason: ReasonOption,
    receipt: Annotated[str | None, typer.Option(help="Its M-PESA receipt, where it succeeded and you know it.")] = None,
    now: Annotated[
        bool, typer.Option("--now", help="As failed, although Safaricom is still being asked about it.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Settle an unknown or disputed payment as you found it. A later contradiction makes it disputed again."""

    async def act(core: "Core") -> dict[str, object]:
        from mpesa_mcp.identity.organizations import organization_by_slug
        from mpesa_mcp.payments.desk import resolve_payment

        organization = await organization_by_slug(core.store, org)
        resolved = await resolve_payment(
            core,
            organization.organization_id,
            payment_id,
            succeeded=decision is Decision.SUCCEEDED,
            reason=reason,
            receipt=receipt,
            although_asked=now,
            actor=operator(),
        )
        return _document(resolved)

    emit(run(act), as_json=as_json)


@commands.command("withdraw")
def withdraw(org: OrgOption, payment_id: IdArgument, reason: ReasonOption, as_json: JsonOption = False) -> None:
    """Keep a queued payment from being sent."""

    async def act(core: "Core") -> dict[str, object]:
        from mpesa_mcp.identity.organizations import organization_by_slug
        from mpesa_mcp.payments.desk import withdraw_payment

        organization = await organization_by_slug(core.store, org)
        withdrawn = await withdraw_payment(
            core, organization.organization_id, payment_id, reason=reason, actor=operator()
        )
        return _document(withdrawn)

    emit(run(act), as_json=as_json)


def _document(payment: "PaymentRecord") -> dict[str, object]:
    return {
        "payment_id": payment.payment_id,
        "kind": payment.kind.value,
        "status": payment.status.value,
        "environment": payment.environment.value,
        "shortcode": payment.shortcode,
        "amount": str(payment.amount),
        "currency": "KES",
        "phone": payment.phone.masked,
        "reference": payment.reference,
        "receipt": payment.receipt,
        "result_code": payment.result_code,
        "reason": payment.reason,
        "reversed_payment_id": payment.reversed_payment_id,
        "untrusted_text": payment.untrusted_text,
        "created_by": payment.created_by,
        "created_at": payment.created_at,
        "updated_at": payment.updated_at,
    }
