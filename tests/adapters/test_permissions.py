"""What IAM says of roles, and Systems Manager of hosts: refusals known as such, answers kept for a while."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.adapters.accounts import Role
from portcullis.adapters.permissions import RolePermissions
from portcullis.errors import NotAdmittedError, TransientError
from portcullis.model import Denial, Needs, Permissions

from tests.adapters.doubles import ACCOUNT, OTHER_ACCOUNT, OTHER_REGION, REGION, PreparedAccounts, SetClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.adapters.doubles import Script

GET, LIST = "s3:GetObject", "s3:ListAllMyBuckets"
ACTIONS = Needs(role_actions=frozenset({LIST, GET}))
POLICIES = Needs(role_policies=True)
WEB = {"web": f"arn:aws:iam::{ACCOUNT}:role/web"}
SETTING = "/ssm/managed-instance/default-ec2-instance-management-role"


def result(action: str, decision: str = "allowed", **more: Any) -> dict[str, Any]:
    """Return the simulator's verdict on an action."""
    return {"EvalActionName": action, "EvalDecision": decision, **more}


def by_scp(*, allowed: bool) -> dict[str, Any]:
    """Return what the simulator says of service control policies."""
    return {"OrganizationsDecisionDetail": {"AllowedByOrganizations": allowed}}


def by_boundary(*, allowed: bool) -> dict[str, Any]:
    """Return what the simulator says of the permissions boundary."""
    return {"PermissionsBoundaryDecisionDetail": {"AllowedByPermissionsBoundary": allowed}}


class Place:
    """A scripted IAM and Systems Manager."""

    def __init__(self, iam: Script, ssm: Script) -> None:
        self.iam = iam
        self.ssm = ssm
        self.clock = SetClock()
        self.accounts = PreparedAccounts(iam=iam.client, ssm=ssm.client)
        self.reader = RolePermissions(self.accounts, self.clock)

    def says(self, *results: dict[str, Any], **more: Any) -> None:
        """Expect a simulation, and answer it."""
        self.iam.expect("simulate_principal_policy", {"EvaluationResults": list(results), **more})

    def look(self, needs: Needs = ACTIONS, *names: str) -> dict[str, Permissions]:
        """Ask about roles, ``web`` if none is named."""
        roles = {name: f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in names or ("web",)}
        return self.reader.read(ACCOUNT, REGION, roles, needs)


@pytest.fixture
def place(script: Callable[[str], Script]) -> Place:
    """Return a scripted account."""
    return Place(script("iam"), script("ssm"))


# ---- The simulator -------------------------------------------------------------------------------------------------


def test_all_actions_are_asked_for_at_once_as_an_instance_calls_them(place: Place) -> None:
    """On every resource, from its Region and through TLS; to the last page."""
    request = {
        "PolicySourceArn": WEB["web"],
        "ActionNames": [GET, LIST],
        "ContextEntries": [
            {"ContextKeyName": "aws:RequestedRegion", "ContextKeyType": "string", "ContextKeyValues": [REGION]},
            {"ContextKeyName": "aws:SecureTransport", "ContextKeyType": "boolean", "ContextKeyValues": ["true"]},
        ],
        "MaxItems": 1000,
    }
    operation = "simulate_principal_policy"
    first = {"EvaluationResults": [result(GET)], "IsTruncated": True, "Marker": "m1"}
    place.iam.expect(operation, first, request)
    rest = {"EvaluationResults": [result(LIST, "implicitDeny")], "IsTruncated": False}
    place.iam.expect(operation, rest, {**request, "Marker": "m1"})

    assert place.look() == {"web": Permissions((Denial(LIST, "role"),))}
    assert place.accounts.asked == [("iam", ACCOUNT, REGION, Role.OBSERVER)]


