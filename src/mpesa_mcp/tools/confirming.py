"""Asking the user in the chat, where the organization's rules want that and the client can show a question.

The SDK asks in the way of the client's protocol: by a request during the call, or by an answer that says what is asked,
whereupon the client calls again. There is no argument and no tool by which a model could confirm. Whoever cannot be
asked has the payment approved by a person instead.
"""

from typing import Any

from mcp.server.mcpserver import AcceptedElicitation, Context, Elicit, ElicitationResult
from pydantic import BaseModel, Field

from mpesa_mcp.errors import Advice, DeniedError
from mpesa_mcp.payments.requests import PaymentRequest, ReversalRequest
from mpesa_mcp.tools.caller import Caller
from mpesa_mcp.tools.results import grouped

_ASKED_BY_RESULT = "2026-07-28"


class Confirm(BaseModel):
    """The form that the user sees."""

    send: bool = Field(title="Send this money?", description="It cannot be taken back.")


class NotAsked(BaseModel):
    """Nothing had to be asked, or nobody could be."""


# What a tool is told: a form that was filled in, one that was declined, or that nobody was asked.
Asked = ElicitationResult[BaseModel]


class NotConfirmed(DeniedError):
    """The user was asked and did not say yes."""

    code = "not_confirmed"
    advice = Advice.ASK_A_PERSON

    def __init__(self) -> None:
        super().__init__(
            "The user did not confirm this payment. Nothing was stored and nothing was sent. Call this again only if "
            "the user asks for it."
        )


async def ask_user(me: Caller, ctx: Context[Any, Any], request: PaymentRequest) -> NotAsked | Elicit[Confirm]:
    """The question about this request, if there is one to ask and somebody to be asked."""
    if not _can_be_asked(ctx):
        return NotAsked()
    from mpesa_mcp.payments.confirming import to_be_confirmed

    paying = await to_be_confirmed(me.core, me.principal, request)
    if paying is None:
        return NotAsked()
    amount = f"KES {grouped(str(paying.amount))}"
    if isinstance(request, ReversalRequest):
        # The number is the customer's, and no model has seen it.
        return Elicit(f"Give {amount} back to {paying.phone.masked}, receipt {request.receipt}?", Confirm)
    return Elicit(f"Send {amount} to {paying.phone.digits}?", Confirm)


def is_confirmed(answer: Asked) -> bool:
    """Whether the user has said yes; False when nobody was asked. Raises NotConfirmed."""
    match answer:
        case AcceptedElicitation(data=NotAsked()):
            return False
        case AcceptedElicitation(data=Confirm(send=True)):
            return True
        case _:
            raise NotConfirmed


def _can_be_asked(ctx: Context[Any, Any]) -> bool:
    if ctx.protocol_version is None:  # no client at all: a call from within the program
        return False
    declared = ctx.client_capabilities
    asks = declared.elicitation if declared else None
    if asks is None or (asks.form is None and asks.url is not None):
        return False
    # The older protocol needs a stream back to the client; without sessions there is none.
    return ctx.protocol_version == _ASKED_BY_RESULT or ctx.session.can_send_request
