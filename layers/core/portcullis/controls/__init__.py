"""The registry of controls. Adding one is a file, a line here and a table of tests."""

from __future__ import annotations

from portcullis.controls.control import Control, Parameter, Rule
from portcullis.controls.role_1 import ROLE_1
from portcullis.controls.vpce_1 import VPCE_1
from portcullis.controls.vpce_2 import VPCE_2

CONTROLS: tuple[Control, ...] = (VPCE_1, VPCE_2, ROLE_1)

__all__ = ["CONTROLS", "Control", "Parameter", "Rule"]
