"""Templates are read as CloudFormation and SAM read them; what cannot be, is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from local.template import Created, Scope, TemplateError, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def scope_of(folder: Path, text: str, **parameters: str) -> tuple[Scope, dict[str, Any]]:
    """Return a scope for a template given as text, and what it has created: the properties by logical id."""
    file = folder / "template.yaml"
    file.write_text(text, encoding="utf-8")
    created: dict[str, Any] = {}

    def create(logical_id: str, resource: Mapping[str, Any], scope: Scope) -> Created:
        created[logical_id] = scope.resolve(resource.get("Properties", {}), "here")
        return Created("a-ref", {"Arn": "a-arn", "Nested.Value": "deep"})

    return Scope(load(file), parameters, create, Region="us-east-1", AccountId="123456789012"), created


def resolve(folder: Path, expression: str, **parameters: str) -> Any:
    """Resolve one property, written in YAML, next to a resource A with an attribute."""
    scope, created = scope_of(
        folder,
        f"""
Parameters:
  Name: {{Type: String, Default: portcullis}}
  Names: {{Type: CommaDelimitedList, Default: "a, b"}}
Conditions:
  Default: !Equals [!Ref Name, portcullis]
  Other: !Not [!Equals [!Ref Name, portcullis]]
Resources:
  B: {{Type: Some::Type, Properties: {{Value: {expression}}}}}
  A: {{Type: Some::Type}}
""",
        **parameters,
    )
    scope.create_all()
    return created["B"].get("Value")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("!Ref A", "a-ref"),
        ("!Ref Name", "portcullis"),
        ("!Ref AWS::AccountId", "123456789012"),
        ("!GetAtt A.Arn", "a-arn"),
        ("!GetAtt [A, Arn]", "a-arn"),
        ("!GetAtt A.Nested.Value", "deep"),
        ('!Sub "${A}/${A.Arn}/${AWS::Region}/${A.Nested.Value}"', "a-ref/a-arn/us-east-1/deep"),
        ('!Join ["-", [!Ref A, 1, true]]', "a-ref-1-true"),
        ("!Ref Names", ["a", "b"]),
        ('!Join [",", !Ref Names]', "a,b"),
        ("!If [Default, !Ref A, !Ref DoesNotExist]", "a-ref"),
        ("!If [Other, 1, 2]", 2),
        ("[!Ref A, !Ref AWS::NoValue]", ["a-ref"]),
        ("!Ref AWS::NoValue", None),
        ("{Condition: {StringEquals: {a: !Ref A}}}", {"Condition": {"StringEquals": {"a": "a-ref"}}}),
    ],
)
def test_intrinsics(tmp_path: Path, expression: str, expected: object) -> None:
    """Each intrinsic function gives what CloudFormation gives."""
    assert resolve(tmp_path, expression) == expected


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("!ImportValue x", r"here\.Value: cannot resolve \['Fn::ImportValue'\]; teach"),
        ("!Select [0, [a]]", r"cannot resolve \['Fn::Select'\]"),
        ("{Ref: A, Other: 1}", "cannot resolve"),
        ("!Ref B", "a circle of references: B needs itself"),
        ("!Ref Nothing", "Nothing is neither a parameter nor a resource"),
        ("!GetAtt A.Nothing", "A has no attribute Nothing"),
        ("!Join [x]", "cannot resolve"),
        ("!Join [x, !Ref Name]", "cannot resolve"),
        ("!Join [x, [!Ref Names]]", "is no text; join it"),
        ('!Sub "${Names}"', "is no text; join it"),
        ("!If [Nothing, 1, 2]", "there is no condition Nothing"),
    ],
)
def test_what_cannot_be_resolved_is_named(tmp_path: Path, expression: str, complaint: str) -> None:
    """An error says where it is."""
    with pytest.raises(TemplateError, match=complaint):
        resolve(tmp_path, expression)


PARAMETERS = """
Parameters:
  Size: {Type: Number, Default: 5}
  Word: {Type: String, Default: abc, AllowedPattern: "[a-z]+"}
  Words: {Type: CommaDelimitedList, Default: "abc,def", AllowedPattern: "[a-z]+"}
  Required: {Type: String}
