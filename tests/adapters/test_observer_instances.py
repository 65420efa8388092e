"""What is read of instances: their state, who manages them, and the profile that holds, from its association."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from portcullis.adapters.accounts import Role
from portcullis.adapters.observer import Ec2Observer
from portcullis.errors import ObservationError, TransientError
from portcullis.model import Instance, InstanceProfile, Needs, Scope

from tests.adapters.doubles import ACCOUNT, HOME_REGION, REGION, PreparedAccounts, SetClock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from portcullis.adapters.accounts import Accounts

    from tests.adapters.doubles import Script

PROFILE = "portcullis-default"
NEEDS = Needs(profiles=frozenset({PROFILE}))
TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
CREATED = "2026-03-02T09:14:05Z"


def some(*instance_ids: str) -> Scope:
    """Return a scope of some instances."""
    return Scope(ACCOUNT, REGION, instance_ids=frozenset(instance_ids))


def arn(name: str, path: str = "/") -> str:
    """Return the ARN of an instance profile."""
    return f"arn:aws:iam::{ACCOUNT}:instance-profile{path}{name}"


def instance(instance_id: str, state: str = "running", **more: Any) -> dict[str, Any]:
    """Return an instance as DescribeInstances lists it."""
    return {"InstanceId": instance_id, "State": {"Name": state}, "VpcId": "vpc-1", **more}


def association(instance_id: str, profile: str, state: str = "associated") -> dict[str, Any]:
    """Return an association of an instance with a profile's ARN."""
    return {
        "AssociationId": f"iip-assoc-{instance_id}",
        "InstanceId": instance_id,
        "IamInstanceProfile": {"Arn": profile},
        "State": state,
    }


def profile(name: str, *roles: str, path: str = "/") -> dict[str, Any]:
    """Return an instance profile as IAM lists it."""
    return {
        "Path": path,
        "InstanceProfileName": name,
        "InstanceProfileId": "AIPAIOSFODNN7EXAMPLE",
        "Arn": arn(name, path),
        "CreateDate": CREATED,
        "Roles": [
            {
                "Path": "/",
                "RoleName": role,
                "RoleId": "AROAIOSFODNN7EXAMPLE",
                "Arn": f"arn:aws:iam::{ACCOUNT}:role/{role}",
                "CreateDate": CREATED,
            }
            for role in roles
        ],
    }


def held(name: str, role: str, path: str = "/") -> InstanceProfile:
    """Return a profile that holds a role, as it is seen."""
    return InstanceProfile(name, arn(name, path), (role,), f"arn:aws:iam::{ACCOUNT}:role/{role}")


class Place:
    """A scripted EC2 and IAM with some instances."""

    def __init__(self, ec2: Script, iam: Script) -> None:
        self.ec2 = ec2
        self.iam = iam
        self.accounts = PreparedAccounts(ec2=ec2.client, iam=iam.client)
        self.observer = Ec2Observer(self.accounts, HOME_REGION, SetClock())

    def holds(self, instances: Sequence[dict[str, Any]], associations: Sequence[dict[str, Any]] = ()) -> None:
        """Expect one look at instances and associations, one page each."""
        self.ec2.expect("describe_instances", {"Reservations": [{"Instances": [item]} for item in instances]})
        self.ec2.expect(
            "describe_iam_instance_profile_associations", {"IamInstanceProfileAssociations": list(associations)}
        )

    def knows(self, found: dict[str, Any]) -> None:
        """Expect a profile to be asked for by name, and answer it."""
        request = {"InstanceProfileName": found["InstanceProfileName"]}
        self.iam.expect("get_instance_profile", {"InstanceProfile": found}, request)

    def lacks(self) -> None:
        """Expect a profile to be asked for that does not exist."""
        self.iam.refuse("get_instance_profile", "NoSuchEntity", "Instance Profile cannot be found.", status=404)

    def look(self, *instance_ids: str) -> dict[str, Instance]:
        """Observe some instances."""
        return dict(self.observer.observe(some(*instance_ids), NEEDS).instances)


