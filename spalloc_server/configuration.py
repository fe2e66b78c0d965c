"""The machines that a server manages and its options, as config files define them.

A config file is a Python script in which everything of this module and of
`spalloc_server.coordinates` is in scope. Each description is checked completely when
it is made: one that is inconsistent is refused with a `TypeError` (a value of the
wrong kind) or a `ValueError` whose message names what is wrong.

Values, once made, do not change, so any thread may read them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import TYPE_CHECKING, Any, NamedTuple

from spalloc_server.config import checks, ip_claims, networks
from spalloc_server.config.spinner_csv import (
    board_locations_from_spinner as board_locations_from_spinner,
)
from spalloc_server.config.standard_ips import StandardIPs
from spalloc_server.coordinates import Board, BoardLink, Physical
from spalloc_server.links import Links as Links  # for config files

if TYPE_CHECKING:
    from typing_extensions import Self


class _MachineFields(NamedTuple):
    name: str
    tags: frozenset[str]
    width: int
    height: int
    dead_boards: frozenset[Board]
    dead_links: frozenset[BoardLink]
    board_locations: dict[Board, Physical]
    bmp_ips: dict[tuple[int, int], str]
    spinnaker_ips: dict[Board, str]


class Machine(_MachineFields):
    """A SpiNNaker machine: a rectangle of triads, wired as a hexagonal torus.

    Sets may be given as any kind of set and are kept as frozensets, dictionaries are
    copied, and links given as numbers become `Links`.

    :param name: what users and the log call the machine
    :param tags: labels by which jobs choose among machines. A job that asks for none
        gets machines tagged "default".
    :param width: size in triads: both or neither. Without them the machine is just
        large enough for the boards in ``board_locations`` and ``dead_boards``.
    :param height: see ``width``
    :param dead_boards: boards (x, y, z) that must not be used, or that are not there
    :param dead_links: links (x, y, z, link) that must not be used, from the side of the
        board that sends. Links of dead boards need not be in it.
    :param board_locations: for every working board, (x, y, z), its place (cabinet,
        frame, board). Dead boards may have one too.
    :param bmp_ips: for every frame (cabinet, frame) with a working board, the hostname
        of the BMP that controls the frame's boards
    :param spinnaker_ips: for every working board the hostname of its Ethernet chip
    :raises TypeError: if a value is of the wrong kind
    :raises ValueError: if the values contradict each other or something is missing
    """

    __slots__ = ()

    def __new__(
        cls,
        name: str,
        tags: Set[str] = frozenset({"default"}),
        width: int | None = None,
        height: int | None = None,
        dead_boards: Set[Board] = frozenset(),
        dead_links: Set[tuple[int, int, int, Links | int]] = frozenset(),
        board_locations: Mapping[Board, Physical] | None = None,
        bmp_ips: Mapping[tuple[int, int], str] | None = None,
        spinnaker_ips: Mapping[Board, str] | None = None,
    ) -> Self:
        """Check the description and make it immutable."""
        checks.check_name(name)
        with checks.errors_about(f"machine {name!r}"):
            checked_tags = checks.checked_tags(tags)
            dead = checks.checked_dead_boards(dead_boards)
            locations = checks.checked_locations(board_locations)
            if width is None and height is None:
                checks.checked_dead_within(dead, locations)
            width, height = checks.checked_size(width, height, dead | locations.keys())
            checks.check_locations(width, height, dead, locations)
            return super().__new__(
                cls,
                name,
                checked_tags,
                width,
                height,
                dead,
                checks.checked_dead_links(dead_links, width, height),
                locations,
                *checks.checked_ips(
                    bmp_ips, spinnaker_ips, width, height, dead, locations
                ),
            )

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]
        # The namedtuple's own way, which _replace() takes too, skips the checks.
        return cls(*iterable)

    @classmethod
    def single_board(
        cls,
        name: str,
        tags: Set[str] = frozenset({"default"}),
        bmp_ip: str | None = None,
        spinnaker_ip: str | None = None,
    ) -> Self:
        """Describe a machine which is one board on its own.

        :param name: as for `Machine`
        :param tags: see ``name``
        :param bmp_ip: hostname of the BMP which controls the board. Must be given.
        :param spinnaker_ip: hostname of the board's Ethernet chip. Must be given.
        """
        checks.check_name(name)
        if bmp_ip is None:
            raise TypeError(f"machine {name!r}: bmp_ip must be given")
        if spinnaker_ip is None:
            raise TypeError(f"machine {name!r}: spinnaker_ip must be given")
        return cls(
            name=name,
            tags=tags,
            width=1,
            height=1,
            # The rest of the triad, which is not there.
            dead_boards=frozenset({(0, 0, 1), (0, 0, 2)}),
            board_locations={(0, 0, 0): (0, 0, 0)},
            bmp_ips={(0, 0): bmp_ip},
            spinnaker_ips={(0, 0, 0): spinnaker_ip},
        )

    @classmethod
    def with_standard_ips(
        cls,
        name: str,
        tags: Iterable[str] = frozenset({"default"}),
        width: int | None = None,
        height: int | None = None,
        dead_boards: Iterable[Board] = frozenset(),
        dead_links: Iterable[tuple[int, int, int, Links | int]] = frozenset(),
        board_locations: Mapping[Board, Physical] | None = None,
        base_ip: str = "192.168.0.0",
        cabinet_stride: str = "0.0.5.0",
        frame_stride: str = "0.0.1.0",
        board_stride: str = "0.0.0.8",
        bmp_offset: str = "0.0.0.0",
        spinnaker_offset: str = "0.0.0.1",
    ) -> Self:
        """Describe a machine whose IP addresses follow from its boards' places.

        Each address is the sum of ``base_ip``, a stride for each of the cabinet, the
        frame and the board, and the offset of what is addressed. The BMP of board 0
        controls its whole frame. By default that makes, for cabinet 1, frame 2,
        board 3, a BMP at 192.168.7.0 and an Ethernet chip at 192.168.7.25.

        :param name: as for `Machine`
        :param width: see ``name``
        :param height: see ``name``
        :param board_locations: see ``name``
        :param tags: as for `Machine`, but any iterable will do
        :param dead_boards: see ``tags``
        :param dead_links: see ``tags``
        :param base_ip: the IPv4 address where the machine's range begins
        :param cabinet_stride: what to add to get from one cabinet, frame or board to
            the next, written as an IPv4 address
        :param frame_stride: see ``cabinet_stride``
        :param board_stride: see ``cabinet_stride``
        :param bmp_offset: what to add to the beginning of a board's range to get its
            BMP's or its Ethernet chip's address, written as an IPv4 address
        :param spinnaker_offset: see ``bmp_offset``
        :raises TypeError: as for `Machine`, and if something is not an IPv4
            address or a sum is beyond 255.255.255.255
        :raises ValueError: likewise
        """
        checks.check_name(name)
        with checks.errors_about(f"machine {name!r}"):
            if isinstance(tags, str):
                raise TypeError(f"tags should be a set of strings, not {tags!r}")
            ips = StandardIPs(
                base_ip=base_ip,
                cabinet_stride=cabinet_stride,
                frame_stride=frame_stride,
                board_stride=board_stride,
                bmp_offset=bmp_offset,
                spinnaker_offset=spinnaker_offset,
            )
            locations = checks.checked_locations(board_locations)
            frozen_tags = checks.frozen("tags", tags)
            frozen_boards = checks.frozen("dead_boards", dead_boards)
            frozen_links = checks.frozen("dead_links", dead_links)
            bmp_ips = {(c, f): ips.bmp(c, f) for c, f, _ in locations.values()}
            spinnaker_ips = {
                board: ips.spinnaker(*location) for board, location in locations.items()
            }
        return cls(
            name=name,
            tags=frozen_tags,
            width=width,
            height=height,
            dead_boards=frozen_boards,
            dead_links=frozen_links,
            board_locations=locations,
            bmp_ips=bmp_ips,
            spinnaker_ips=spinnaker_ips,
        )


class _ConfigurationFields(NamedTuple):
    machines: list[Machine]
    port: int
    ip: str
    timeout_check_interval: float
    max_retired_jobs: int
    seconds_before_free: float
    allowed_networks: list[str] | None
    first_board_retry: float
    longest_board_retry: float
    scheduling: str
    longest_overtaking: float
    boards_per_owner: int | None
    jobs_per_owner: int | None
    admin_group: str | None
    longest_keepalive: float | None


class Configuration(_ConfigurationFields):
    """What a server manages, and how.

    :param machines: the machines, highest priority first
    :param port: TCP port to listen on. The command line's ``--port`` is preferred to
        it.
    :param ip: address to listen on; "" is every interface
    :param timeout_check_interval: seconds between two searches for jobs that are no
        longer kept alive
    :param max_retired_jobs: how many destroyed jobs to remember
    :param seconds_before_free: seconds from the moment that a board is powered off
        until it is given to another job
    :param allowed_networks: networks such as "10.2.0.0/16" or "fe80::/10"; connections
        from elsewhere are closed at once. None is anywhere, an empty list nowhere. IPv4
        clients of an IPv6 server count by their IPv4 address.
    :param first_board_retry: seconds after which a board that was taken out of service
        is tried again
    :param longest_board_retry: each time that it fails again, it is left for twice as
        long as before, but never longer than so many seconds
    :param scheduling: who is tried where the first job in a queue does not fit: "fifo"
        for nobody; "backfill" for the others, where they are not in its way, with
        owners who take turns
    :param longest_overtaking: with "backfill", for how many seconds the first job in a
        queue is overtaken at most before a part of the machine is kept for it. A part
        that is expected to be free soon is kept earlier. 0 keeps one at once.
    :param boards_per_owner: how many boards the jobs of an owner may hold at a time;
        further ones wait, and others pass them. None for any number.
    :param jobs_per_owner: how many jobs that have not ended an owner may have; the next
        one ends at once. None for any number.
    :param admin_group: a group of this computer whose members may use
        ``spalloc_server_admin``, too; None for nobody but the server's own user
    :param longest_keepalive: after how many seconds of silence a job ends at the
        latest, also one that asks for more or for none; None for no limit
    :raises TypeError: if a value is of the wrong kind
    :raises ValueError: if a value is out of range, or if machines have the same name or
        share an IP address
    """

    __slots__ = ()

    def __new__(
        cls,
        machines: Iterable[Machine] | None = None,
        port: int = 22244,
        ip: str = "",
        timeout_check_interval: float = 5.0,
        max_retired_jobs: int = 1200,
        seconds_before_free: float = 30,
        allowed_networks: Iterable[str] | None = None,
        first_board_retry: float = 600.0,
        longest_board_retry: float = 86_400.0,
        scheduling: str = "backfill",
        longest_overtaking: float = 28_800.0,
        boards_per_owner: int | None = None,
        jobs_per_owner: int | None = None,
        admin_group: str | None = None,
        longest_keepalive: float | None = None,
    ) -> Self:
        """Check the options and that the machines can exist beside each other."""
        machine_list = _checked_machines(machines)
        checks.check_int("port", port, 0, 65535)
        checks.check_host("ip", ip)
        checks.check_seconds(
            "timeout_check_interval", timeout_check_interval, checks.SHORTEST_INTERVAL
        )
        checks.check_int("max_retired_jobs", max_retired_jobs, 0, checks.MOST_RETIRED)
        checks.check_seconds("seconds_before_free", seconds_before_free)
        checks.check_seconds("first_board_retry", first_board_retry)
        checks.check_seconds("longest_board_retry", longest_board_retry)
        checks.check_word("scheduling", scheduling, ("backfill", "fifo"))
        checks.check_seconds("longest_overtaking", longest_overtaking)
        for name, limit in (
            ("boards_per_owner", boards_per_owner),
            ("jobs_per_owner", jobs_per_owner),
        ):
            if limit is not None:
                checks.check_int(name, limit, 1)
        if admin_group is not None and not isinstance(admin_group, str):
            raise TypeError(f"admin_group should be a str, not {admin_group!r}")
        if longest_keepalive is not None:
            checks.check_seconds("longest_keepalive", longest_keepalive)
        return super().__new__(
            cls,
            machine_list,
            port,
            ip,
            timeout_check_interval,
            max_retired_jobs,
            seconds_before_free,
            networks.checked_networks(allowed_networks),
            first_board_retry,
            longest_board_retry,
            scheduling,
            longest_overtaking,
            boards_per_owner,
            jobs_per_owner,
            admin_group,
            longest_keepalive,
        )

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]
        # The namedtuple's own way, which _replace() takes too, skips the checks.
        return cls(*iterable)


def _checked_machines(machines: Iterable[Machine] | None) -> list[Machine]:
    """Make sure that machines differ in their names and their IP addresses."""
    if machines is None:
        return []
    if not isinstance(machines, Iterable):
        raise TypeError(f"machines should be a list of Machine, not {machines!r}")
    machine_list = list(machines)
    names: set[str] = set()
    for machine in machine_list:
        if not isinstance(machine, Machine):
            raise TypeError(f"machines should be a list of Machine, not of {machine!r}")
        if machine.name in names:
            raise ValueError(f"two machines are called {machine.name!r}")
        names.add(machine.name)
    # Each frame is controlled for one machine, so even two machines made of different
    # boards of one frame may not share its BMP.
    ip_claims.check_ips_distinct(
        claim for machine in machine_list for claim in _ip_claims(machine)
    )
    return machine_list


def _ip_claims(machine: Machine) -> Iterator[ip_claims.IPClaim]:
    """Enumerate the IP addresses that a machine's working boards need."""
    working = checks.working_boards(machine.width, machine.height, machine.dead_boards)
    frames = {machine.board_locations[board][:2] for board in working}
    return ip_claims.ip_claims(
        {frame: machine.bmp_ips[frame] for frame in frames},
        {board: machine.spinnaker_ips[board] for board in working},
        f" of machine {machine.name!r}",
    )
