"""What a scene is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.stage import Stage

Check = tuple[str, Any, Any]
"""What was looked at, what AWS shows, and what it should show."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene: ``act`` makes the calls that people make, and yields what AWS shows and should show meanwhile."""

    title: str
    tells: str
    act: Callable[[Stage], Iterator[Check]]
