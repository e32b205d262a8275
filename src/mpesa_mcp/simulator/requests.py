"""Reading the requests: the fields of each operation, in the order in which Daraja complains about them.

Daraja names the first bad field and no other (daraja/api.md §17 for the rules, codes.md §6 for 400.002.02). Numbers
are taken as JSON numbers or as strings; `true`, 1.0 and "1.50" are no amounts (quirk 60).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

# daraja/security.md §3. Anywhere in the URL, in any case.
FORBIDDEN_WORDS = ("m-pesa", "mpesa", "safaricom", "exe", "exec", "cmd", "sql", "query")
MAX_URL = 2048
MAX_SECRET = 4096

Fields = Mapping[str, str]


class InvalidField(Exception):
    """`field` is missing or not what Daraja takes."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


@dataclass(frozen=True, slots=True)
class Field:
    """`spellings` are other names the wire accepts for the same field."""

    name: str
    accepts: Callable[[str], bool]
    optional: bool = False
    spellings: tuple[str, ...] = ()

    def read(self, body: Mapping[str, object]) -> str:
        """Raises InvalidField."""
        value = next((body[name] for name in (self.name, *self.spellings) if name in body), None)
        if self.optional and value in (None, ""):
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise InvalidField(self.name)
        text = str(value)
        if not self.accepts(text):
            raise InvalidField(self.name)
        return text


def read(fields: tuple[Field, ...], body: Mapping[str, object]) -> Fields:
    """Raises InvalidField naming the first bad one."""
    return {field.name: field.read(body) for field in fields}


def matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def one_of(*values: str) -> Callable[[str], bool]:
    return lambda text: text in values


def length(least: int, most: int) -> Callable[[str], bool]:
    return lambda text: least <= len(text.strip()) and len(text) <= most and text.isprintable()


def shillings(least: int, most: int) -> Callable[[str], bool]:
    return lambda text: re.fullmatch(r"[0-9]{1,9}", text) is not None and least <= int(text) <= most


def is_timestamp(text: str) -> bool:
    """yyyyMMddHHmmss, a moment that exists."""
    if re.fullmatch(r"[0-9]{14}", text) is None:
        return False
    try:
        datetime.strptime(text, "%Y%m%d%H%M%S")  # noqa: DTZ007 - only its form is asked about
    except ValueError:
        return False
    return True


def is_callback_url(text: str) -> bool:
    """An absolute http(s) URL without Safaricom's forbidden words. Loopback is welcome here, unlike at Safaricom."""
    lowered = text.lower()
    if len(text) > MAX_URL or not text.isprintable() or " " in text:
        return False
    if any(word in lowered for word in FORBIDDEN_WORDS):
        return False
    try:
        parts = urlsplit(text)
        port_is_real = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port_is_real


is_shortcode = matches(r"[0-9]{5,7}")
is_phone = matches(r"254[17][0-9]{8}")
is_secret = length(1, MAX_SECRET)
is_id = length(1, 128)
is_remark = length(2, 100)
is_occasion = length(1, 100)

_STK_CREDENTIALS = (
    Field("BusinessShortCode", is_shortcode),
    Field("Password", is_secret),
    Field("Timestamp", is_timestamp),
)
STK_PUSH = (
    *_STK_CREDENTIALS,
    Field("TransactionType", one_of("CustomerPayBillOnline", "CustomerBuyGoodsOnline")),
    Field("Amount", shillings(1, 250_000)),
    Field("PartyA", is_phone),
    Field("PartyB", is_shortcode),
    Field("PhoneNumber", is_phone),
    Field("CallBackURL", is_callback_url),
    Field("AccountReference", length(1, 12)),
    Field("TransactionDesc", length(1, 13), optional=True),
)
STK_QUERY = (*_STK_CREDENTIALS, Field("CheckoutRequestID", is_id))

_RESULT_URLS = (Field("QueueTimeOutURL", is_callback_url), Field("ResultURL", is_callback_url))
_INITIATOR = (Field("Initiator", is_id), Field("SecurityCredential", is_secret))
# InitiatorName before OriginatorConversationID: it is the one named when the body could not be read (quirk 58).
B2C = (
    Field("InitiatorName", is_id),
    Field("OriginatorConversationID", is_id),
    Field("SecurityCredential", is_secret),
    Field("CommandID", one_of("SalaryPayment", "BusinessPayment", "PromotionPayment")),
    Field("Amount", shillings(10, 250_000)),
    Field("PartyA", is_shortcode),
    Field("PartyB", is_phone),
    Field("Remarks", is_remark),
    *_RESULT_URLS,
    Field("Occassion", is_occasion, optional=True, spellings=("Occasion", "occassion")),
)
BALANCE = (
    *_INITIATOR,
    Field("CommandID", one_of("AccountBalance")),
    Field("PartyA", is_shortcode),
    Field("IdentifierType", one_of("4", "2")),
    Field("Remarks", is_remark),
    *_RESULT_URLS,
)
STATUS = (
    *_INITIATOR,
    Field("CommandID", one_of("TransactionStatusQuery")),
    Field("TransactionID", is_id, optional=True),
    Field("OriginalConversationID", is_id, optional=True),
    Field("PartyA", is_shortcode),
    Field("IdentifierType", one_of("4", "2", "1")),
    Field("Remarks", is_remark),
    *_RESULT_URLS,
    Field("Occasion", is_occasion, optional=True, spellings=("Occassion",)),
)
REVERSAL = (
    *_INITIATOR,
    Field("CommandID", one_of("TransactionReversal")),
    Field("TransactionID", matches(r"[A-Z0-9]{10}")),
    Field("Amount", shillings(1, 250_000)),
    Field("ReceiverParty", is_shortcode),
    Field("RecieverIdentifierType", one_of("11")),  # sic: the correct spelling is refused (quirk 31)
    Field("Remarks", is_remark),
    *_RESULT_URLS,
    Field("Occasion", is_occasion, optional=True, spellings=("Occassion",)),
)
