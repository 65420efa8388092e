"""Interface endpoints: their subnets, groups, network interfaces and DNS names, and the services that they are for.

Source: AWS PrivateLink Guide, "Access an AWS service using an interface VPC endpoint"; EC2 API Reference,
CreateVpcEndpoint and ModifyVpcEndpoint; error texts from public issue threads. moto checks nothing, leaves network
interfaces alone on modification, and knows no DynamoDB service of this type. As in AWS, an endpoint may have no
subnet. Unlike AWS, an endpoint is available at once.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from moto.ec2.exceptions import EC2ClientError, InvalidSecurityGroupNotFoundError, InvalidSubnetIdError
from moto.ec2.models.vpcs import VPCBackend

from . import route53

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_MOST_OF_VPC = 50
_WITHOUT_LAST_ZONE = "monitoring"
"""A service that is not in every Availability Zone, as some are."""

# Other than that of gateway endpoints: without a version, and with line breaks.
_EVERYTHING = {"Action": "*", "Effect": "Allow", "Principal": "*", "Resource": "*"}
_DEFAULT_POLICY = json.dumps({"Statement": [_EVERYTHING]}, indent=2)
_RESOLVER_ONLY = "PrivateDnsOnlyForInboundResolverEndpoint"


def _refuse(message: str, code: str = "InvalidParameter") -> EC2ClientError:
    return EC2ClientError(code, message)


def _service(backend: Any, service_name: str) -> Mapping[str, Any]:
    """Return what DescribeVpcEndpointServices says about the interface type of a service."""
    services = backend._collect_default_endpoint_services(backend.account_id, backend.region_name)
    for one in services:
        if one["ServiceName"] == service_name and one["ServiceType"][0]["ServiceType"] == "Interface":
            return one  # type: ignore[no-any-return] # moto's
    raise _refuse(f"The Vpc Endpoint Service '{service_name}' does not exist", "InvalidServiceName")


def groups_of(backend: Any, vpc_id: str, group_ids: Sequence[str]) -> list[str]:
    """Return the groups for a network interface: those given, which must be the VPC's, or its default group."""
    for group_id in group_ids:
        if group_id not in backend.groups.get(vpc_id, {}):
            raise InvalidSecurityGroupNotFoundError(group_id)
    return list(dict.fromkeys(group_ids)) or [backend.get_default_security_group(vpc_id).id]


def network_interface(backend: Any, subnet_id: str, group_ids: list[str], kind: str, description: str) -> str:
    """Create a network interface that a service of AWS uses; its id."""
    made = backend.create_network_interface(subnet_id, "", group_ids=group_ids, description=description)
    made.interface_type, made.requester_managed, made.status = kind, True, "in-use"
    return str(made.id)


def _check_subnets(backend: Any, service: Mapping[str, Any], vpc_id: str, old: list[str], new: list[str]) -> None:
    """Refuse new subnets that cannot be beside those that the endpoint has already."""
    zones = {backend.get_subnet(one).availability_zone for one in old}
    for subnet_id in new:
        try:
            subnet = backend.get_subnet(subnet_id)
        except InvalidSubnetIdError:
            # Endpoint calls spell this code differently from subnet calls.
            raise _refuse(f"The subnet ID '{subnet_id}' does not exist", "InvalidSubnetId.NotFound") from None
        if subnet.vpc_id != vpc_id:
            raise _refuse(f"Subnet {subnet_id} does not belong to VPC {vpc_id}")
        if subnet.availability_zone not in service["AvailabilityZones"]:
            message = "does not support the availability zone of the subnet"
            raise _refuse(f"The VPC endpoint service {service['ServiceName']} {message}: {subnet_id}.")
        if subnet.availability_zone in zones:
            message = f"Found another VPC endpoint subnet in the availability zone of {subnet_id}. "
            message += "VPC endpoint subnets should be in different availability zones supported by the VPC endpoint"
            raise _refuse(f"{message} service.", "DuplicateSubnetsInSameZone")
        zones.add(subnet.availability_zone)