@pytest.fixture
def place(script: Callable[[str], Script]) -> Place:
    """Return a scripted account and Region."""
    return Place(script("ec2"), script("iam"))


# ---- Against moto --------------------------------------------------------------------------------------------------


class Member:
    """Somebody who works in the member account."""

    def __init__(self, member: Callable[..., Any]) -> None:
        self.ec2 = member("ec2", ACCOUNT)
        self.iam = member("iam", ACCOUNT)

    def make_profile(self, name: str, *roles: str, path: str = "/") -> str:
        """Make an instance profile that holds roles; returns its ARN."""
        made = self.iam.create_instance_profile(InstanceProfileName=name, Path=path)["InstanceProfile"]["Arn"]
        for role in roles:
            self.iam.create_role(RoleName=role, AssumeRolePolicyDocument=TRUST)
            self.iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=role)
        return str(made)

    def launch(self, **more: Any) -> str:
        """Launch an instance; returns its id."""
        launched = self.ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, **more)
        return str(launched["Instances"][0]["InstanceId"])


@pytest.fixture
def people(member: Callable[..., Any]) -> Member:
    """Return somebody in the member account."""
    return Member(member)


def test_instances_are_seen_with_and_without_profiles(accounts: Accounts, people: Member) -> None:
    """One with a profile and its role, one without and with tags; the default profile, as one lacks any."""
    web = people.make_profile("web", "web-role", path="/teams/shop/")
    people.make_profile(PROFILE, PROFILE)
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "shop"}]}]
    having = people.launch(IamInstanceProfile={"Arn": web})
    lacking = people.launch(TagSpecifications=tags)

    seen = Ec2Observer(accounts, HOME_REGION, SetClock()).observe(some(having, lacking), NEEDS)

    assert seen.instances[having].profile == held("web", "web-role", "/teams/shop/")
    assert seen.instances[lacking].profile is None
    assert seen.instances[lacking].tags == {"team": "shop"}
    assert seen.instances[lacking].state == "running"
    assert seen.instances[lacking].vpc_id
    assert seen.profiles == {PROFILE: held(PROFILE, PROFILE)}
    (listed,) = people.ec2.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
    assert seen.instances[having].association_id == listed["AssociationId"]
    assert seen.instances[lacking].association_id == ""
    assert seen.vpcs == {}


def test_an_instance_that_is_terminated_or_unknown_is_gone(accounts: Accounts, people: Member) -> None:
    """EC2 lists a terminated instance for another hour; it is gone all the same."""
    kept, ended = people.launch(), people.launch()
    people.ec2.terminate_instances(InstanceIds=[ended])

    seen = Ec2Observer(accounts, HOME_REGION, SetClock()).observe(some(kept, ended, "i-0123456789abcdef0"), NEEDS)

    assert set(seen.instances) == {kept}


def test_a_replaced_profile_is_seen_at_once(accounts: Accounts, people: Member) -> None:
    """Right after a replacement DescribeInstances may name the old profile; the association tells the new one."""
    instance_id = people.launch(IamInstanceProfile={"Arn": people.make_profile("old", "old-role")})
    new = people.make_profile("new", "new-role")
    (listed,) = people.ec2.describe_iam_instance_profile_associations()["IamInstanceProfileAssociations"]
    people.ec2.replace_iam_instance_profile_association(
        AssociationId=listed["AssociationId"], IamInstanceProfile={"Arn": new}
    )

    seen = Ec2Observer(accounts, HOME_REGION, SetClock()).observe(some(instance_id), NEEDS)

    assert seen.instances[instance_id].profile == held("new", "new-role")


def test_a_sweep_sees_every_instance(accounts: Accounts, people: Member) -> None:
    """All that live, in all VPCs, beside the VPCs themselves."""
    launched = {people.launch() for _ in range(3)}

    seen = Ec2Observer(accounts, HOME_REGION, SetClock()).observe(Scope(ACCOUNT, REGION, everything=True), NEEDS)

    assert set(seen.instances) == launched
    assert seen.vpcs


# ---- Pages and filters ---------------------------------------------------------------------------------------------


