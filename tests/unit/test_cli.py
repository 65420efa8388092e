"""The command line: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result
from portcullis.cli import controls_page, main, policy_file
from portcullis.controls import CONTROLS
from portcullis.model import Kind
from portcullis.policy import Mode, Subject, load, parse

from tests.fakes import ACCOUNT, OTHER_ACCOUNT, REGION, World
from tests.unit.test_policy_file import ALL_AT_ONCE, SHIPPED

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: object, stdin: str | None = None) -> Result:
    """Run the command line."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


def written(folder: Path, name: str, content: object) -> Path:
    """Write a file: text as it is, anything else as JSON."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def vpc_event(account_id: str = ACCOUNT) -> dict[str, Any]:
    """Return the event of a CreateVpc, always of vpc-0001."""
    aws = World().aws
    aws.region(account_id).create_vpc()
    return aws.events[0]


def line(account_id: str, kind: str, resource_id: str | None) -> str:
    """Return an output line."""
    return json.dumps({"account_id": account_id, "region": REGION, "kind": kind, "resource_id": resource_id})


class TestTargets:
    """What would be looked at because of some events."""

    def test_the_targets_of_all_files_are_printed_sorted_and_once(self, tmp_path: Path) -> None:
        """One JSON object a line; the order of the files does not matter."""
        aws = World().aws
        region = aws.region()
        region.launch_instance()
        region.disassociate(region.main_table(region.create_vpc()))
        files = [written(tmp_path, f"{number}.json", event) for number, event in enumerate(aws.events)]
        other = written(tmp_path, "other.json", vpc_event(OTHER_ACCOUNT))

        result = run("targets", other, *files, files[0])

        assert result.exit_code == 0
        assert result.stdout.splitlines() == [
            line(ACCOUNT, "account-region", None),
            line(ACCOUNT, "instance", "i-0001"),
            line(ACCOUNT, "vpc", "vpc-0001"),
            line(OTHER_ACCOUNT, "vpc", "vpc-0001"),
        ]
        assert result.stderr == ""

    def test_standard_input_is_read_for_a_dash(self) -> None:
        """So that it can stand in a pipe."""
        result = run("targets", "-", stdin=json.dumps(vpc_event()))
        assert (result.exit_code, result.stdout) == (0, line(ACCOUNT, "vpc", "vpc-0001") + "\n")

    def test_an_event_that_does_not_concern_us_prints_nothing(self, tmp_path: Path) -> None:
        """That is success, not an error."""
        result = run("targets", written(tmp_path, "e.json", vpc_event() | {"source": "aws.s3"}))
        assert (result.exit_code, result.output) == (0, "")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("not JSON", "it is not JSON ("),
            ("", "it is not JSON ("),
            ("[" * 100_000, "it is not JSON ("),
            ([], "the event is [], not a JSON object"),
            ({"detail": {}}, "source is missing, expected text"),
            (vpc_event() | {"account": "1"}, "account is '1', expected 12 digits"),
            (vpc_event()["detail"], "source is missing"),
        ],
        ids=["text", "empty", "nested", "list", "no source", "account", "bare record"],
    )
    def test_a_malformed_event_is_exit_2_and_good_files_are_still_printed(
        self, tmp_path: Path, content: object, message: str
    ) -> None:
        """The message names the file and the field, on standard error."""
        bad = written(tmp_path, "bad.json", content)
        good = written(tmp_path, "good.json", vpc_event())

        result = run("targets", bad, good)

        assert result.exit_code == 2
        assert result.stdout.splitlines() == [line(ACCOUNT, "vpc", "vpc-0001")]
        assert result.stderr.startswith(f"portcullis: {bad}: {message}")
        assert len(result.stderr.splitlines()) == 1

    def test_a_file_that_is_missing_or_not_text_is_exit_2(self, tmp_path: Path) -> None:
        """Both are told, and the good file is printed."""
        binary = tmp_path / "binary.json"
        binary.write_bytes(b"\xff\xfe\x00")
        good = written(tmp_path, "good.json", vpc_event())

        result = run("targets", tmp_path / "none.json", binary, good)

        assert result.exit_code == 2
        assert result.stdout.splitlines() == [line(ACCOUNT, "vpc", "vpc-0001")]
        missing, not_text = result.stderr.splitlines()
        assert missing.endswith("none.json: it cannot be read: No such file or directory")
        assert "it is not JSON" in not_text

    def test_answers_beside_the_events_are_skipped(self, tmp_path: Path) -> None:
        """So that `portcullis targets events/*.json` works; that is said, and no error."""
        answers = written(tmp_path, "targets.json", {"CreateVpc.json": []})
        result = run("targets", answers, written(tmp_path, "good.json", vpc_event()))
        assert (result.exit_code, result.stdout) == (0, line(ACCOUNT, "vpc", "vpc-0001") + "\n")
        assert result.stderr == f"portcullis: {answers}: skipped; it holds answers for other files, no event\n"

    def test_no_file_or_a_folder_is_a_mistake_of_usage(self, tmp_path: Path) -> None:
        """Exit 2, with the usage."""
        for arguments in (("targets",), ("targets", tmp_path)):
            result = run(*arguments)
            assert result.exit_code == 2
            assert "Usage:" in result.stderr


class TestPolicy:
    """The policy file is checked and compiled."""

    def test_a_valid_policy_is_summed_up(self) -> None:
        """With the mode of each control."""
        result = run("policy", "check", SHIPPED)
        assert result.exit_code == 0
        modes = ", ".join(f"{name} {entry['mode']}" for name, entry in policy_file.read(SHIPPED)["controls"].items())
        assert result.stdout == f"{SHIPPED}: valid ({modes})\n"

    def test_doubts_are_printed_after_it(self, tmp_path: Path) -> None:
        """They are no faults: exit 0."""
        path = written(tmp_path, "policy.yaml", "version: 1\ncontrols:\n  ROLE.2: {mode: approve}\n")
        result = run("policy", "check", path)
        assert (result.exit_code, result.stderr) == (0, "")
        doubt = "line 3: controls > ROLE.2 > mode: approve does what detect does: ROLE.2 changes nothing"
        assert result.stdout == f"{path}: valid (ROLE.2 approve)\n{path}: {doubt}\n"

    @pytest.mark.parametrize("command", ["check", "compile"])
    def test_every_fault_is_printed_and_nothing_else(self, tmp_path: Path, command: str) -> None:
        """Each on its line of standard error, then their number; exit 2; an invalid policy is not compiled."""
        path = written(tmp_path, "policy.yaml", ALL_AT_ONCE)

        result = run("policy", command, path)

        assert (result.exit_code, result.stdout) == (2, "")
        *faults, last = result.stderr.splitlines()
        assert len(faults) == 9
        assert all(fault.startswith(f"{path}: line ") for fault in faults)
        assert last == f"portcullis: 9 fault(s) in {path}"

    def test_a_missing_policy_is_exit_2(self, tmp_path: Path) -> None:
        """In the same form as any other fault."""
        result = run("policy", "check", tmp_path / "none.yaml")
        assert result.exit_code == 2
        assert "it cannot be read" in result.stderr

    def test_what_compile_prints_is_what_the_functions_load(self, tmp_path: Path) -> None:
        """YAML in, JSON out, the same policy."""
        result = run("policy", "compile", SHIPPED)
        assert result.exit_code == 0
        policy = load(written(tmp_path, "policy.json", result.stdout))
        assert policy == parse(json.loads(result.stdout))
        subject = Subject(ACCOUNT, (), REGION, Kind.VPC, "vpc-1")
        assert {policy.settings(subject, control.id).mode for control in CONTROLS} <= set(Mode)


class TestDocs:
    """The controls page is generated."""

    def test_docs_prints_the_page_of_the_registry(self) -> None:
        """To the letter."""
        result = run("docs")
        assert (result.exit_code, result.stdout) == (0, controls_page.render(CONTROLS))

    def test_the_page_tells_everything_about_each_control(self) -> None:
        """Title, why, fix, risk, parameters, permissions, and AWS's own controls."""
        page = controls_page.render(CONTROLS)
        for control in CONTROLS:
            assert f"\n## {control.id}: {control.title}\n" in page
            for text in (control.checks, control.why, control.fix, control.risk, control.related, *control.observes):
                assert text in page
            for one in (*controls_page.OF_EVERY_CONTROL, *control.parameters):
                assert f"- `{one.name}` (default " in page
            assert all(f"`{action}`" in page for action in control.remediates)


def test_help_names_every_command() -> None:
    """Both spellings of the option work."""
    for option in ("-h", "--help"):
        result = run(option)
        assert result.exit_code == 0
        assert all(name in result.stdout for name in ("targets", "policy", "docs", "plan", "replay"))


@pytest.mark.parametrize(("shell", "part"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete")])
def test_completion_prints_the_script_of_a_shell(shell: str, part: str) -> None:
    """Which asks the command line itself what may come next."""
    result = run("completion", shell)
    assert result.exit_code == 0
    assert part in result.stdout
    assert "_PORTCULLIS_COMPLETE" in result.stdout
    assert run("completion", "cmd").exit_code == 2


def test_the_version_is_that_of_the_package() -> None:
    """Conventionally asked for."""
    assert run("--version").stdout == f"portcullis, version {version('portcullis')}\n"
