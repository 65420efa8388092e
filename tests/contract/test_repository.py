"""What the repository promises about itself."""

from __future__ import annotations

import ast
import re
import sys
import tomllib

import pytest

from tests.contract import templates

LOCKS = ["layers/core", "local", "tests", "tests/sam"]


@pytest.mark.parametrize("folder", LOCKS)
def test_a_lock_file_pins_everything_with_hashes_and_names_no_host(folder: str) -> None:
    """Installations are repeatable from any mirror: exact versions, hashes, no addresses."""
    text = (templates.ROOT / folder / "requirements.txt").read_text(encoding="utf-8")
    entries = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]
    assert entries
    assert all(re.match(r"[a-z0-9._-]+==\S+ ", line) for line in entries)
    assert text.count("==") <= text.count("--hash=sha256:")
    assert not re.search(r"https?://|index-url|find-links", text)


def test_the_layer_carries_powertools_and_what_change_windows_need_only() -> None:
    """Cold starts stay short: boto3 comes with the runtime, everything else stays outside Lambda."""
    text = (templates.ROOT / "layers/core/requirements.txt").read_text(encoding="utf-8")
    assert re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE) == [
        "aws-lambda-powertools",
        "cronsim",
        "jmespath",
        "typing-extensions",
        "tzdata",
    ]


def test_every_make_target_and_command_that_the_readme_names_exists() -> None:
    """The README's commands are those of the Makefile and of the command line."""
    readme = (templates.ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (templates.ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z]+)\b", " ".join(re.findall(r"`[^`]+`|```.*?```", readme, re.DOTALL))))
    assert {"demo", "test", "local"} <= named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def test_every_file_that_readme_and_docs_link_to_exists() -> None:
    """No dead links inside the repository."""
    pages = [templates.ROOT / "README.md", *sorted((templates.ROOT / "docs").rglob("*.md"))]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_samconfig_can_deploy_the_template_as_it_is() -> None:
    """Named roles need their capability; every parameter without a default is given a value that it takes."""
    config = tomllib.loads((templates.ROOT / "samconfig.toml").read_text(encoding="utf-8"))
    deploy = config["default"]["deploy"]["parameters"]
    parameters = templates.load(templates.HUB)["Parameters"]
    required = {name for name, entry in parameters.items() if "Default" not in entry}
    given = dict(pair.split("=", 1) for pair in deploy["parameter_overrides"])
    assert deploy["capabilities"] == "CAPABILITY_NAMED_IAM"
    assert required <= given.keys() <= parameters.keys()
    for name, value in given.items():
        for part in value.split(",") if parameters[name]["Type"] == "CommaDelimitedList" else [value]:
            assert re.fullmatch(parameters[name].get("AllowedPattern", ".*"), part), name


def test_the_layer_imports_only_what_lambda_will_have() -> None:
    """What a function loads is the standard library, the runtime's boto3, or pinned in the layer's lock file."""
    package = templates.ROOT / "layers" / "core" / "portcullis"
    files = [path for path in package.rglob("*.py") if "cli" not in path.relative_to(package).parts]
    nodes = [node for path in files for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    imported = {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module).split(".")[0] for node in nodes if isinstance(node, ast.ImportFrom)}
    third_party = imported - sys.stdlib_module_names - {"portcullis"}
    assert third_party == {"aws_lambda_powertools", "boto3", "botocore", "cronsim"}
