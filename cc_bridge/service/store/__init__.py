"""What the service keeps: commands, tokens, sessions, webhooks, the audit log and titles."""

from __future__ import annotations

from .audit import Audit, AuditEntry
from .commands import Command, Commands, CommandState
from .errors import KeyReused, StoreUnavailable
from .sessions import SESSION_LIFE, Sessions
from .store import Store
from .titles import Titles
from .tokens import Token, Tokens
from .webhooks import Delivery, Outgoing, Webhook, Webhooks

__all__ = [
    "SESSION_LIFE",
    "Audit",
    "AuditEntry",
    "Command",
    "CommandState",
    "Commands",
    "Delivery",
    "KeyReused",
    "Outgoing",
    "Sessions",
    "Store",
    "StoreUnavailable",
    "Titles",
    "Token",
    "Tokens",
    "Webhook",
    "Webhooks",
]
