"""Many instances in one program: attended, fed to any number of readers, asked at one desk, within a budget."""

from .accounts import Accounts, Budget, TokenUsage
from .desk import AllowAlways, AllowForSession, Desk, Policy
from .feed import FeedPosition, Heard
from .fleet import Fleet
from .permission_watch import Asked, Decided, DeskEvent, Missed, Moot, OpenRequest
from .states import Changes, InstanceState
from .template import Template

__all__ = [
    "Accounts",
    "AllowAlways",
    "AllowForSession",
    "Asked",
    "Budget",
    "Changes",
    "Decided",
    "Desk",
    "DeskEvent",
    "FeedPosition",
    "Fleet",
    "Heard",
    "InstanceState",
    "Missed",
    "Moot",
    "OpenRequest",
    "Policy",
    "Template",
    "TokenUsage",
]
