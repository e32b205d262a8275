"""The tools that ask Safaricom: check_balance, transaction_status. They move nothing."""

from datetime import timedelta
from typing import Annotated, Any, Literal

from mcp.server.mcpserver import Context
from mcp.types import CallToolResult
from pydantic import BaseModel, Field

from mpesa_mcp.payments.records import InquiryRecord, InquiryStatus
from mpesa_mcp.tools.arguments import MaxAgeSeconds, Receipt, WaitSeconds
from mpesa_mcp.tools.caller import Me, progress_to
from mpesa_mcp.tools.results import UNTRUSTED, answer, eat_text, grouped, utc_text
from mpesa_mcp.values import Environment, Kes, Msisdn


class Account(BaseModel):
    """One account of the shortcode; amounts in KES. The charges account is normally negative."""

    name: str
    currency: str
    current: str
    available: str
    reserved: str
    uncleared: str


class BalanceResult(BaseModel):
    """The accounts of the organization's shortcode. Payouts are paid from the Utility Account."""

    inquiry_id: str
    status: Literal["answered", "pending", "failed", "expired"]
    final: bool
    environment: Environment
    shortcode: str
    accounts: list[Account]
    as_of: str | None = Field(description="When Safaricom said so.")
    reason: str | None
    next_step: str | None


class StatusResult(BaseModel):
    """What Safaricom says about one receipt."""

    inquiry_id: str
    status: Literal["answered", "pending", "failed", "expired"]
    final: bool
    environment: Environment
    receipt: str
    transaction_status: str | None = Field(description="Safaricom's word: only Completed means that money moved.")
    amount: str | None
    debit_party: str | None
    credit_party: str | None
    finalised_at: str | None
    reason: str | None
    next_step: str | None
    untrusted_text: str | None = Field(description=UNTRUSTED)


async def check_balance(
    me: Me, ctx: Context, max_age_seconds: MaxAgeSeconds = 60, wait_seconds: WaitSeconds = 30
) -> Annotated[CallToolResult, BalanceResult]:
    """Read the balances of the organization's M-PESA accounts.

    A balance younger than max_age_seconds is answered at once; otherwise Safaricom is asked. Example: max_age_seconds
    600 before planning several payouts. Payouts need money in the Utility Account. Not a list of payments: use
    list_payments.
    """
    from mpesa_mcp.payments.inquiries import ask_balance
    from mpesa_mcp.payments.reading import balances_of, wait_until_answered

    inquiry = await ask_balance(me.core, me.principal, max_age=timedelta(seconds=max_age_seconds))
    inquiry = await wait_until_answered(
        me.core,
        me.principal.organization_id,
        inquiry.inquiry_id,
        seconds=wait_seconds,
        progress=progress_to(ctx, wait_seconds, "Safaricom"),
    )
    accounts = [
        Account(
            name=held.account,
            currency=held.currency,
            current=str(held.current),
            available=str(held.available),
            reserved=str(held.reserved),
            uncleared=str(held.uncleared),
        )
        for held in await balances_of(me.core, me.principal.organization_id, inquiry.inquiry_id)
    ]
    said = "; ".join(f"{each.name} KES {grouped(each.available)} available" for each in accounts)
    structure = BalanceResult(
        shortcode=inquiry.shortcode,
        accounts=accounts,
        as_of=utc_text(inquiry.updated_at) if accounts else None,
        **_common(inquiry, "check_balance"),
    )
    return answer(
        structure,
        f"As of {eat_text(inquiry.updated_at)}: {said}."
        if said
        else _unanswered(structure.reason, structure.next_step),
    )


async def transaction_status(
    me: Me, ctx: Context, receipt: Receipt, wait_seconds: WaitSeconds = 30
) -> Annotated[CallToolResult, StatusResult]:
    """Ask Safaricom about any receipt of the organization's shortcode, also one not made here.

    Example: receipt UKN7Z8CJ88, when a customer shows one. Only transaction_status Completed means that money moved.
    For a payment made here use get_payment: it knows more and asks nobody.
    """
    from mpesa_mcp.payments.inquiries import ask_status
    from mpesa_mcp.payments.reading import wait_until_answered

    wanted = receipt.strip().upper()
    inquiry = await ask_status(me.core, me.principal, wanted)
    inquiry = await wait_until_answered(
        me.core,
        me.principal.organization_id,
        inquiry.inquiry_id,
        seconds=wait_seconds,
        progress=progress_to(ctx, wait_seconds, "Safaricom"),
    )
    said = inquiry.answer or {}
    cents = said.get("amount_cents")
    structure = StatusResult(
        receipt=wanted,
        transaction_status=said.get("transaction_status"),
        amount=str(Kes(cents)) if cents is not None else None,
        debit_party=_masked(said.get("debit_number")),
        credit_party=_masked(said.get("credit_number")),
        finalised_at=(said.get("finalised_at") or "").replace("+00:00", "Z") or None,
        untrusted_text=said.get("names"),
        **_common(inquiry, "transaction_status"),
    )
    if structure.transaction_status is None and inquiry.status is InquiryStatus.ANSWERED:
        unclear = f"Safaricom answered about {wanted} with a status that is not known here. Do not take it as paid."
        return answer(structure, unclear)
    if structure.transaction_status is None:
        return answer(structure, _unanswered(structure.reason, structure.next_step))
    amount = f" of KES {grouped(structure.amount)}" if structure.amount else ""
    return answer(structure, f"Safaricom says of {wanted}{amount}: {structure.transaction_status}.")


def _common(inquiry: InquiryRecord, tool: str) -> dict[str, Any]:
    waiting = not inquiry.status.is_final
    answered = inquiry.status is InquiryStatus.ANSWERED
    return {
        "inquiry_id": inquiry.inquiry_id,
        "status": "pending" if waiting else inquiry.status.value,
        "final": inquiry.status.is_final,
        "environment": inquiry.environment,
        "reason": None if answered else inquiry.reason,
        "next_step": f"Safaricom has not answered yet. Call {tool} again in a minute." if waiting else None,
    }


def _unanswered(reason: str | None, next_step: str | None) -> str:
    return " ".join(part for part in (reason, next_step) if part) or "Safaricom gave no answer."


def _masked(number: str | None) -> str | None:
    return Msisdn(number).masked if number and len(number) > 7 else number
