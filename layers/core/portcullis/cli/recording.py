"""What was seen of some accounts and Regions, as a file: written by ``plan --record``, read by ``replay``.

The values of ``model`` and ``surroundings`` are written by their types, field by field; what is as by default is left
out. ``VERSION`` changes when a file of before would be read as something else.
"""

from __future__ import annotations

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from portcullis import model, surroundings
from portcullis.errors import ObservationError, PortcullisError
from portcullis.model import Needs, Scope, Snapshot
from portcullis.surroundings import Surroundings

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from portcullis.ports import Observer

VERSION = 1

_T = TypeVar("_T")
_WORDS = {str: "a text", bool: "true or false", int: "a whole number"}
_SHOWN = 40


class RecordingError(PortcullisError):
    """A file is not a recording, or not one that can be used."""


@dataclass(frozen=True, slots=True)
class Seen:
    """All of one account and Region, as far as it was looked for.

    ``units`` are those above the account; empty where the policy needs none.
    """

    snapshot: Snapshot
    needs: Needs = field(default_factory=Needs)
    surroundings: Mapping[str, Surroundings] = field(default_factory=dict)
    units: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """The account and Region."""
        return (self.snapshot.scope.account_id, self.snapshot.scope.region)


@dataclass(frozen=True, slots=True)
class Recording:
    """What was seen, and when: the Observer and Directory ports of a replay."""

    recorded_at: str
    places: tuple[Seen, ...] = ()

    def observe(self, scope: Scope, needs: Needs) -> Snapshot:
        """Return what was seen of a scope. See ports.Observer."""
        seen = self._seen(scope.account_id, scope.region)
        snapshot, both = seen.snapshot, seen.needs | needs
        lacking = [one.name for one in fields(Needs) if getattr(both, one.name) != getattr(seen.needs, one.name)]
        if lacking:
            raise ObservationError(
                f"the recording lacks what this policy looks at ({', '.join(lacking)}); record it with this policy"
            )
        if scope.everything:
            return snapshot
        vpcs = {name: vpc for name, vpc in snapshot.vpcs.items() if name in scope.vpc_ids}
        instances = {name: one for name, one in snapshot.instances.items() if name in scope.instance_ids}
        return replace(snapshot, scope=scope, vpcs=vpcs, instances=instances)

    def surroundings(
        self, account_id: str, region: str, vpc_ids: Collection[str], *, buckets: bool
    ) -> Mapping[str, Surroundings]:
        """Return what ran in some VPCs. See ports.Observer."""
        known = self._seen(account_id, region).surroundings
        found = {vpc_id: known.get(vpc_id, Surroundings()) for vpc_id in vpc_ids}
        if buckets and any(one.buckets is None for one in found.values()):
            raise ObservationError("the recording lacks the bucket policies; record it with this policy")
        return {name: one if buckets else replace(one, buckets=None, unread_buckets=0) for name, one in found.items()}

    def units_of(self, account_id: str) -> tuple[str, ...]:
        """Return the units above an account. See ports.Directory."""
        return next((one.units for one in self.places if one.key[0] == account_id), ())

    def _seen(self, account_id: str, region: str) -> Seen:
        found = next((one for one in self.places if one.key == (account_id, region)), None)
        if found is None:
            held = ", ".join(" ".join(one.key) for one in self.places)
            raise ObservationError(f"the recording is not of {account_id} {region}; it is of {held or 'nothing'}")
        return found


class Recorder:
    """Observes whole accounts and Regions with everything around their VPCs, and keeps that in ``seen``.

    Args:
        observer: The Observer port.
        needs: All that the policy makes any look observe.
        buckets: Whether bucket policies are wanted anywhere.
    """

    def __init__(self, observer: Observer, needs: Needs, *, buckets: bool) -> None:
        self._observer = observer
        self._needs = needs
        self._buckets = buckets
        self.seen: tuple[Seen, ...] = ()

    def observe(self, scope: Scope, needs: Needs) -> Snapshot:
        """Read all that may be needed of everything, once; what is asked for afterwards is taken from that."""
        if not scope.everything:
            return Recording("", self.seen).observe(scope, needs)
        snapshot = self._observer.observe(scope, self._needs)
        vpc_ids, around = sorted(snapshot.vpcs), dict[str, Surroundings]()
        if vpc_ids:
            around |= self._observer.surroundings(scope.account_id, scope.region, vpc_ids, buckets=self._buckets)
        self.seen += (Seen(snapshot, self._needs, around),)
        return snapshot

    def surroundings(
        self, account_id: str, region: str, vpc_ids: Collection[str], *, buckets: bool
    ) -> Mapping[str, Surroundings]:
        """Return what was read together with the snapshot. See ports.Observer."""
        return Recording("", self.seen).surroundings(account_id, region, vpc_ids, buckets=buckets)


