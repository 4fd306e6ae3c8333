"""Many instances in one program: attended, fed to any number of readers, within a budget."""

from .feed import FeedPosition, Heard
from .fleet import Fleet

__all__ = ["FeedPosition", "Fleet", "Heard"]
