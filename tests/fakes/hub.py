"""Security Hub of all accounts and Regions."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from portcullis.errors import SecurityHubOffError, TransientError
from portcullis.ports import Rejection

from tests.fakes import asff

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from tests.fakes.calls import Calls
    from tests.fakes.names import PlaceKey


class FakeSecurityHub:
    """Security Hub of all accounts and Regions: the FindingSink port."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls
        self.findings: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.imported: list[dict[str, Any]] = []
        self.ignored: list[dict[str, Any]] = []
        self.switched_off: set[PlaceKey] = set()
        self._refusals: deque[str | None] = deque()

    def refuse(self, *codes: str | None) -> None:
        """Plan the error codes for the next findings, one each; None for a finding that is taken."""
        self._refusals.extend(codes)

    def stop_trouble(self) -> None:
        """Forget what was planned."""
        self._refusals.clear()

    def is_enabled(self, account_id: str, region: str) -> bool:
        """Tell whether Security Hub is on. See ports.FindingSink."""
        with self.calls.making("is_enabled"):
            return (account_id, region) not in self.switched_off

    def suppressed(self, account_id: str, region: str, finding_ids: Collection[str]) -> frozenset[str]:
        """Return which findings are suppressed. See ports.FindingSink."""
        with self.calls.making("suppressed"):
            if (account_id, region) in self.switched_off:
                raise SecurityHubOffError(f"Security Hub is switched off in {account_id} {region}")
            found = {name: self.findings.get((account_id, region, name)) for name in finding_ids}
            return frozenset(
                n for n, finding in found.items() if finding and finding["Workflow"]["Status"] == "SUPPRESSED"
            )

    def note(self, account_id: str, region: str, finding_id: str, text: str) -> None:
        """Replace a note. See ports.FindingSink."""
        with self.calls.making("note"):
            if (account_id, region, finding_id) not in self.findings:
                raise TransientError(f"there is no finding {finding_id}")
            self.findings[account_id, region, finding_id]["Note"] = {"Text": text}

    def import_findings(self, account_id: str, region: str, findings: Sequence[dict[str, Any]]) -> list[Rejection]:
        """Import findings; none costs no call. See ports.FindingSink."""
        if not findings:
            return []
        with self.calls.making("import"):
            if (account_id, region) in self.switched_off:
                raise SecurityHubOffError(f"Security Hub is switched off in {account_id} {region}")
            rejections = []
            for finding in findings:
                code = self._refusals.popleft() if self._refusals else None
                assert not (faults := asff.faults(finding)), faults
                if code is None:
                    self._take(account_id, region, finding)
                else:
                    transient = code in ("InternalException", "LimitExceededException")
                    rejections.append(Rejection(finding["Id"], code, "as planned", transient))
            return rejections

    def _take(self, account_id: str, region: str, finding: dict[str, Any]) -> None:
        """Keep a finding as Security Hub does: nothing that is not newer, and never the analyst's fields."""
        key = (account_id, region, finding["Id"])
        old = self.findings.get(key)
        if old and finding["UpdatedAt"] <= old["UpdatedAt"]:
            self.ignored.append(finding)
            return
        workflow = old["Workflow"]["Status"] if old else "NEW"
        reopened = old and (
            (old["RecordState"], finding["RecordState"]) == ("ARCHIVED", "ACTIVE")
            or (old["Compliance"]["Status"], finding["Compliance"]["Status"]) == ("PASSED", "FAILED")
        )
        if reopened and workflow in ("NOTIFIED", "RESOLVED"):
            workflow = "NEW"
        kept = {"Workflow": {"Status": workflow}} | ({"Note": old["Note"]} if old and "Note" in old else {})
        self.findings[key] = {**finding, **kept}
        self.imported.append(finding)

    def analyst_sets(self, finding_id: str, *, workflow: str, note: str) -> None:
        """Update a finding as a person does in the console."""
        for key, finding in self.findings.items():
            if key[2] == finding_id:
                finding.update({"Workflow": {"Status": workflow}, "Note": {"Text": note}})

    def find(self, resource_id: str, control_id: str) -> dict[str, Any] | None:
        """Return the finding about a resource, or None. Ids are unique in this world."""
        for (_, _, finding_id), finding in self.findings.items():
            if finding_id.endswith(f"/{resource_id}") and f"/{control_id}/" in finding_id:
                return finding
        return None

    def state(self, resource_id: str, control_id: str) -> str | None:
        """Return FAILED, PASSED or ARCHIVED, or None when there is no finding."""
        finding = self.find(resource_id, control_id)
        if finding is None:
            return None
        return "ARCHIVED" if finding["RecordState"] == "ARCHIVED" else str(finding["Compliance"]["Status"])
