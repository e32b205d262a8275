"""The cookie of the console: names a person's login session, sealed, so that its holder can neither read nor make one.

It is good for a working day and nowhere but on the console's pages: it opens no API, and no bearer token opens a page.
What its person may do is read from the database at each request, as for an access token.
"""

import base64
import binascii
import json
from datetime import UTC, datetime, timedelta
from typing import Final

from mpesa_mcp.identity.access_tokens import AccessToken
from mpesa_mcp.identity.principal import Unauthenticated
from mpesa_mcp.store.keyring import Keyring
from mpesa_mcp.values import Clock, Secret
from mpesa_mcp.values.sealing import SealBroken

LIFE: Final = timedelta(hours=12)
_KEY: Final = "console_cookies"
_CONTEXT: Final = "cookie of the console"
_LONGEST: Final = 1024


async def make_cookie(
    keyring: Keyring, clock: Clock, *, organization_id: str, user_id: str, session_id: str, generation: int
) -> Secret:
    """What the browser keeps for the next LIFE."""
    ends = int((clock.now() + LIFE).timestamp())
    plain = json.dumps([organization_id, user_id, session_id, generation, ends]).encode()
    sealed = (await keyring.platform_key(_KEY)).seal(plain, _CONTEXT)
    return Secret(base64.urlsafe_b64encode(sealed).decode().rstrip("="))


async def read_cookie(keyring: Keyring, clock: Clock, presented: str) -> AccessToken:
    """Whom it names. Raises Unauthenticated, the same for every cause."""
    if len(presented) > _LONGEST:
        raise Unauthenticated
    key = await keyring.platform_key(_KEY)
    try:
        sealed = base64.b64decode(presented + "=" * (-len(presented) % 4), altchars=b"-_", validate=True)
        organization_id, user_id, session_id, generation, ends = json.loads(key.open(sealed, _CONTEXT))
    except (binascii.Error, ValueError, SealBroken) as broken:
        raise Unauthenticated from broken
    named = AccessToken(organization_id, user_id, session_id, generation, datetime.fromtimestamp(ends, UTC))
    if clock.now() >= named.expires_at:
        raise Unauthenticated
    return named


async def form_token(keyring: Keyring, of: str) -> str:
    """What a form of this login session carries, so that no other site can have it sent."""
    return (await keyring.platform_key("console_forms")).digest(of)