def test_every_page_of_instances_is_read_and_managed_ones_are_asked_for(place: Place) -> None:
    """Pages of 1,000, by filter; IncludeManagedResources, as an account may hide managed instances."""
    named = {"Filters": [{"Name": "instance-id", "Values": ["i-1", "i-2"]}], "MaxResults": 1000}
    managed = {**named, "IncludeManagedResources": True}
    first, second = ({"Reservations": [{"Instances": [instance(name)]}]} for name in ("i-1", "i-2"))
    place.ec2.expect("describe_instances", {**first, "NextToken": "n1"}, managed)
    place.ec2.expect("describe_instances", second, {**managed, "NextToken": "n1"})
    name, key = "describe_iam_instance_profile_associations", "IamInstanceProfileAssociations"
    place.ec2.expect(name, {key: [association("i-1", arn("web"))], "NextToken": "a1"}, named)
    place.ec2.expect(name, {key: [association("i-2", arn("web"))]}, {**named, "NextToken": "a1"})
    place.knows(profile("web", "web-role"))

    seen = place.look("i-1", "i-2")

    assert {each.profile for each in seen.values()} == {held("web", "web-role")}


def test_a_boto3_that_is_older_than_the_parameter_is_not_given_it(place: Place) -> None:
    """The runtime brings its own boto3, which may not know IncludeManagedResources yet and would refuse it."""
    shape = place.ec2.client.meta.service_model.operation_model("DescribeInstances").input_shape
    shape.members.pop("IncludeManagedResources")
    request = {"Filters": [{"Name": "instance-id", "Values": ["i-1"]}], "MaxResults": 1000}
    place.ec2.expect("describe_instances", {"Reservations": [{"Instances": [instance("i-1")]}]}, request)
    place.ec2.expect("describe_iam_instance_profile_associations", {"IamInstanceProfileAssociations": []})
    place.lacks()

    assert set(place.look("i-1")) == {"i-1"}


def test_a_sweep_filters_nothing(place: Place) -> None:
    """Everything is asked for without a filter, as pages."""
    place.ec2.expect("describe_route_tables", {"RouteTables": []})
    place.ec2.expect("describe_vpc_endpoints", {"VpcEndpoints": []})
    place.ec2.expect("describe_vpcs", {"Vpcs": []})
    request = {"MaxResults": 1000, "IncludeManagedResources": True}
    place.ec2.expect("describe_instances", {"Reservations": []}, request)
    none: dict[str, Any] = {"IamInstanceProfileAssociations": []}
    place.ec2.expect("describe_iam_instance_profile_associations", none, {"MaxResults": 1000})

    seen = place.observer.observe(Scope(ACCOUNT, REGION, everything=True), NEEDS)

    assert seen.instances == {}
    assert place.iam.calls == []


def test_reservations_hold_several_instances(place: Place) -> None:
    """A reservation is one launch, of any number of instances."""
    place.ec2.expect(
        "describe_instances",
        {"Reservations": [{"Instances": [instance("i-1"), instance("i-2")]}, {"Instances": [instance("i-3")]}]},
    )
    place.ec2.expect("describe_iam_instance_profile_associations", {"IamInstanceProfileAssociations": []})
    place.lacks()

    assert set(place.look("i-1", "i-2", "i-3")) == {"i-1", "i-2", "i-3"}


def test_reads_use_the_observer_role(place: Place) -> None:
    """EC2 and IAM are both read with credentials that can only look."""
    place.holds([])

    place.look("i-1")

    assert set(place.accounts.asked) == {(service, ACCOUNT, REGION, Role.OBSERVER) for service in ("ec2", "iam")}