@pytest.mark.parametrize(
    ("verdict", "by"),
    [
        (result(GET), None),
        (result(GET, **by_scp(allowed=True), **by_boundary(allowed=True)), None),
        (result(GET, "implicitDeny"), "role"),
        (result(GET, "implicitDeny", **by_scp(allowed=True), **by_boundary(allowed=True)), "role"),
        (result(GET, "explicitDeny"), "explicit"),
        (result(GET, "explicitDeny", **by_scp(allowed=True)), "explicit"),
        (result(GET, "implicitDeny", **by_scp(allowed=False)), "scp"),
        (result(GET, "explicitDeny", **by_scp(allowed=False)), "scp"),
        (result(GET, "explicitDeny", **by_scp(allowed=False), **by_boundary(allowed=False)), "scp"),
        (result(GET, "implicitDeny", **by_boundary(allowed=False)), "boundary"),
        (result(GET, "explicitDeny", **by_scp(allowed=True), **by_boundary(allowed=False)), "boundary"),
    ],
)
def test_a_denial_names_what_has_to_be_mended_first(place: Place, verdict: dict[str, Any], by: str | None) -> None:
    """The organisation before the boundary before the role's own policies."""
    place.says(result(LIST), verdict)

    assert place.look()["web"].denials == ((Denial(GET, by),) if by else ())


def test_what_the_simulator_was_not_told_is_collected(place: Place) -> None:
    """Each key once, of whichever action."""
    both = result(GET, MissingContextValues=["aws:SourceVpc", "aws:SourceIp"])
    place.says(both, result(LIST, MissingContextValues=["aws:SourceVpc"]))

    assert place.look()["web"] == Permissions(missing_context=("aws:SourceIp", "aws:SourceVpc"))


def test_actions_are_compared_whatever_their_letter_case(place: Place) -> None:
    """The answer may spell them its own way; the denial names them as the policy does."""
    place.says(result("s3:getobject", "implicitDeny"), result("S3:ListAllMyBuckets"))

    assert place.look()["web"].denials == (Denial(GET, "role"),)


def test_an_action_without_verdict_is_not_taken_for_allowed(place: Place) -> None:
    """What was not said is not known."""
    place.says(result(GET))

    assert place.look()["web"] == Permissions(unread=f"the simulator says nothing about {LIST}")


# ---- Attached policies ---------------------------------------------------------------------------------------------


def test_the_attached_policies_are_listed_by_name(place: Place) -> None:
    """In pages; the simulator is not asked."""
    request = {"RoleName": "web", "MaxItems": 1000}
    first = {"AttachedPolicies": [{"PolicyName": "b"}], "IsTruncated": True, "Marker": "m1"}
    place.iam.expect("list_attached_role_policies", first, request)
    rest = {"AttachedPolicies": [{"PolicyName": "a"}], "IsTruncated": False}
    place.iam.expect("list_attached_role_policies", rest, {**request, "Marker": "m1"})

    assert place.look(POLICIES) == {"web": Permissions(policy_names=("a", "b"))}


def test_both_are_asked_for_when_the_policy_uses_both(place: Place) -> None:
    """One scope may simulate, another one look for names."""
    place.says(result(GET), result(LIST))
    place.iam.expect("list_attached_role_policies", {"AttachedPolicies": [{"PolicyName": "a"}]})

    assert place.look(ACTIONS | POLICIES) == {"web": Permissions(policy_names=("a",))}


@pytest.mark.parametrize(("roles", "needs"), [({}, ACTIONS), (WEB, Needs(host_management=True))])
def test_without_roles_or_need_nothing_is_asked(place: Place, roles: dict[str, str], needs: Needs) -> None:
    """Not even for a client."""
    assert place.reader.read(ACCOUNT, REGION, roles, needs) == {}
    assert place.accounts.asked == []


# ---- How often -----------------------------------------------------------------------------------------------------


def test_a_role_is_asked_about_once_in_a_quarter_of_an_hour(place: Place) -> None:
    """After that its policies may have changed."""
    place.says(result(GET), result(LIST))
    assert place.look()["web"].denials == ()
    place.clock.time += timedelta(minutes=14)
    assert place.look()["web"].denials == ()

    place.clock.time += timedelta(minutes=1)
    place.says(result(GET, "implicitDeny"), result(LIST))
    assert place.look()["web"].denials == (Denial(GET, "role"),)


def test_another_account_region_or_need_is_another_question(place: Place) -> None:
    """Policies may depend on the Region, and other accounts have roles of the same name."""
    theirs = {"web": f"arn:aws:iam::{OTHER_ACCOUNT}:role/web"}
    for decision in ("allowed", "implicitDeny", "explicitDeny"):
        place.says(result(GET, decision), result(LIST))

    found = [
        place.reader.read(ACCOUNT, REGION, WEB, ACTIONS),
        place.reader.read(ACCOUNT, OTHER_REGION, WEB, ACTIONS),
        place.reader.read(OTHER_ACCOUNT, REGION, theirs, ACTIONS),
    ]

    assert [one["web"].denials for one in found] == [(), (Denial(GET, "role"),), (Denial(GET, "explicit"),)]
    place.iam.expect("list_attached_role_policies", {"AttachedPolicies": []})
    assert place.look(POLICIES) == {"web": Permissions()}


