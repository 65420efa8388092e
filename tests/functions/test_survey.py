"""The survey function, end to end: what a sweep begins with, and what it ends with."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from portcullis import bootstrap
from portcullis.errors import ObservationError, PortcullisError, TransientError

from tests.functions.conftest import ACCOUNT, HUB_ACCOUNT, REGION, forget

if TYPE_CHECKING:
    from collections.abc import Callable

    import boto3

    from tests.functions.conftest import Function, Hub, Output

# Where nothing was counted, Powertools warns; see the last test.
pytestmark = pytest.mark.filterwarnings("ignore:No application metrics to publish")

LIST = {"step": "list", "sweep_id": "s-1", "after": ""}
REPORT = {"step": "report", "sweep_id": "s-1"}
OTHER_REGION = "eu-west-1"
NEEDED = (
    "PARTITION",
    "TABLE_NAME",
    "HUB_ACCOUNT_ID",
    "TARGET_ORGANIZATIONAL_UNIT_IDS",
    "GOVERNED_REGIONS",
    "ADDITIONAL_ACCOUNT_IDS",
)


@dataclass
class Organisation:
    """An organisation in moto: two units, one below the other, and an account outside of both."""

    client: Any
    securityhub: Any
    unit: str
    upper: str
    lower: str
    suspended: str
    outside: str

    def findings(self) -> dict[str, dict[str, Any]]:
        """Return the findings in the hub by the place they are about."""
        return {item["Id"].rsplit(":", 1)[-1]: item for item in self.securityhub.get_findings()["Findings"]}


@pytest.fixture
def organisation(hub: Hub, session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> Organisation:  # noqa: ARG001 - inside moto
    """Make an organisation, and govern its upper unit."""
    client: Any = session.client("organizations")
    client.create_organization(FeatureSet="ALL")
    root = client.list_roots()["Roots"][0]["Id"]
    upper_unit = client.create_organizational_unit(ParentId=root, Name="upper")["OrganizationalUnit"]["Id"]
    lower_unit = client.create_organizational_unit(ParentId=upper_unit, Name="lower")["OrganizationalUnit"]["Id"]

    def account(name: str, unit: str) -> str:
        status = client.create_account(AccountName=name, Email=f"{name}@example.com")["CreateAccountStatus"]
        account_id = str(status["AccountId"])
        client.move_account(AccountId=account_id, SourceParentId=root, DestinationParentId=unit)
        return account_id

    upper, lower, suspended = (
        account("upper", upper_unit), account("lower", lower_unit), account("suspended", lower_unit))  # fmt: skip
    client.close_account(AccountId=suspended)
    securityhub: Any = session.client("securityhub")
    securityhub.enable_security_hub()
    monkeypatch.setenv("TARGET_ORGANIZATIONAL_UNIT_IDS", upper_unit)
    return Organisation(client, securityhub, upper_unit, upper, lower, suspended, account("outside", root))


@pytest.fixture
def survey(survey: Function, organisation: Organisation, monkeypatch: pytest.MonkeyPatch) -> Function:
    """Return the survey function with the template's environment, but for the unit."""
    monkeypatch.setenv("TARGET_ORGANIZATIONAL_UNIT_IDS", organisation.unit)
    return survey


def items(*account_ids: str, regions: tuple[str, ...] = (REGION,)) -> list[dict[str, str]]:
    """Return what a list should hold."""
    return [{"account_id": account_id, "region": region} for account_id in sorted(account_ids) for region in regions]


def test_active_accounts_below_the_units_are_listed(organisation: Organisation, survey: Function) -> None:
    """At any depth, suspended ones not, others not; without additional accounts the variable is empty."""
    assert survey(LIST) == {"items": items(organisation.upper, organisation.lower), "after": ""}


def test_the_next_page_begins_after_the_last(organisation: Organisation, survey: Function) -> None:
    """The state machine passes ``after`` on as it got it."""
    first, second = sorted((organisation.upper, organisation.lower))
    assert survey(LIST | {"after": f"{first}/{REGION}"}) == {"items": items(second), "after": ""}