# ---- What is made of the answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "lives"),
    [
        ("pending", True),
        ("running", True),
        ("stopping", True),
        ("stopped", True),
        ("shutting-down", False),
        ("terminated", False),
    ],
)
def test_instances_that_end_are_left_out(place: Place, state: str, *, lives: bool) -> None:
    """What is shutting down cannot be mended, and needs no finding."""
    place.holds([instance("i-1", state)])
    if lives:
        place.lacks()

    assert [each.state for each in place.look("i-1").values()] == ([state] if lives else [])


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ({"Managed": True, "Principal": "eks.amazonaws.com"}, "eks.amazonaws.com"),
        ({"Managed": True}, "an AWS service"),
        ({"Managed": False, "Principal": "eks.amazonaws.com"}, None),
        ({}, None),
    ],
)
def test_an_instance_that_a_service_operates_names_it(
    place: Place, operator: dict[str, Any], expected: str | None
) -> None:
    """The operator is named only while it really manages the instance."""
    place.holds([instance("i-1", Operator=operator)])
    place.lacks()

    assert place.look("i-1")["i-1"].operator == expected


def test_an_instance_without_vpc_or_tags_is_seen(place: Place) -> None:
    """Both may be absent from the answer."""
    bare = {"InstanceId": "i-1", "State": {"Name": "pending"}}
    place.holds([bare])
    place.lacks()

    assert place.look("i-1") == {"i-1": Instance("i-1", "pending")}


@pytest.mark.parametrize(
    ("state", "counts"),
    [("associating", True), ("associated", True), ("disassociating", False), ("disassociated", False)],
)
def test_only_live_associations_give_a_profile(place: Place, state: str, *, counts: bool) -> None:
    """A profile that is being taken away is none."""
    place.holds([instance("i-1")], [association("i-1", arn("web"), state)])
    if counts:
        place.knows(profile("web", "web-role"))
    else:
        place.lacks()

    expected = held("web", "web-role") if counts else None
    seen = place.look("i-1")["i-1"]
    assert seen.profile == expected
    assert seen.association_id == ("iip-assoc-i-1" if counts else "")


def test_the_association_outranks_the_instance_s_own_word(place: Place) -> None:
    """While a profile is replaced, the old association ends, the new one begins, and the instance may lag."""
    lagging = instance("i-1", IamInstanceProfile={"Arn": arn("old")})
    place.holds([lagging], [association("i-1", arn("new")), association("i-1", arn("old"), "disassociating")])
    place.knows(profile("new", "new-role"))

    assert place.look("i-1")["i-1"].profile == held("new", "new-role")


def test_without_an_association_the_instance_s_own_word_counts(place: Place) -> None:
    """A launch may name its profile before the association is listed."""
    place.holds([instance("i-1", "pending", IamInstanceProfile={"Arn": arn("web")})])
    place.knows(profile("web", "web-role"))

    assert place.look("i-1")["i-1"].profile == held("web", "web-role")


# ---- Profiles ------------------------------------------------------------------------------------------------------


def test_a_profile_s_path_is_not_part_of_its_name(place: Place) -> None:
    """IAM is asked by name; the ARN holds the path before it."""
    path = "/teams/shop/"
    place.holds([instance("i-1")], [association("i-1", arn("web", path))])
    place.knows(profile("web", "web-role", path=path))

    assert place.look("i-1")["i-1"].profile == held("web", "web-role", path)


def test_a_profile_without_role_holds_none(place: Place) -> None:
    """A profile may hold no role; the instance then has a profile and no credentials."""
    place.holds([instance("i-1")], [association("i-1", arn("empty"))])
    place.knows(profile("empty"))

    assert place.look("i-1")["i-1"].profile == InstanceProfile("empty", arn("empty"))


def test_a_profile_that_was_deleted_holds_none(place: Place) -> None:
    """An instance goes on naming a deleted profile: it has one that gives nothing, and is never given another."""
    place.holds([instance("i-1")], [association("i-1", arn("gone", "/a/"))])
    place.lacks()

    assert place.look("i-1")["i-1"].profile == InstanceProfile("gone", arn("gone", "/a/"))


