"""The kill switch, a parameter in SSM of the hub. Read for every change and never cached: it acts at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from portcullis.ports import Changes

if TYPE_CHECKING:
    from portcullis.ports import Journal

PERMISSIONS = ("ssm:GetParameter",)
"""The IAM actions that this module uses, with the function's own role."""


class SsmSwitch:
    """The Switch port over a parameter.

    Args:
        client: An SSM client of the hub.
        name: The parameter, whose value is one of ports.Changes.
        journal: Told why, when nothing may be changed since the parameter does not say so.
    """

    def __init__(self, client: Any, name: str, journal: Journal) -> None:
        self._client = client
        self._name = name
        self._journal = journal

    def position(self) -> Changes:
        """Read the switch. See ports.Switch."""
        try:
            value = self._client.get_parameter(Name=self._name)["Parameter"]["Value"]
            return Changes(value.strip())
        except (BotoCoreError, ClientError, ValueError) as error:
            # Whatever it is, also what elsewhere would be a bug: nobody has said that changes may go on.
            known = ", ".join(Changes)
            self._journal.problem("switch", f"no changes: {self._name} should be one of {known}, but: {error}")
            return Changes.STOPPED