@pytest.mark.parametrize(
    ("additional", "regions", "more", "governed"),
    [
        ("", REGION, (), (REGION,)),
        (" ", f"{REGION},", (), (REGION,)),
        (HUB_ACCOUNT, f"{REGION},{OTHER_REGION}", (HUB_ACCOUNT,), (REGION, OTHER_REGION)),
        (f"{HUB_ACCOUNT}, {ACCOUNT},", f" {REGION} , {OTHER_REGION}", (HUB_ACCOUNT, ACCOUNT), (REGION, OTHER_REGION)),
    ],
)
def test_the_environment_says_what_is_governed(
    organisation: Organisation, survey: Function, monkeypatch: pytest.MonkeyPatch,
    *, additional: str, regions: str, more: tuple[str, ...], governed: tuple[str, ...],
) -> None:  # fmt: skip
    """Lists with commas, as CloudFormation joins them; an empty one names nobody, not an account without a name."""
    monkeypatch.setenv("ADDITIONAL_ACCOUNT_IDS", additional)
    monkeypatch.setenv("GOVERNED_REGIONS", regions)

    assert survey(LIST)["items"] == items(organisation.upper, organisation.lower, *more, regions=governed)


def test_the_template_gives_all_variables(hub: Hub) -> None:
    """By default nobody is added."""
    environment = hub.environment("SurveyFunction")
    assert set(NEEDED) <= set(environment)
    assert environment["ADDITIONAL_ACCOUNT_IDS"] == ""
    assert environment["HUB_ACCOUNT_ID"] == HUB_ACCOUNT


def backdate(hub: Hub) -> None:
    """Let everything that is known be known since long ago."""
    for record in hub.records():
        key = {"pk": {"S": record["pk"]}, "sk": {"S": record["sk"]}}
        update = {"UpdateExpression": "SET since = :since", "ExpressionAttributeValues": {":since": {"S": OLD}}}
        hub.dynamodb.update_item(TableName=hub.table_name, Key=key, **update)


OLD = "2026-01-01T00:00:00+00:00"


def test_who_does_not_take_part_is_reported_in_the_hub(
    hub: Hub, organisation: Organisation, survey: Function, output: Callable[[], Output]
) -> None:
    """New accounts have their time; then each is a finding in the hub, with a line and a metric."""
    survey(LIST)
    assert survey(REPORT) == {"account_regions": 2, "states": {"new": 2}}
    assert organisation.findings() == {}
    backdate(hub)
    output()

    assert survey(REPORT) == {"account_regions": 2, "states": {"absent": 2}}

    found = organisation.findings()
    assert set(found) == {f"{account_id}/{REGION}" for account_id in (organisation.upper, organisation.lower)}
    for finding in found.values():
        assert (finding["AwsAccountId"], finding["Compliance"]["Status"]) == (HUB_ACCOUNT, "FAILED")
        assert finding["ProductArn"].endswith(f":{REGION}:{HUB_ACCOUNT}:product/{HUB_ACCOUNT}/default")
        assert finding["GeneratorId"] == "portcullis/COVERAGE.1"
    written = output()
    assert written.counts == {"Surveys": 1, "ProblemUncovered": 2, "Filed": 2, "Surveyed": 1}
    assert written.steps("surveyed")[0]["states"] == {"absent": 2}
    assert {line["level"] for line in written.steps("uncovered")} == {"WARNING"}


