"""Lays out what a function finds in /var/task, /opt and in Lambda's Python runtime."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from .template import Source, TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterable

SOURCE_PACKAGE = "portcullis"

# What Lambda's Python runtime brings along; nothing else of the virtual environment is visible.
_RUNTIME = ("boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3")
_NOT_CODE = shutil.ignore_patterns("__pycache__", "*.pyc")


class Packager:
    """Builds layers and function folders, each once, below one folder."""

    def __init__(self, folder: Path, *, package_from_source: bool) -> None:
        """Take the folder to build in.

        `package_from_source` links the layer that holds the Python package into the checkout instead of
        building it: the built one carries wheels for Lambda's processor and Python.
        """
        self._folder = folder
        self._package_from_source = package_from_source

    def runtime(self) -> Path:
        """Return the folder that stands for the packages of Lambda's runtime."""
        folder = self._folder / "runtime"
        if not folder.exists():
            _link_distributions(_RUNTIME, folder)
        return folder

    def code(self, source: Source) -> Path:
        """Return the folder that stands for /var/task."""
        return self._build(source, self._folder / "code" / source.logical_id)

    def layers(self, sources: Iterable[Source], name: str) -> Path:
        """Return the folder that stands for /opt: all layers of function `name`, the last one on top."""
        folder = self._folder / "opt" / name
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            target = self._folder / "layers" / source.logical_id
            if self._package_from_source and (source.path / SOURCE_PACKAGE / "__init__.py").is_file():
                built = _link_package(source, target)
            else:
                built = self._build(source, target)
            shutil.copytree(built, folder, symlinks=True, dirs_exist_ok=True)
        return folder

    def _build(self, source: Source, target: Path) -> Path:
        """Do what `sam build` does with a folder.

        Raises:
            TemplateError: a build method that is not known, or a make target that fails.
        """
        if target.exists():
            return target
        method = source.metadata.get("BuildMethod")
        if method == "makefile":
            target.mkdir(parents=True)
            _make(source, target)
        elif method is None:
            shutil.copytree(source.path, target, ignore=_NOT_CODE)
        else:
            raise TemplateError(f"{source.logical_id}: BuildMethod {method} is not handled; teach local/packaging.py")
        return target


def _make(source: Source, target: Path) -> None:
    command = ["make", "-f", str(source.path / "Makefile"), f"build-{source.logical_id}"]
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    environment = {**os.environ, "PATH": search, "ARTIFACTS_DIR": str(target)}
    done = subprocess.run(  # noqa: S603 - the project's own Makefile
        command, cwd=source.path, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        output = (done.stdout + done.stderr).strip()
        raise TemplateError(f"{source.logical_id}: `{' '.join(command)}` failed:\n{output}")


def _link_package(source: Source, target: Path) -> Path:
    """Lay out the package's layer with links: the checkout's package and the environment's own wheels."""
    folder = target / "python"
    if not folder.exists():
        locked = (source.path / "requirements.txt").read_text(encoding="utf-8")
        _link_distributions(re.findall(r"^([\w.-]+)==", locked, re.MULTILINE), folder)
        (folder / SOURCE_PACKAGE).symlink_to(source.path / SOURCE_PACKAGE)
    return target


def _link_distributions(names: Iterable[str], folder: Path) -> None:
    """Link the installed files of some distributions, and nothing else of the environment, into `folder`."""
    folder.mkdir(parents=True)
    for name in names:
        try:
            found = distribution(name)
        except PackageNotFoundError as error:
            raise TemplateError(f"{name} is not installed in this environment; run make again") from error
        tops = {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}
        for top in sorted(tops):
            (folder / top).symlink_to(Path(str(found.locate_file(top))))
