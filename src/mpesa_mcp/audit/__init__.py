"""The audit: who did what, to what, and whether it was allowed; one chain for each organization, one for the platform.

An entry is part of the transaction it tells about (`entries`). Right after the commit a sealer links it into the chain
(`sealing`), so that nobody waits for anybody; `verification` finds the first place where a chain is broken.
Entries and seals are added, never changed or removed: the database refuses both.
"""

from mpesa_mcp.audit.circumstances import Circumstances, circumstances, under
from mpesa_mcp.audit.entries import Decision, Plain, record
from mpesa_mcp.audit.models import AuditEntry, AuditSeal, AuditUnsealed

__all__ = [
    "AuditEntry",
    "AuditSeal",
    "AuditUnsealed",
    "Circumstances",
    "Decision",
    "Plain",
    "circumstances",
    "record",
    "under",
]
