"""What an action is."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from portcullis.model import Made, Resource

_SHOWN = 4
_TO_REGION = re.compile(r"^.*?\.[a-z]+(-[a-z]+)+-[0-9]+\.|^(cn\.)?com\.amazonaws\.")


def listed(names: Sequence[str], shown: int = _SHOWN) -> str:
    """List names for people, the first few of many."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"


def short_name(service_name: str) -> str:
    """Return what follows the Region in the name of an endpoint service (``ecr.api``).

    Of a global one of AWS (that of IAM) it is what follows ``amazonaws``; of any other, the whole name.
    """
    return _TO_REGION.sub("", service_name)


@dataclass(frozen=True, slots=True)
class Action(ABC):
    """A change as a value: it can be written down, read again, compared with what is there, and turned around.

    ``takes_back``: it only removes something of ours. Such a change counts against no limit, and cannot be undone.
    """

    control_id: str

    takes_back: ClassVar[bool] = False

    @abstractmethod
    def __str__(self) -> str:
        """Say what will be done, as a phrase after 'will'."""

    @abstractmethod
    def made_in(self, resource: Resource | None, change_id: str) -> str | None:
        """Tell from what is there whether it was performed: what it made or changed, or None.

        ``change_id`` is how something is known to be what this very change created. With a resource that is gone
        (None), what was to be taken off it is gone, too.
        """

    def inverse(self, made: str, before: Mapping[str, Any], resource: Resource | None) -> Action | None:
        """Return the action that undoes this one, which made (or changed) ``made``; None when nothing can.

        Args:
            made: The id.
            before: What ``before`` returned when it was performed.
            resource: What is there now.
        """
        return None

    def essence(self) -> Action:
        """Return what matters of it, where the rest may take too long."""
        return self

    def before(self, resource: Resource | None) -> dict[str, Any]:
        """Return, as JSON values for the ledger, what it is about to change."""
        return {}

    def expected(self, resource: Resource | None) -> dict[str, Any]:
        """Return what it will have left where AWS does not tell; see model.Outcome."""
        return {}

    def own(self, known: Made | None, left: Made) -> Made | None:
        """Return what is ours of what it made or changed, once it is performed; None when nothing is.

        Args:
            known: What was known as ours of the same thing before.
            left: The change that this is, and how it left the thing.
        """
        return None if self.takes_back else left