def test_what_was_said_before_an_interruption_is_kept(place: Place) -> None:
    """With many roles, the next look goes on where IAM stopped answering."""
    place.says(result(GET), result(LIST))
    place.iam.refuse("simulate_principal_policy", "Throttling")
    with pytest.raises(TransientError, match=f"^asking what roles of {ACCOUNT} allow: Throttling"):
        place.look(ACTIONS, "a", "b")

    place.says(result(GET), result(LIST))
    assert set(place.look(ACTIONS, "a", "b")) == {"a", "b"}
    assert [request["PolicySourceArn"][-1] for _, request in place.iam.requests] == ["a", "b", "b"]


# ---- What goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"), [("AccessDenied", 403), ("NoSuchEntity", 404), ("InvalidInput", 400), ("PolicyEvaluation", 500)]
)
def test_a_role_that_iam_does_not_speak_about_hides_no_other(place: Place, code: str, status: int) -> None:
    """Denied, gone, an action that does not exist, a policy that cannot be evaluated: it is not known, and says why."""
    place.iam.refuse("simulate_principal_policy", code, "no", status=status)
    place.says(result(GET), result(LIST))

    found = place.look(ACTIONS, "a", "b")

    assert found == {"a": Permissions(unread=f"SimulatePrincipalPolicy: {code}: no"), "b": Permissions()}


def test_policies_that_may_not_be_listed_are_not_no_policies(place: Place) -> None:
    """An empty list would say that they lack."""
    place.iam.refuse("list_attached_role_policies", "AccessDenied", "no", status=403)

    assert place.look(POLICIES)["web"].unread == "ListAttachedRolePolicies: AccessDenied: no"


@pytest.mark.parametrize("code", ["Throttling", "ServiceUnavailable", "ExpiredToken"])
def test_what_passes_by_itself_is_waited_for(place: Place, code: str) -> None:
    """It is not said to be unknown, and not kept."""
    place.iam.refuse("simulate_principal_policy", code)
    with pytest.raises(TransientError, match=code):
        place.look()

    place.says(result(GET), result(LIST))
    assert place.look() == {"web": Permissions()}


def test_an_account_that_does_not_admit_us_is_told_apart(place: Place) -> None:
    """The kind of the error survives."""
    place.accounts.clients["iam"] = NotAdmittedError("the role cannot be assumed")

    with pytest.raises(NotAdmittedError):
        place.look()


# ---- Default Host Management ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"SettingValue": "AWSSystemsManagerDefaultEC2InstanceManagementRole"}, True),
        ({"SettingValue": "service-role/ours"}, True),
        ({"SettingValue": "$None"}, False),
        ({}, False),
    ],
)
def test_host_management_is_on_when_a_role_is_set(place: Place, setting: dict[str, Any], *, expected: bool) -> None:
    """Systems Manager writes ``$None`` where there is none."""
    place.ssm.expect("get_service_setting", {"ServiceSetting": setting}, {"SettingId": SETTING})

    assert place.reader.host_management(ACCOUNT, REGION) is expected
    assert place.accounts.asked == [("ssm", ACCOUNT, REGION, Role.OBSERVER)]


@pytest.mark.parametrize(
    ("code", "expected"),
    [("ServiceSettingNotFound", False), ("AccessDeniedException", None)],
)
def test_a_setting_that_may_not_be_read_is_not_known(place: Place, code: str, *, expected: bool | None) -> None:
    """Where the setting does not exist, nothing is managed; where it is hidden, nobody knows."""
    place.ssm.refuse("get_service_setting", code, Message="no")

    assert place.reader.host_management(ACCOUNT, REGION) is expected


def test_systems_manager_is_waited_for(place: Place) -> None:
    """Throttling passes."""
    place.ssm.refuse("get_service_setting", "ThrottlingException", Message="no")

    with pytest.raises(TransientError, match=f"^asking for Default Host Management of {ACCOUNT} {REGION}: Thrott"):
        place.reader.host_management(ACCOUNT, REGION)