def _private_names(service: Mapping[str, Any]) -> list[str]:
    return [one["PrivateDnsName"] for one in service.get("PrivateDnsNames", ())]


def _check_private_dns(
    backend: Any, service: Mapping[str, Any], vpc_id: str, *, resolver_only: bool, but: Any = None
) -> None:
    """Refuse private DNS where the VPC does not do DNS, or where something else than `but` answers for the names."""
    vpc, names = backend.get_vpc(vpc_id), _private_names(service)
    others = [one for one in backend.vpc_end_points.values() if one.vpc_id == vpc_id and one is not but]
    if not names:
        message = f"because the service {service['ServiceName']} does not provide a private DNS name."
        raise _refuse(f"Private DNS can't be enabled {message}")
    if not (vpc.enable_dns_support and vpc.enable_dns_hostnames):
        message = "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes"
        raise _refuse(f"{message} set to true for {vpc_id}")
    taken = {name for one in others if one.private_dns_enabled for name in _private_names(_service_of(one))}
    taken |= {name for name, _ in route53.private_zones(vpc_id, backend.region_name)}
    for name in names:
        if name in taken or name.removeprefix("*.") in taken:
            message = "private-dns-enabled cannot be set because there is already a conflicting DNS domain for"
            raise _refuse(f"{message} {name} in the VPC {vpc_id}")
    gateways = [one.service_name for one in others if one.vpc_endpoint_type == "Gateway"]
    if resolver_only and service["ServiceName"] not in gateways:
        message = f"the VPC {vpc_id} must have a Gateway endpoint for the service."
        raise _refuse(f"To set {_RESOLVER_ONLY} to true, {message}")


def _service_of(endpoint: Any) -> Mapping[str, Any]:
    return _service(endpoint.ec2_backend, endpoint.service_name)


def is_for_resolver_only(endpoint: Any) -> bool:
    """Return whether an endpoint's private names are for queries from outside the VPC only, and so need a gateway."""
    return bool(endpoint.private_dns_enabled and vars(endpoint).get("dns_options", {}).get(_RESOLVER_ONLY))


def _resolver_only(service_name: str, options: Mapping[str, Any]) -> bool:
    """Return whether private DNS is for queries from outside only, which S3 has for the default."""
    return bool(options.get(_RESOLVER_ONLY, service_name.endswith(".s3")))


def _dress(endpoint: Any, options: Mapping[str, Any]) -> None:
    """Give an endpoint the network interfaces and the DNS names that its subnets, groups and options ask for."""
    backend, service = endpoint.ec2_backend, _service_of(endpoint)
    old = {backend.enis[one].subnet.id: one for one in endpoint.network_interface_ids}
    for subnet_id in set(old) - set(endpoint.subnet_ids):
        backend.enis.pop(old[subnet_id])
    about = (endpoint.security_group_ids, "vpc_endpoint", f"VPC Endpoint Interface {endpoint.id}")
    endpoint.network_interface_ids = [
        old.get(subnet_id) or network_interface(backend, subnet_id, *about) for subnet_id in endpoint.subnet_ids
    ]
    for one in endpoint.network_interface_ids:
        backend.modify_network_interface_attribute(one, endpoint.security_group_ids)
    zones = [f"-{backend.enis[one].availability_zone}" for one in endpoint.network_interface_ids]
    base = f"{endpoint.id}-{endpoint.id[-8:]}"
    names = [f"{base}{zone}.{service['BaseEndpointDnsNames'][0]}" for zone in ("", *zones)]
    names += _private_names(service) if endpoint.private_dns_enabled else []
    endpoint.dns_entries = [{"DnsName": name, "HostedZoneId": "Z7HUB22UULQXV"} for name in names]
    endpoint.dns_options = {"DnsRecordIpType": "ipv4", **options}
    endpoint.ip_address_type, endpoint.requester_managed = "ipv4", False