def test_the_management_account_gets_its_own_advice(
    hub: Hub, organisation: Organisation, survey: Function, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS Organizations says which it is."""
    monkeypatch.setenv("ADDITIONAL_ACCOUNT_IDS", HUB_ACCOUNT)  # moto's organisation is that of the hub
    survey(LIST)
    backdate(hub)

    survey(REPORT)

    advice = {
        place: "by hand" in finding["Remediation"]["Recommendation"]["Text"]
        for place, finding in organisation.findings().items()
    }
    assert advice == {f"{a}/{REGION}": a == HUB_ACCOUNT for a in (organisation.upper, organisation.lower, HUB_ACCOUNT)}


def test_a_whole_sweep(
    organisation: Organisation, survey: Function, sweep: Function, member: Callable[..., Any],
) -> None:  # fmt: skip
    """List, look, report, as the state machine does: who was seen is fine, though no heartbeat came yet."""
    for account_id in (organisation.upper, organisation.lower):
        member("securityhub", account_id).enable_security_hub()

    listed = survey(LIST)["items"]
    assert [sweep(item | {"sweep_id": "s-1"}) for item in listed] == [{"problem": None}] * 2

    assert survey(REPORT) == {"account_regions": 2, "states": {"ok": 2}}
    assert organisation.findings() == {}


REFUSED_FINDING = {"Id": "portcullis/COVERAGE.1/x", "ErrorCode": "InvalidInput", "ErrorMessage": "no"}


@pytest.mark.parametrize(
    ("answer", "error", "told"),
    [
        (("securityhub.BatchImportFindings", 403, '{"__type": "AccessDeniedException", "Message": "no"}'),
            ObservationError, "filing findings in 123456789012"),
        (("securityhub.BatchImportFindings", 503, ""), TransientError, "filing findings in 123456789012"),
        (("dynamodb.Query", 400, '{"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "x"}'),
            TransientError, "the findings table: ThrottlingException"),
        (("organizations.DescribeOrganization", 400, '{"__type": "AccessDeniedException", "Message": "no"}'),
            TransientError, "describing the organisation: AccessDeniedException"),
    ],
    ids=["hub denies", "hub fails", "table throttles", "organisation denies"],
)  # fmt: skip
def test_a_report_that_cannot_be_made_fails(
    hub: Hub, organisation: Organisation, survey: Function, refuse: Callable[..., None],
    *, answer: tuple[str, int, str], error: type[Exception], told: str,
) -> None:  # fmt: skip
    """The invocation fails, the state machine tries again and fails: silence about silence would be worst."""
    survey(LIST)
    backdate(hub)
    forget()
    refuse(*answer)

    with pytest.raises(error, match=told):
        survey(REPORT)

    assert organisation.findings() == {}


def test_a_single_finding_that_is_refused_fails_the_report(
    hub: Hub, organisation: Organisation, survey: Function, refuse: Callable[..., None]
) -> None:
    """An HTTP success is none: the refusal stands in the answer."""
    survey(LIST)
    backdate(hub)
    forget()
    place = f"{organisation.upper}/{REGION}"
    refused = REFUSED_FINDING | {"Id": f"portcullis/COVERAGE.1/AWS::::Account:{place}"}
    body = json.dumps({"FailedCount": 1, "SuccessCount": 1, "FailedFindings": [refused]})
    refuse("securityhub.BatchImportFindings", 200, body)

    with pytest.raises(PortcullisError, match=rf"Security Hub refused .*{place}: InvalidInput no"):
        survey(REPORT)


def test_a_list_that_cannot_be_made_fails(
    hub: Hub, organisation: Organisation, survey: Function, refuse: Callable[..., None]
) -> None:
    """Organizations does not answer: nobody is forgotten, and the state machine tries again."""
    survey(LIST)
    before = hub.records()
    forget()
    refuse("organizations.ListAccountsForParent", 400, '{"__type": "TooManyRequestsException", "Message": "slow"}')

    with pytest.raises(TransientError, match="listing the accounts of the organisation"):
        survey(LIST)

    assert hub.records() == before
    assert organisation.findings() == {}


@pytest.mark.parametrize("name", [*NEEDED, "AWS_REGION"])
@pytest.mark.usefixtures("organisation")
def test_a_missing_variable_is_named(survey: Function, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """An empty one is fine where nobody has to be named; one that is not there is a fault of the deployment."""
    monkeypatch.delenv(name)

    with pytest.raises(PortcullisError, match=rf"^the environment variable {name} is not set; template\.yaml sets it$"):
        survey(LIST)


@pytest.mark.usefixtures("organisation")
def test_the_function_is_wired_once(survey: Function) -> None:
    """A warm invocation reuses clients."""
    survey(LIST)
    wired = bootstrap.survey()

    survey(REPORT)

    assert bootstrap.survey() is wired


@pytest.mark.usefixtures("organisation")
def test_a_list_writes_no_warning(survey: Function) -> None:
    """Every sweep begins with one: nothing unstructured in the log."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert survey(LIST)["after"] == ""