def test_a_few_profiles_are_asked_for_one_by_one(place: Place) -> None:
    """Up to five different ones cost a call each, however many instances share them."""
    names = [f"profile-{n}" for n in range(5)]
    instances = [f"i-{n}" for n in range(20)]
    place.holds(
        [instance(each) for each in instances],
        [association(each, arn(names[n % 5])) for n, each in enumerate(instances)],
    )
    for name in names:
        # They are asked for in the order of a set, so this answer may meet another's request.
        place.iam.expect("get_instance_profile", {"InstanceProfile": profile(name, "any-role")})

    seen = place.look(*instances)

    assert sorted(request["InstanceProfileName"] for _, request in place.iam.requests) == names
    assert all(each.profile and each.profile.role_names == ("any-role",) for each in seen.values())


def test_many_profiles_are_listed_in_pages(place: Place) -> None:
    """More than five different ones are looked up in the pages of all profiles; one that is gone holds no role."""
    names = [f"profile-{n}" for n in range(6)]
    instances = [f"i-{n}" for n in range(6)]
    place.holds(
        [instance(each) for each in instances],
        [association(each, arn(name)) for each, name in zip(instances, names, strict=True)],
    )
    listed = [profile(name, f"{name}-role") for name in names[:5]]
    strange = profile("strange", "strange-role")
    first = {"InstanceProfiles": [strange, *listed[:2]], "IsTruncated": True, "Marker": "m1"}
    place.iam.expect("list_instance_profiles", first, {"MaxItems": 1000})
    rest = {"InstanceProfiles": listed[2:], "IsTruncated": False}
    place.iam.expect("list_instance_profiles", rest, {"MaxItems": 1000, "Marker": "m1"})

    seen = place.look(*instances)

    assert [seen[each].profile for each in instances] == [
        *(held(name, f"{name}-role") for name in names[:5]),
        InstanceProfile("profile-5", arn("profile-5")),
    ]


def test_the_profiles_to_give_are_looked_up_only_when_an_instance_lacks_one(place: Place) -> None:
    """Where every instance has a profile, none is asked for."""
    place.holds([instance("i-1")], [association("i-1", arn("web"))])
    place.knows(profile("web", "web-role"))

    seen = place.observer.observe(some("i-1"), Needs(frozenset({PROFILE, "company-default"})))

    assert seen.profiles == {}
    assert place.iam.calls == ["GetInstanceProfile"]


def test_the_profiles_to_give_are_those_that_the_caller_names_and_the_account_has(place: Place) -> None:
    """Each is asked for by its name, in order; one that the account lacks is left out."""
    place.holds([instance("i-1")])
    place.knows(profile("company-default", "company-role"))
    place.lacks()
    place.knows(profile("team-default"))

    names = frozenset({"team-default", "company-default", "gone-default"})
    seen = place.observer.observe(some("i-1"), Needs(profiles=names))

    assert seen.profiles == {
        "company-default": held("company-default", "company-role"),
        "team-default": InstanceProfile("team-default", arn("team-default")),
    }
    asked = [request["InstanceProfileName"] for _, request in place.iam.requests]
    assert asked == ["company-default", "gone-default", "team-default"]


# ---- What goes wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"), [("AccessDenied", ObservationError), ("Throttling", TransientError)], ids=["denied", "slow"]
)
def test_a_profile_that_cannot_be_read_is_not_taken_for_a_missing_one(
    place: Place, code: str, expected: type[Exception]
) -> None:
    """Only NoSuchEntity means gone; anything else ends the look."""
    place.holds([instance("i-1")], [association("i-1", arn("web"))])
    place.iam.refuse("get_instance_profile", code)

    with pytest.raises(expected, match=f"^observing {ACCOUNT} {REGION}: {code}"):
        place.look("i-1")


@pytest.mark.parametrize("operation", ["describe_instances", "describe_iam_instance_profile_associations"])
def test_a_refused_read_fails_closed(place: Place, operation: str) -> None:
    """Without the instances or their associations there is no snapshot."""
    if operation != "describe_instances":
        place.ec2.expect("describe_instances", {"Reservations": [{"Instances": [instance("i-1")]}]})
    place.ec2.refuse(operation, "UnauthorizedOperation", status=403)

    with pytest.raises(ObservationError, match="UnauthorizedOperation"):
        place.look("i-1")
