"""What a process is doing when it dies. After the crash the client, or the person, asks for the same once more."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from mpesa_mcp.billing.terms import seats_of
from mpesa_mcp.identity.models import User
from mpesa_mcp.identity.principal import Actor
from mpesa_mcp.identity.users import add_user
from mpesa_mcp.payments.adoption import adopt_receipts
from mpesa_mcp.payments.approving import approve, decline
from mpesa_mcp.payments.batches.control import cancel_batch, pause_batch, resume_batch
from mpesa_mcp.payments.batches.retrying import retry_batch
from mpesa_mcp.payments.batches.rows import GivenRow
from mpesa_mcp.payments.batches.submission import BatchRequest, submit_batch
from mpesa_mcp.payments.desk import resolve_payment, withdraw_payment
from mpesa_mcp.payments.inquiries import ask_balance, ask_status
from mpesa_mcp.payments.models import Payment
from mpesa_mcp.payments.requests import B2cRequest, ReversalRequest, StkPushRequest
from mpesa_mcp.payments.states import PaymentKind, PaymentStatus
from mpesa_mcp.policy.approvals import Approval
from mpesa_mcp.values import Environment, Kes, Msisdn, Role

from .scene import Scene, Until

Act = Callable[[Scene], Awaitable[None]]
Decision = Callable[..., Awaitable[object]]


async def _nothing(_: Scene) -> None:
    return


@dataclass(frozen=True)
class Story:
    """`prepare` comes before the process can die, `act` again after each crash; `waits` passes before work begins."""

    act: Act
    prepare: Act = _nothing
    waits: timedelta = timedelta(0)


def push(last_two: int, *, keyed: bool = True) -> Act:
    """A push to a phone whose last two digits say what happens."""

    async def act(scene: Scene) -> None:
        await scene.open(
            StkPushRequest(
                phone=Msisdn(f"2547000000{last_two:02}"),
                amount=Kes.from_shillings(100),
                reference="INV-1",
                idempotency_key="push-1" if keyed else None,
            )
        )

    return act


def payout(last_two: int, *, shillings: int = 100) -> Act:
    async def act(scene: Scene) -> None:
        phone, amount = Msisdn(f"2547000000{last_two:02}"), Kes.from_shillings(shillings)
        await scene.open(B2cRequest(phone=phone, amount=amount, remarks="Salary", idempotency_key="payout-1"))

    return act


async def reversal(scene: Scene) -> None:
    receipt = await _receipt(scene)
    await scene.open(ReversalRequest(receipt=receipt, reason="Paid twice", idempotency_key="reversal-1"))


async def balance(scene: Scene) -> None:
    asked = await ask_balance(scene.core, scene.principal, max_age=timedelta(hours=1))
    scene.answers.append({"inquiry_id": asked.inquiry_id})


async def status(scene: Scene) -> None:
    asked = await ask_status(scene.core, scene.principal, await _receipt(scene))
    scene.answers.append({"inquiry_id": asked.inquiry_id})


async def resolve(scene: Scene) -> None:
    [payment] = await scene.payments()
    person = {"reason": "asked the customer", "actor": "operator:tester"}
    await scene.decide(resolve_payment, payment.id, succeeded=False, receipt=None, although_asked=True, **person)


async def withdraw(scene: Scene) -> None:
    await payout(0)(scene)
    payment_id = scene.answers[-1]["payment_id"]
    await scene.decide(withdraw_payment, payment_id, reason="not wanted", actor="operator:tester")


async def _an_approver(scene: Scene) -> None:
    core, organization_id = scene.core, scene.principal.organization_id
    async with core.store.session(organization_id) as session:
        await add_user(
            session,
            core.clock,
            email="jane@acme.example",
            role=Role.ORG_ADMIN,
            password_hash="-",
            actor="operator:tester",
            seats=seats_of,
        )


async def _decide(scene: Scene, decision: Callable[..., Awaitable[object]], **more: str) -> None:
    """A payout that needs a person, and what the person says."""
    await payout(0, shillings=20_000)(scene)
    [approval], [user] = await scene.rows(Approval), await scene.rows(User)
    actor = Actor(f"user:{user.id}", Role.ORG_ADMIN, user.id, is_person=True)
    await scene.decide(decision, approval.id, actor=actor, **more)


async def approved(scene: Scene) -> None:
    await _decide(scene, approve)


async def declined(scene: Scene) -> None:
    await _decide(scene, decline, reason="not wanted")


def batch(last_two: int, *decisions: Decision) -> Act:
    """A batch of one row, and what is decided about it at once."""

    async def act(scene: Scene) -> None:
        row = GivenRow(1, f"2547000000{last_two:02}", 100, "SAL-1", "Salary")
        request = BatchRequest(name="Salaries", rows=[row], idempotency_key="batch-1")
        opened = await submit_batch(scene.core, scene.principal, request)
        scene.answers.append({"batch_id": opened.batch.batch_id})
        for decide in decisions:
            await scene.decide(decide, opened.batch.batch_id, actor="operator:tester")

    return act


async def adopt(scene: Scene) -> None:
    [payment], [movement] = await scene.payments(), await scene.ledger()
    receipts = {payment.id: movement["receipt"]}
    await scene.decide(adopt_receipts, Environment.SIMULATOR, receipts, actor="operator:tester")


async def _receipt(scene: Scene) -> str:
    [receipt] = [payment.receipt for payment in await scene.payments() if payment.kind == PaymentKind.STK_PUSH]
    assert receipt is not None
    return receipt


def _in_order(*acts: Act) -> Act:
    async def act(scene: Scene) -> None:
        for each in acts:
            await each(scene)

    return act


def _worked(until: Until | None = None) -> Act:
    return lambda scene: scene.work(until)


def _worked_without_leaps(until: Until) -> Act:
    return lambda scene: scene.work(until, leaping=False)


def _after_a_fault(operation: str, act: Act, **fault: object) -> Act:
    async def prepare(scene: Scene) -> None:
        await scene.fault(operation=operation, **fault)
        await act(scene)

    return prepare


async def _token_is_replaced(scene: Scene) -> None:
    """Somebody else uses the same app: the token that was fetched before is dead."""
    answer = await scene.simulator.get(
        "/oauth/v1/generate?grant_type=client_credentials", auth=("simulator-key", "simulator-secret")
    )
    assert answer.status_code == 200


def _leap(seconds: float) -> Act:
    async def act(scene: Scene) -> None:
        scene.clock.ahead += timedelta(seconds=seconds)

    return act


def _is(*statuses: PaymentStatus) -> Until:
    return lambda payment: payment.status in statuses


def _was_turned_away(payment: Payment) -> bool:
    """Refused by a rate limit once, or never to be sent any more."""
    return payment.kind == PaymentKind.B2C and (payment.not_sent_count > 0 or payment.status != PaymentStatus.QUEUED)


_received = _in_order(push(1), _worked())
STORIES: Mapping[str, Story] = {
    "push": Story(push(0)),
    "push without a key": Story(push(0, keyed=False)),
    "push that fails": Story(push(81)),
    "push without its callback": Story(push(84)),
    "push called back before the answer": Story(push(87)),
    "push with a forgery": Story(push(89)),
    "push without an answer": Story(push(92)),
    "push that is decided slowly": Story(push(96)),
    "push that is turned away": Story(push(95)),
    "push that waited too long": Story(push(0), waits=timedelta(minutes=3)),
    "payout": Story(payout(0)),
    "payout that fails": Story(payout(81)),
    "payout without its callback": Story(payout(84)),
    "payout called back thrice": Story(payout(86)),
    "payout called back before the answer": Story(payout(87)),
    "payout without an answer": Story(payout(92)),
    "payout that times out": Story(payout(93)),
    "payout that is turned away": Story(payout(95)),
    "payout to be confirmed": Story(payout(0, shillings=10_000)),
    "payout that is approved": Story(approved, prepare=_an_approver),
    "payout that is declined": Story(declined, prepare=_an_approver),
    "payout that nobody approves": Story(payout(0, shillings=20_000)),
    "payout with a dead token": Story(payout(0), prepare=_in_order(_received, _token_is_replaced)),
    "reversal": Story(reversal, prepare=_received),
    "balance": Story(balance),
    "balance with a dead token": Story(balance, prepare=_in_order(_received, _token_is_replaced)),
    "balance without an answer": Story(balance, prepare=_after_a_fault("balance", _nothing, drop=True)),
    "status": Story(status, prepare=_received),
    "question about a balance during a pause": Story(
        _in_order(payout(95), _worked(_was_turned_away), balance),
    ),
    "question about a push during a pause": Story(
        # The question is due in half a second, and must find the pause.
        _in_order(payout(95), _worked_without_leaps(_was_turned_away)),
        prepare=_in_order(push(84), _worked(_is(PaymentStatus.PENDING)), _leap(14.5)),
    ),
    "resolve": Story(
        resolve,
        prepare=_after_a_fault("stk_push", _in_order(push(0), _worked(_is(PaymentStatus.UNKNOWN))), drop=True),
    ),
    "withdraw": Story(withdraw),
    "batch": Story(batch(0)),
    "batch that is paused for a while": Story(batch(0, pause_batch, resume_batch)),
    "batch that is cancelled": Story(batch(0, cancel_batch)),
    "batch that is tried again": Story(batch(81, retry_batch), prepare=_in_order(batch(81), _worked())),
    "adopt": Story(adopt, prepare=_in_order(push(84), _worked())),
}
