"""The arguments of tools: types with bounds, and for each one sentence that says what is accepted.

The same sentence is what the model reads in the schema and what it is told when the argument is refused.
Numbers are strict: true, "5.0" and 1.5 are no amounts.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

Phone = Annotated[
    str,
    StringConstraints(min_length=1, max_length=30),
    Field(description="A Kenyan mobile number as people write it, for example 0712345678 or +254712345678."),
]
StkAmount = Annotated[
    int, Field(strict=True, ge=1, le=250_000, description="Whole Kenya shillings, a number from 1 to 250000.")
]
B2cAmount = Annotated[
    int, Field(strict=True, ge=10, le=250_000, description="Whole Kenya shillings, a number from 10 to 250000.")
]
Reference = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9 -]{1,12}$"),
    Field(
        description="What is being paid, 1 to 12 letters, digits, spaces or dashes, for example INV-1042. "
        "The payer sees it."
    ),
]
Description = Annotated[
    str, StringConstraints(max_length=13), Field(description="Optional, at most 13 characters, for your own records.")
]
Remarks = Annotated[
    str,
    StringConstraints(min_length=2, max_length=100),
    Field(description="Why it is paid, 2 to 100 characters on one line."),
]
Reason = Annotated[
    str,
    StringConstraints(min_length=2, max_length=100),
    Field(description="Why it is given back, 2 to 100 characters on one line."),
]
Occasion = Annotated[
    str, StringConstraints(max_length=100), Field(description="Optional, at most 100 characters on one line.")
]
Purpose = Annotated[
    Literal["business", "salary", "promotion"],
    Field(description="One of business, salary or promotion; the payee's message depends on it."),
]
IdempotencyKey = Annotated[
    str,
    StringConstraints(pattern=r"^[!-~]{1,64}$"),
    Field(
        description="Names this one payment, 1 to 64 characters without spaces, for example invoice-1042. Repeat it to "
        "ask about the same payment; use a new one only for a new payment."
    ),
]
BatchKey = Annotated[
    str,
    StringConstraints(pattern=r"^[!-~]{1,64}$"),
    Field(
        description="Names this one batch, 1 to 64 characters without spaces, for example salaries-november. Repeat it "
        "to ask about the same batch; use a new one only for a new batch."
    ),
]
OptionalKey = Annotated[
    str,
    StringConstraints(pattern=r"^[!-~]{0,64}$"),
    Field(
        description="Optional name of this one request, at most 64 characters without spaces. Without it, the same "
        "phone, amount and reference within two minutes, or until settled, is the same request."
    ),
]
Receipt = Annotated[
    str,
    StringConstraints(pattern=r"^\s*[A-Za-z0-9]{8,12}\s*$"),
    Field(description="An M-PESA receipt, 10 letters and digits, for example UKN7Z8CJ88."),
]
AnyId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=80, pattern=r"^\s*[!-~]+\s*$"),
    Field(
        description="A payment id (pay_...), an M-PESA receipt, a CheckoutRequestID or ConversationID, "
        "or the idempotency_key of the payment."
    ),
]
WaitSeconds = Annotated[
    int,
    Field(strict=True, ge=0, le=55, description="How long to wait for the final result, a number from 0 to 55."),
]
MaxAgeSeconds = Annotated[
    int,
    Field(strict=True, ge=0, le=86_400, description="How old a known balance may be, a number from 0 to 86400."),
]
Day = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$"),
    Field(description="A day in Nairobi, written YYYY-MM-DD."),
]
OptionalDay = Annotated[
    str,
    StringConstraints(pattern=r"^(\d{4}-\d{2}-\d{2})?$"),
    Field(description="Optional: a day in Nairobi, written YYYY-MM-DD."),
]
GroupBy = Annotated[
    Literal["day", "week", "month", "kind", "status", "reference"],
    Field(description="One of day, week, month, kind, status or reference."),
]
KindFilter = Annotated[
    Literal["", "stk_push", "b2c", "reversal"],
    Field(description="Optional: stk_push, b2c or reversal only."),
]
StatusFilter = Annotated[
    Literal[
        "",
        "awaiting_approval",
        "queued",
        "sending",
        "pending",
        "unknown",
        "succeeded",
        "failed",
        "declined",
        "expired",
        "disputed",
        "reversed",
    ],
    Field(description="Optional: payments in this one status only, for example succeeded, failed or unknown."),
]
ApprovalStatusFilter = Annotated[
    Literal["", "pending", "approved", "declined", "expired", "void"],
    Field(description="Approvals in this one status, for example pending; empty for all of them."),
]
ReferenceFilter = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9 -]{0,12}$"),
    Field(description="Optional: payments with this reference only, at most 12 letters, digits, spaces or dashes."),
]
PhoneFilter = Annotated[
    str,
    StringConstraints(max_length=30),
    Field(description="Optional: payments of this Kenyan mobile number only, for example 0712345678."),
]
Limit = Annotated[
    int, Field(strict=True, ge=1, le=100, description="How many to list at most, a number from 1 to 100.")
]
Cursor = Annotated[
    str,
    StringConstraints(pattern=r"^(pay_[a-z0-9]{26})?$"),
    Field(description="Optional: next_cursor of the page before."),
]