def write(recording: Recording) -> str:
    """Write a recording as JSON."""
    return json.dumps({"version": VERSION, **encode(recording)}, indent=1)


def load(path: Path) -> Recording:
    """Read the file of a recording.

    Raises:
        RecordingError: It cannot be read, or is something else.
    """
    try:
        return read(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecordingError(f"it cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecordingError(f"it is not JSON ({error})") from error


def read(text: str) -> Recording:
    """Read what ``write`` wrote.

    Raises:
        RecordingError: It is something else; says where.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"it is not JSON ({error})") from error
    if not isinstance(data, dict) or "version" not in data:
        raise RecordingError("it is no recording; 'portcullis plan --record FILE' writes one")
    version = data.pop("version")
    if version != VERSION:
        raise RecordingError(f"it is a recording of version {_shown(version)}, not of {VERSION}; record it anew")
    return decode(Recording, data, "recording")


def encode(value: Any) -> Any:
    """Write a value as JSON values: dataclasses without what is as by default, sets sorted."""
    if is_dataclass(value):
        held = {one.name: getattr(value, one.name) for one in fields(value)}
        return {one.name: encode(held[one.name]) for one in fields(value) if held[one.name] != _default(one)}
    if isinstance(value, Mapping):
        return {key: encode(each) for key, each in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    return [encode(each) for each in value] if isinstance(value, tuple) else value


def decode(kind: type[_T], value: Any, at: str) -> _T:
    """Read a value of a type; ``at`` names the place in the file.

    Raises:
        RecordingError: It is not of that type.
    """
    decoded: _T = _decoded(kind, value, at)
    return decoded


def _decoded(kind: Any, value: Any, at: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is types.UnionType:  # X | None, the only one
        return None if value is None else _decoded(arguments[0], value, at)
    if origin in (dict, Mapping):
        given = _of(dict, value, at, "an object")
        return {key: _decoded(arguments[1], each, f"{at}.{key}") for key, each in given.items()}
    if origin in (tuple, frozenset):
        given = _of(list, value, at, "a list")
        kinds = arguments if origin is tuple and arguments[-1] is not Ellipsis else [arguments[0]] * len(given)
        if len(kinds) != len(given):
            raise RecordingError(f"{at}: expected {len(kinds)} values, found {len(given)}")
        numbered = enumerate(zip(kinds, given, strict=True))
        return origin(_decoded(one, each, f"{at}[{number}]") for number, (one, each) in numbered)
    if is_dataclass(kind):
        return _object(kind, _of(dict, value, at, "an object"), at)
    return _of(kind, value, at, _WORDS[kind])


def _object(kind: Any, given: dict[str, Any], at: str) -> Any:
    hints, known = _hints(kind), {one.name: one for one in fields(kind)}
    if unknown := sorted(given.keys() - known.keys()):
        raise RecordingError(f"{at}.{unknown[0]}: unknown; a newer Portcullis may have written it")
    for name, one in known.items():
        if name not in given and _default(one) is MISSING:
            raise RecordingError(f"{at}.{name}: missing")
    return kind(**{name: _decoded(hints[name], value, f"{at}.{name}") for name, value in given.items()})


def _of(kind: type, value: Any, at: str, what: str) -> Any:
    if type(value) is not kind:  # true is no whole number
        raise RecordingError(f"{at}: expected {what}, found {_shown(value)}")
    return value


def _default(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


@cache
def _hints(kind: type) -> dict[str, Any]:
    # The modules of the values import some names for type checkers only.
    return get_type_hints(kind, localns={**vars(surroundings), **vars(model), "Mapping": Mapping})


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