Resources: {A: {Type: Some::Type}}
"""


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({}, "parameter Required has no default"),
        ({"Required": "x", "Typo": "x"}, "there is no parameter Typo"),
        ({"Required": "x", "Word": "abc,def"}, "Word: abc,def does not match its AllowedPattern"),
        ({"Required": "x", "Words": "abc, d3f, "}, "Words: d3f,  does not match its AllowedPattern"),
    ],
)
def test_parameters_are_checked(tmp_path: Path, parameters: dict[str, str], complaint: str) -> None:
    """A deployment that CloudFormation would refuse is refused."""
    with pytest.raises(TemplateError, match=complaint):
        scope_of(tmp_path, PARAMETERS, **parameters)


def test_parameter_types_that_need_aws_are_refused(tmp_path: Path) -> None:
    """An SSM parameter type is not resolved, so it is not accepted either."""
    text = """
Parameters: {P: {Type: "AWS::SSM::Parameter::Value<String>", Default: x}}
Resources: {A: {Type: Some::Type}}
"""
    with pytest.raises(TemplateError, match="type AWS::SSM::Parameter::Value<String> is not known"):
        scope_of(tmp_path, text)


def test_what_is_referred_to_is_created_first(tmp_path: Path) -> None:
    """In whatever way it is referred to."""
    scope, created = scope_of(
        tmp_path,
        """
Resources:
  D: {Type: T, Properties: {X: !Sub "${C.Arn}"}}
  C: {Type: T, Properties: {X: [{Y: !GetAtt B.Arn}]}}
  B: {Type: T, Properties: {X: !Ref A}}
  A: {Type: T}
Outputs:
  Here: {Value: !Ref A}
""",
    )
    assert scope.create_all() == {"Here": "a-ref"}
    assert list(created) == ["A", "B", "C", "D"]


def test_what_is_depended_on_is_created_first(tmp_path: Path) -> None:
    """One by its name, or several; a circle is an error."""
    text = """
Resources:
  C: {Type: T, DependsOn: B}
  B: {Type: T, DependsOn: [A, D]}
  A: {Type: T}
  D: {Type: T}
"""
    scope, created = scope_of(tmp_path, text)
    scope.create_all()
    assert list(created) == ["A", "D", "B", "C"]
    scope, _ = scope_of(tmp_path, text.replace("D: {Type: T}", "D: {Type: T, DependsOn: C}"))
    with pytest.raises(TemplateError, match="depends on it: a circle of references"):
        scope.create_all()


FUNCTION = """
Transform: AWS::Serverless-2016-10-31
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties: """


MACHINE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  M:
    Type: AWS::Serverless::StateMachine
    Properties: """


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Resources: [", "template.yaml: "),
        ("Parameters: {}", "needs a mapping named Resources"),
        (FUNCTION + "{CodeUri: nowhere, Handler: a.b, Runtime: python3.13}", "F.CodeUri: there is no "),
        (MACHINE + "{DefinitionUri: nowhere.json}", "M.DefinitionUri: there is no file nowhere.json"),
        (FUNCTION + "{CodeUri: ., Handlers: a.b}", "not valid SAM: .*Handlers"),
    ],
)
def test_bad_templates_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    """Loading says what is wrong, and in which file."""
    file = tmp_path / "template.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(TemplateError, match=complaint):
        load(file)


def test_sam_is_translated_and_its_folders_are_found(checkout: Path) -> None:
    """Globals, event sources and layers become plain resources; code leads back to its folder."""
    values = {"OrganizationId": "o-a1b2c3d4e5", "TargetOrganizationalUnitIds": "r-a1b2", "GovernedRegions": "us-east-1"}
    template = load(checkout / "template.yaml", values)
    resources = template.section("Resources")
    function = resources["Dispatch"]["Properties"]
    source = template.source(function["Code"])
    assert source.path == (checkout / "functions" / "dispatch").resolve()
    assert set(function["Environment"]["Variables"]) == {"POLICY_FILE", "GREETING", "WORK_QUEUE_URL"}
    (mapping,) = (r for name, r in resources.items() if name.startswith("Dispatch") and "Mapping" in r["Type"])
    assert mapping["Properties"]["BatchSize"] == 5
    (layer,) = (r for name, r in resources.items() if name.startswith("PolicyLayer"))
    assert template.source(layer["Properties"]["Content"]).logical_id == "PolicyLayer"
    with pytest.raises(TemplateError, match="code must come from the checkout"):
        template.source({"S3Bucket": "elsewhere", "S3Key": "Dispatch"})
