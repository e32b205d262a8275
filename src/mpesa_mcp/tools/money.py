"""The tools that move money: stk_push, b2c_payment, reverse."""

from typing import Annotated

from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp.types import CallToolResult

from mpesa_mcp.daraja.operations import Purpose as PaymentPurpose
from mpesa_mcp.payments.requests import B2cRequest, PaymentRequest, ReversalRequest, StkPushRequest
from mpesa_mcp.tools.arguments import (
    B2cAmount,
    Description,
    IdempotencyKey,
    Occasion,
    OptionalKey,
    Phone,
    Purpose,
    Reason,
    Receipt,
    Reference,
    Remarks,
    StkAmount,
    WaitSeconds,
)
from mpesa_mcp.tools.caller import Caller, Me, given, progress_to
from mpesa_mcp.tools.confirming import Asked, Confirm, NotAsked, ask_user, is_confirmed
from mpesa_mcp.tools.results import PaymentResult, payment_answer
from mpesa_mcp.tools.waiting import in_vain
from mpesa_mcp.values import Kes, Msisdn

Answer = Annotated[CallToolResult, PaymentResult]


async def stk_push(
    me: Me,
    ctx: Context,
    phone: Phone,
    amount: StkAmount,
    reference: Reference,
    description: Description = "",
    idempotency_key: OptionalKey = "",
    wait_seconds: WaitSeconds = 45,
) -> Answer:
    """Collect money: prompts the owner of a phone to pay the organization, and waits for the result.

    Example: phone 0712345678, amount 1500, reference INV-1042. The customer enters a PIN on the phone, so it takes up
    to a minute. Not for paying somebody: use b2c_payment. Do not call it again while a prompt is open.
    """
    request = StkPushRequest(
        phone=Msisdn.parse(phone),
        amount=Kes.from_shillings(amount),
        reference=reference,
        description=description,
        idempotency_key=given(idempotency_key),
    )
    return await _open_and_wait(me, ctx, request, wait_seconds, "the customer")


def _payout(phone: str, amount: int, idempotency_key: str, remarks: str, purpose: str, occasion: str) -> B2cRequest:
    return B2cRequest(
        phone=Msisdn.parse(phone),
        amount=Kes.from_shillings(amount),
        remarks=remarks,
        purpose=PaymentPurpose(purpose),
        occasion=occasion,
        idempotency_key=idempotency_key,
    )


async def _about_payout(
    me: Me, ctx: Context, phone: str, amount: int, idempotency_key: str, remarks: str, purpose: str, occasion: str
) -> NotAsked | Elicit[Confirm]:
    return await ask_user(me, ctx, _payout(phone, amount, idempotency_key, remarks, purpose, occasion))


async def b2c_payment(
    me: Me,
    ctx: Context,
    answer: Annotated[Asked, Resolve(_about_payout)],
    phone: Phone,
    amount: B2cAmount,
    idempotency_key: IdempotencyKey,
    remarks: Remarks,
    purpose: Purpose = "business",
    occasion: Occasion = "",
    wait_seconds: WaitSeconds = 30,
) -> Answer:
    """Pay a person: sends money from the organization's utility account to a phone. It cannot be taken back.

    Example: phone 0712345678, amount 2500, idempotency_key supplier-77-november, remarks "Tomatoes, invoice 77".
    Use one idempotency_key for one payment and the same key when repeating. Not for refunds: use reverse.
    """
    request = _payout(phone, amount, idempotency_key, remarks, purpose, occasion)
    return await _open_and_wait(me, ctx, request, wait_seconds, "Safaricom", confirmed=is_confirmed(answer))


def _reversal(receipt: str, reason: str, idempotency_key: str) -> ReversalRequest:
    return ReversalRequest(receipt=receipt.strip().upper(), reason=reason, idempotency_key=idempotency_key)


async def _about_reversal(
    me: Me, ctx: Context, receipt: str, reason: str, idempotency_key: str
) -> NotAsked | Elicit[Confirm]:
    return await ask_user(me, ctx, _reversal(receipt, reason, idempotency_key))


async def reverse(
    me: Me,
    ctx: Context,
    answer: Annotated[Asked, Resolve(_about_reversal)],
    receipt: Receipt,
    reason: Reason,
    idempotency_key: IdempotencyKey,
    wait_seconds: WaitSeconds = 30,
) -> Answer:
    """Give a received payment back to the customer, whole, by its receipt.

    Example: receipt UKN7Z8CJ88, reason "Ordered twice", idempotency_key refund-UKN7Z8CJ88. Only payments collected with
    stk_push that succeeded; payouts cannot be reversed. The result is the reversal, a payment of its own.
    """
    request = _reversal(receipt, reason, idempotency_key)
    return await _open_and_wait(me, ctx, request, wait_seconds, "Safaricom", confirmed=is_confirmed(answer))


async def _open_and_wait(
    me: Caller,
    ctx: Context,
    request: PaymentRequest,
    wait_seconds: int,
    waiting_for: str,
    *,
    confirmed: bool = False,
) -> CallToolResult:
    from mpesa_mcp.payments.intake import open_payment
    from mpesa_mcp.payments.reading import wait_until_settled

    opened = await open_payment(me.core, me.principal, request, confirmed=confirmed)
    payment = await wait_until_settled(
        me.core, opened.payment, seconds=wait_seconds, progress=progress_to(ctx, wait_seconds, waiting_for)
    )
    vain = await in_vain(me, [payment.approval])
    return payment_answer(payment, me.core.settings, replayed=opened.replayed, in_vain=vain)
