"""Service settings of Systems Manager."""

from __future__ import annotations

from .conftest import MEMBER, REGION, Aws, error_of

SETTING = "/ssm/managed-instance/default-ec2-instance-management-role"


def test_default_host_management_is_off_until_it_has_a_role(aws: Aws) -> None:
    """In an account and Region; by id or ARN."""
    ssm, arn = aws.client("ssm"), f"arn:aws:ssm:{REGION}:{MEMBER}:servicesetting{SETTING}"
    setting = ssm.get_service_setting(SettingId=SETTING)["ServiceSetting"]
    assert (setting["SettingValue"], setting["Status"], setting["ARN"]) == ("$None", "Default", arn)
    role = "service-role/AWSSystemsManagerDefaultEC2InstanceManagementRole"
    ssm.update_service_setting(SettingId=SETTING, SettingValue=role)
    setting = ssm.get_service_setting(SettingId=arn)["ServiceSetting"]
    assert (setting["SettingId"], setting["SettingValue"], setting["Status"]) == (SETTING, role, "Customized")
    other = aws.client("ssm", MEMBER, "us-east-1").get_service_setting(SettingId=SETTING)
    assert other["ServiceSetting"]["SettingValue"] == "$None"


def test_an_unknown_setting_is_an_error(aws: Aws) -> None:
    """Rather than a default."""
    assert error_of(aws.client("ssm").get_service_setting, SettingId="/ssm/nothing")[0] == "ServiceSettingNotFound"
