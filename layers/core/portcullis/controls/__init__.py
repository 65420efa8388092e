"""The registry of controls. Adding one is a file, a line here and a table of tests."""

from __future__ import annotations

from portcullis.controls.control import Control, Parameter, Rule
from portcullis.controls.role_1 import ROLE_1
from portcullis.controls.role_2 import ROLE_2
from portcullis.controls.vpce_1 import VPCE_1
from portcullis.controls.vpce_2 import VPCE_2
from portcullis.controls.vpce_3 import VPCE_3
from portcullis.controls.vpce_4 import VPCE_4
from portcullis.controls.vpce_5 import VPCE_5

CONTROLS: tuple[Control, ...] = (VPCE_1, VPCE_2, VPCE_3, VPCE_4, VPCE_5, ROLE_1, ROLE_2)

__all__ = ["CONTROLS", "Control", "Parameter", "Rule"]