def create(backend: Any, request: Mapping[str, Any], make: Callable[..., Any]) -> Any:
    """Return a new endpoint for a CreateVpcEndpoint request, made by moto without anything that belongs to the type."""
    service, vpc_id = _service(backend, request["ServiceName"]), request["VpcId"]
    private_dns = request.get("PrivateDnsEnabled", True)
    if sum(one.vpc_id == vpc_id and not one.route_table_ids for one in backend.vpc_end_points.values()) >= _MOST_OF_VPC:
        raise _refuse("You have reached the limit of interface endpoints for this VPC.", "VpcEndpointLimitExceeded")
    subnet_ids, options = list(request.get("SubnetIds", ())), request.get("DnsOptions", {})
    _check_subnets(backend, service, vpc_id, [], subnet_ids)
    group_ids = groups_of(backend, vpc_id, request.get("SecurityGroupIds", ()))
    resolver_only = private_dns and _resolver_only(request["ServiceName"], options)
    if private_dns:
        _check_private_dns(backend, service, vpc_id, resolver_only=resolver_only)
    endpoint = make(route_table_ids=[], private_dns_enabled=private_dns, security_group_ids=group_ids)
    endpoint.subnet_ids = subnet_ids
    if "PolicyDocument" not in request:
        endpoint.policy_document = _DEFAULT_POLICY
    _dress(endpoint, {**options, _RESOLVER_ONLY: resolver_only})
    return endpoint


def modify(backend: Any, endpoint: Any, request: Mapping[str, Any]) -> None:
    """Change an endpoint as a ModifyVpcEndpoint request says, but for its policy."""
    service, options = _service_of(endpoint), {**endpoint.dns_options, **request.get("DnsOptions", {})}
    kept = [one for one in endpoint.subnet_ids if one not in request.get("RemoveSubnetIds", ())]
    added = [one for one in request.get("AddSubnetIds", ()) if one not in kept]
    _check_subnets(backend, service, endpoint.vpc_id, kept, added)
    removed = request.get("RemoveSecurityGroupIds", ())
    group_ids = [*endpoint.security_group_ids, *request.get("AddSecurityGroupIds", ())]
    group_ids = groups_of(backend, endpoint.vpc_id, [one for one in group_ids if one not in removed])
    private_dns = request.get("PrivateDnsEnabled", endpoint.private_dns_enabled)
    if private_dns and (not endpoint.private_dns_enabled or "DnsOptions" in request):
        options[_RESOLVER_ONLY] = _resolver_only(endpoint.service_name, request.get("DnsOptions", {}))
        _check_private_dns(backend, service, endpoint.vpc_id, resolver_only=options[_RESOLVER_ONLY], but=endpoint)
    endpoint.subnet_ids, endpoint.security_group_ids = [*kept, *added], group_ids
    endpoint.private_dns_enabled = private_dns
    _dress(endpoint, options)


def _wrap_services() -> None:
    original = VPCBackend._collect_default_endpoint_services

    def collect(account_id: str, region: str) -> list[dict[str, Any]]:
        services = []
        for one in original(account_id, region):
            name, zones = one["ServiceName"].removeprefix(f"com.amazonaws.{region}."), one["AvailabilityZones"]
            if name == _WITHOUT_LAST_ZONE:
                services.append({**one, "AvailabilityZones": zones[:-1]})
            elif name == "execute-api":
                names = [{"PrivateDnsName": f"*.execute-api.{region}.amazonaws.com"}]
                services.append({**one, "PrivateDnsName": names[0]["PrivateDnsName"], "PrivateDnsNames": names})
            else:
                services.append(one)
            if name == "dynamodb":
                kind = {"ServiceType": [{"ServiceType": "Interface"}], "ServiceId": f"{one['ServiceId']}1"}
                services.append({**one, **kind, "BaseEndpointDnsNames": [f"dynamodb.{region}.vpce.amazonaws.com"]})
        return services

    VPCBackend._collect_default_endpoint_services = staticmethod(collect)


def install() -> None:
    """Patch moto's endpoint services (once: the caller sees to that)."""
    _wrap_services()
