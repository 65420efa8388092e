"""Templates are read as CloudFormation and SAM read them; what cannot be, is refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from local.intrinsics import Scope
from local.template import Created, TemplateError, load

if TYPE_CHECKING:
    from pathlib import Path

PSEUDO = {"AWS::Region": "us-east-1", "AWS::AccountId": "123456789012"}


def scope_of(folder: Path, text: str, **parameters: str) -> Scope:
    """Return a scope for a template given as text."""
    file = folder / "template.yaml"
    file.write_text(text, encoding="utf-8")
    return Scope(load(file), parameters, PSEUDO)


def resolve(folder: Path, expression: str, **parameters: str) -> Any:
    """Resolve one property, written in YAML, next to a resource A with an attribute."""
    scope = scope_of(
        folder,
        f"""
Parameters:
  Name: {{Type: String, Default: portcullis}}
  Names: {{Type: CommaDelimitedList, Default: "a, b"}}
Mappings: {{Sizes: {{small: {{memory: 128}}}}}}
Conditions:
  Default: !Equals [!Ref Name, portcullis]
  Other: !Not [!Condition Default]
  Both: !And [!Condition Default, !Equals [!Ref AWS::Region, us-east-1]]
  Any: !Or [!Condition Other, !Equals ["true", true]]
Resources:
  A: {{Type: Some::Type}}
  B: {{Type: Some::Type, Properties: {{Value: {expression}}}}}
""",
        **parameters,
    )
    scope.created["A"] = Created("a-ref", {"Arn": "a-arn", "Nested.Value": "deep"})
    resource = next(resource for resource in scope.template.resources if resource.logical_id == "B")
    return scope.resolve(resource.properties, "here").get("Value")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("!Ref A", "a-ref"),
        ("!Ref Name", "portcullis"),
        ("!Ref Names", ["a", "b"]),
        ("!Ref AWS::AccountId", "123456789012"),
        ("!GetAtt A.Arn", "a-arn"),
        ("!GetAtt [A, Arn]", "a-arn"),
        ("!GetAtt A.Nested.Value", "deep"),
        ("{Fn::GetAtt: A.Arn}", "a-arn"),
        ('!Sub "${A}/${A.Arn}/${AWS::Region}/${!Literal}"', "a-ref/a-arn/us-east-1/${Literal}"),
        ('!Sub ["${A}-${x}", {x: !Ref Name}]', "a-ref-portcullis"),
        ('!Join ["-", [!Ref A, 1, true]]', "a-ref-1-true"),
        ('!Split ["-", !Ref A]', ["a", "ref"]),
        ("!Select [1, !Ref Names]", "b"),
        ("!FindInMap [Sizes, small, memory]", 128),
        ("!If [Default, !Ref A, !Ref DoesNotExist]", "a-ref"),
        ("!If [Other, 1, 2]", 2),
        ("!If [Both, 1, 2]", 1),
        ("!If [Any, 1, 2]", 1),
        ("[!Ref A, !Ref AWS::NoValue]", ["a-ref"]),
        ("!Ref AWS::NoValue", None),
        ("2012-10-17", "2012-10-17"),
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
        ("{Ref: A, Other: 1}", "cannot resolve"),
        ("!Ref Nothing", "Nothing is neither a parameter nor a resource"),
        ("!GetAtt A.Nothing", "A has no attribute Nothing"),
        ("!Select [2, !Ref Names]", "wants item 2 of 2"),
        ("!Join [x]", "expected a list of 2 items"),
        ("!FindInMap [Sizes, large, memory]", "no Sizes.large.memory"),
        ("!If [Nothing, 1, 2]", "there is no condition Nothing"),
    ],
)
def test_what_cannot_be_resolved_is_named(tmp_path: Path, expression: str, complaint: str) -> None:
    """An error says where it is."""
    with pytest.raises(TemplateError, match=complaint):
        resolve(tmp_path, expression)


PARAMETERS = """
Parameters:
  Size: {Type: Number, Default: 5, MinValue: 2, MaxValue: 9}
  Mode: {Type: String, Default: "on", AllowedValues: ["on", "off"]}
  Id: {Type: String, Default: o-abc, AllowedPattern: "o-[a-z]+"}
  Required: {Type: String}
Resources: {A: {Type: Some::Type}}
"""


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({}, "parameter Required has no default"),
        ({"Required": "x", "Typo": "x"}, "there is no parameter Typo"),
        ({"Required": "x", "Size": "10"}, "Size may not be 10: it goes from 2 to 9"),
        ({"Required": "x", "Mode": "maybe"}, "Mode may not be 'maybe'"),
        ({"Required": "x", "Id": "org"}, "Id may not be 'org'"),
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


def test_resources_come_in_dependency_order_and_without_false_conditions(tmp_path: Path) -> None:
    """What is referred to, in whatever way, comes first."""
    scope = scope_of(
        tmp_path,
        """
Conditions: {Never: !Equals [1, 2]}
Resources:
  D: {Type: T, Properties: {X: !Sub "${C.Arn}"}}
  C: {Type: T, Properties: {X: [{Y: !GetAtt B.Arn}]}}
  B: {Type: T, DependsOn: [A]}
  A: {Type: T}
  Gone: {Type: T, Condition: Never}
Outputs:
  Here: {Value: !Ref A}
  NotHere: {Condition: Never, Value: !Ref Gone}
""",
    )
    assert [resource.logical_id for resource, _ in scope.resources()] == ["A", "B", "C", "D"]
    scope.created["A"] = Created("a")
    assert scope.outputs() == {"Here": "a"}


FUNCTION = """
Transform: AWS::Serverless-2016-10-31
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties: """


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Resources: [", "template.yaml: "),
        ("Parameters: {}", "needs a mapping named Resources"),
        ("Resources: {A: {Type: T}, A: {Type: T}}", "A is given twice"),
        ("Resources: {A: {Type: T, DependsOn: B}, B: {Type: T, DependsOn: A}}", "a circle of references: "),
        (FUNCTION + "{CodeUri: nowhere, Handler: a.b, Runtime: python3.13}", "F.CodeUri: there is no "),
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
    template = load(checkout / "template.yaml", {"OrganizationId": "o-a1b2c3d4e5"})
    resources = {resource.logical_id: resource for resource in template.resources}
    function = resources["Dispatch"]
    source = template.source(function.properties["Code"], "Dispatch")
    assert source.path == (checkout / "functions" / "dispatch").resolve()
    assert set(function.properties["Environment"]["Variables"]) == {"POLICY_FILE", "GREETING", "WORK_QUEUE_URL"}
    (mapping,) = (r for name, r in resources.items() if name.startswith("Dispatch") and "Mapping" in r.type)
    assert mapping.properties["BatchSize"] == 5
    (layer,) = (r for name, r in resources.items() if name.startswith("PolicyLayer"))
    assert template.source(layer.properties["Content"], "x").metadata == {"BuildMethod": "makefile"}
    with pytest.raises(TemplateError, match="x: code must come from a local folder"):
        template.source({"S3Bucket": "elsewhere", "S3Key": "Dispatch"}, "x")
