"""Values every room shares: money, phone numbers, ids, time, sealed secrets, foreign text.

They import nothing of ours but `errors`, hold no connection and read no setting.
"""

from mpesa_mcp.values.clock import EAT, Clock, FrozenClock, SystemClock, eat_day_bounds, eat_today
from mpesa_mcp.values.environment import MEMBER_ROLES, Environment, Role, ShortcodeType
from mpesa_mcp.values.ids import new_id, random_hex, sha256_hex
from mpesa_mcp.values.money import Kes
from mpesa_mcp.values.msisdn import InvalidMsisdn, Msisdn
from mpesa_mcp.values.secret import Secret
from mpesa_mcp.values.text import clean_foreign_text

__all__ = [
    "EAT",
    "MEMBER_ROLES",
    "Clock",
    "Environment",
    "FrozenClock",
    "InvalidMsisdn",
    "Kes",
    "Msisdn",
    "Role",
    "Secret",
    "ShortcodeType",
    "SystemClock",
    "clean_foreign_text",
    "eat_day_bounds",
    "eat_today",
    "new_id",
    "random_hex",
    "sha256_hex",
]
