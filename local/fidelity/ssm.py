"""Systems Manager's service settings, which moto does not have.

Source: Systems Manager API Reference, GetServiceSetting and UpdateServiceSetting; Systems Manager User Guide, "Managing
EC2 instances automatically with Default Host Management Configuration". Other settings are not known here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from moto.core.responses import ActionResult
from moto.ssm.exceptions import SSMException
from moto.ssm.responses import SimpleSystemManagerResponse

from . import calls, hooks

_DEFAULTS = {"/ssm/managed-instance/default-ec2-instance-management-role": "$None"}


def _setting(http: Any) -> tuple[dict[str, Any], str, str]:
    """Return what is set in an account and Region, and the setting that a request names by id or ARN, with its ARN."""
    prefix = f"arn:aws:ssm:{http.region}:{http.current_account}:servicesetting"
    setting_id = calls.Call(http).request["SettingId"].removeprefix(prefix)
    if setting_id not in _DEFAULTS:
        raise SSMException("ServiceSettingNotFound", f"There is no setting {setting_id}, or it is not known here")
    return vars(http.ssm_backend).setdefault("service_settings", {}), setting_id, prefix + setting_id


def _get(http: Any) -> ActionResult:
    settings, setting_id, arn = _setting(http)
    default = {"SettingValue": _DEFAULTS[setting_id], "Status": "Default", "LastModifiedUser": "System"}
    changed = settings.get(setting_id, {**default, "LastModifiedDate": datetime(2016, 11, 1, tzinfo=UTC)})
    return ActionResult({"ServiceSetting": {"SettingId": setting_id, "ARN": arn, **changed}})


def _update(http: Any) -> ActionResult:
    settings, setting_id, _ = _setting(http)
    call, at = calls.Call(http), datetime.fromtimestamp(hooks.installed.clock(), UTC)
    about = {"Status": "Customized", "LastModifiedUser": call.principal.arn, "LastModifiedDate": at}
    settings[setting_id] = {"SettingValue": call.request["SettingValue"], **about}
    return ActionResult({})


def install() -> None:
    """Add the calls to moto's Systems Manager (once: the caller sees to that)."""
    SimpleSystemManagerResponse.get_service_setting = _get
    SimpleSystemManagerResponse.update_service_setting = _update
