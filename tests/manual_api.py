"""The public face that manual 003 documents, as stubs: what must not change.

One stub for each documented module, written out by hand from the manual and compared
with the code by ``test_manual_api.py``: names, kinds, parameters, defaults, members of
enumerations, fields of named tuples. Annotations are not part of it. Programs outside
this repository rely on every line, so a line is only ever added.
"""

STUBS = {
    "spalloc_server.area_to_rect": """
def area_to_rect(area, bound_width, bound_height, min_ratio=0.0): ...
def squarest_rectangle(area): ...
def rectangle_with_aspect_ratio(area, ratio): ...
""",
    "spalloc_server.links": """
class Links(IntEnum):
    east = 0
    north_east = 1
    north = 2
    west = 3
    south_west = 4
    south = 5
    @property
    def opposite(self): ...
    def to_vector(self): ...
    @staticmethod
    def from_vector(vector): ...
""",
    "spalloc_server.coordinates": """
link_to_vector = {
    (0, Links.east): (0, -1, 2),
    (0, Links.north_east): (0, 0, 1),
    (0, Links.north): (0, 0, 2),
    (0, Links.west): (-1, 0, 1),
    (0, Links.south_west): (-1, -1, 2),
    (0, Links.south): (-1, -1, 1),
    (1, Links.east): (1, 0, -1),
    (1, Links.north_east): (1, 0, 1),
    (1, Links.north): (1, 1, -1),
    (1, Links.west): (0, 0, 1),
    (1, Links.south_west): (0, 0, -1),
    (1, Links.south): (0, -1, 1),
    (2, Links.east): (0, 0, -1),
    (2, Links.north_east): (1, 1, -2),
    (2, Links.north): (0, 1, -1),
    (2, Links.west): (0, 1, -2),
    (2, Links.south_west): (-1, 0, -1),
    (2, Links.south): (0, 0, -2),
}
def board_down_link(x1, y1, z1, link, width, height): ...
def board_to_chip(x, y, z): ...
def chip_to_board(x, y, w, h): ...
def triad_dimensions_to_chips(w, h, torus): ...
class WrapAround(IntEnum):
    none = 0
    x = 1
    y = 2
    both = 3
""",
    "spalloc_server.configuration": """
class Configuration(NamedTuple):
    machines: list
    port: int
    ip: str
    timeout_check_interval: float
    max_retired_jobs: int
    seconds_before_free: int
    allowed_networks: list  # of ours
    first_board_retry: float  # of ours
    longest_board_retry: float  # of ours
    scheduling: str  # of ours
    longest_overtaking: float  # of ours
    boards_per_owner: int  # of ours
    jobs_per_owner: int  # of ours
    admin_group: str  # of ours
    longest_keepalive: float  # of ours
    def __new__(
        cls,
        machines=None,
        port=22244,
        ip="",
        timeout_check_interval=5.0,
        max_retired_jobs=1200,
        seconds_before_free=30,
        allowed_networks=None,  # of ours
        first_board_retry=600.0,  # of ours
        longest_board_retry=86400.0,  # of ours
        scheduling="backfill",  # of ours
        longest_overtaking=28800.0,  # of ours
        boards_per_owner=None,  # of ours
        jobs_per_owner=None,  # of ours
        admin_group=None,  # of ours
        longest_keepalive=None,  # of ours
    ): ...
class Machine(NamedTuple):
    name: str
    tags: frozenset
    width: int
    height: int
    dead_boards: frozenset
    dead_links: frozenset
    board_locations: dict
    bmp_ips: dict
    spinnaker_ips: dict
    def __new__(
        cls,
        name,
        tags=frozenset({"default"}),
        width=None,
        height=None,
        dead_boards=frozenset({}),
        dead_links=frozenset({}),
        board_locations=None,
        bmp_ips=None,
        spinnaker_ips=None,
    ): ...
    @classmethod
    def single_board(
        cls, name, tags=frozenset({"default"}), bmp_ip=None, spinnaker_ip=None
    ): ...
    @classmethod
    def with_standard_ips(
        cls,
        name,
        tags=frozenset({"default"}),
        width=None,
        height=None,
        dead_boards=frozenset({}),
        dead_links=frozenset({}),
        board_locations=None,
        base_ip="192.168.0.0",
        cabinet_stride="0.0.5.0",
        frame_stride="0.0.1.0",
        board_stride="0.0.0.8",
        bmp_offset="0.0.0.0",
        spinnaker_offset="0.0.0.1",
    ): ...
def board_locations_from_spinner(filename): ...
""",
    "spalloc_server.server": """
def spalloc_command(f): ...
class _CriticalStop(Exception): ...
class Server:
    def __init__(self, config_filename, cold_start=False, port=22244): ...
    def _get_state_filename(self, cfg): ...
    def _parse_config(self, config_file_contents): ...
    def _validate_config(self, parsed_config): ...
    def _load_valid_config(self, validated_config): ...
    def _close(self): ...
    def _disconnect_client(self, client): ...
    def _accept_client(self): ...
    def _msg_client(self, client, message): ...
    def _handle_command(self, client, line): ...
    def _handle_commands(self, client): ...
    def _send_notifications(self, label, changes, watches): ...
    def _run(self): ...
    def is_alive(self): ...
    def join(self): ...
    def stop_and_join(self): ...
    @staticmethod
    def _name(client): ...
class SpallocServer(Server):
    def __init__(self, config_filename, cold_start=False, port=22244): ...
    def _send_change_notifications(self): ...
    def version(self, _client): ...
    def create_job(self, client, *args, **kwargs): ...
    def job_keepalive(self, client, job_id): ...
    def get_job_state(self, client, job_id): ...
    def get_job_machine_info(self, client, job_id): ...
    def power_on_job_boards(self, client, job_id): ...
    def power_off_job_boards(self, client, job_id): ...
    def destroy_job(self, client, job_id, reason=None): ...
    def _register_for_notifications(self, client, watchset, _id): ...
    def _unregister_for_notifications(self, client, watchset, _id): ...
    def notify_job(self, client, job_id=None): ...
    def no_notify_job(self, client, job_id=None): ...
    def notify_machine(self, client, machine_name=None): ...
    def no_notify_machine(self, client, machine_name=None): ...
    def list_jobs(self, _client): ...
    def list_machines(self, _client): ...
    def get_board_position(self, _client, machine_name, x, y, z): ...
    def get_board_at_position(self, _client, machine_name, x, y, z): ...
    def where_is(self, _client, **kwargs): ...
def main(args=None): ...
""",
    "spalloc_server.controller": """
class Controller:
    def __init__(
        self,
        next_id=1,
        max_retired_jobs=1200,
        on_background_state_change=None,
        seconds_before_free=30,
    ): ...
    def __getstate__(self): ...
    def __setstate__(self, state): ...
    def stop(self): ...
    def join(self): ...
    @property
    def machines(self): ...
    @property
    def changed_jobs(self): ...
    @property
    def changed_machines(self): ...
    def create_job(self, ownerhost, *args, **kwargs): ...
    def job_keepalive(self, clienthost, job_id): ...
    def get_job_state(self, clienthost, job_id): ...
    def get_job_machine_info(self, clienthost, job_id): ...
    def power_on_job_boards(self, clienthost, job_id): ...
    def power_off_job_boards(self, clienthost, job_id): ...
    def destroy_job(self, clienthost, job_id, reason=None): ...
    def list_jobs(self): ...
    def list_machines(self): ...
    def get_board_position(self, machine_name, x, y, z): ...
    def get_board_at_position(self, machine_name, cabinet, frame, board): ...
    def _job_for_location(self, machine, x, y, z): ...
    def _where_is_by_logical_triple(self, machine_name, x, y, z): ...
    def _where_is_by_physical_triple(self, machine_name, cabinet, frame, board): ...
    def _where_is_by_chip_coordinate(self, machine_name, chip_x, chip_y): ...
    def _where_is_by_job_chip_coordinate(self, job_id, chip_x, chip_y): ...
    def where_is(self, **kwargs): ...
    def destroy_timed_out_jobs(self): ...
    def check_free(self): ...
    def _bmp_on_request_complete(self, job, success, reason=None): ...
    def _set_job_power_and_links(self, job, power, link_enable=None): ...
    def _job_queue_on_allocate(
        self, job_id, machine_name, boards, periphery, torus
    ): ...
    def _job_queue_on_free(self, job_id, reason): ...
    def _job_queue_on_cancel(self, job_id, reason): ...
    def _teardown_job(self, job_id, reason): ...
    def _create_machine_bmp_controllers(self, machine, on_thread_start=None): ...
    def _init_dynamic_state(self): ...
class JobState(IntEnum):
    unknown = 0
    queued = 1
    power = 2
    ready = 3
    destroyed = 4
class JobStateTuple(NamedTuple):
    state: JobState
    power: bool
    keepalive: float
    reason: str
    start_time: float
    keepalivehost: str
class JobMachineInfoTuple(NamedTuple):
    width: int
    height: int
    connections: dict
    machine_name: str
    boards: set
class JobTuple(NamedTuple):
    job_id: int
    owner: str
    start_time: float
    keepalive: float
    state: JobState
    power: bool
    args: tuple
    kwargs: dict
    allocated_machine_name: str
    boards: set
    keepalivehost: str
class MachineTuple(NamedTuple):
    name: str
    tags: set
    width: int
    height: int
    dead_boards: set
    dead_links: set
class _Job:
    def __init__(
        self,
        _id,
        owner,
        start_time=None,
        keepalive=60.0,
        lasthost=None,
        state=JobState.queued,
        power=None,
        args=(),
        kwargs=None,
        allocated_machine=None,
        boards=None,
        periphery=None,
        torus=None,
        width=None,
        height=None,
        connections=None,
        bmp_requests_until_ready=0,
    ): ...
""",
    "spalloc_server.job_queue": """
class JobQueue:
    def __init__(
        self,
        on_allocate,
        on_free,
        on_cancel,
        seconds_before_free=30,
        scheduling="fifo",
    ): ...
    def __enter__(self): ...
    def __getstate__(self): ...
    def _try_job(self, job, machine): ...
    def _enqueue_job(self, job): ...
    def _process_queue(self): ...
    def _regenerate_queues(self): ...
    def add_machine(
        self,
        name,
        width,
        height,
        tags=None,
        dead_boards=frozenset({}),
        dead_links=frozenset({}),
    ): ...
    def move_machine_to_end(self, name): ...
    def modify_machine(
        self, name, tags=None, dead_boards=None, dead_links=None
    ): ...
    def remove_machine(self, name): ...
    def create_job(self, *args, **kwargs): ...
    def destroy_job(self, job_id, reason=None): ...
    def check_free(self): ...
class _Job:
    def __init__(
        self,
        _id,
        pending=True,
        machine_name=None,
        tags=frozenset({}),
        args=(),
        kwargs=None,
        machine=None,
        allocation_id=None,
    ): ...
    def __repr__(self): ...
class _Machine:
    def __init__(self, name, tags, allocator, queue=None): ...
    def __repr__(self): ...
""",
    "spalloc_server.allocator": """
class Allocator:
    def __init__(
        self,
        width,
        height,
        dead_boards=None,
        dead_links=None,
        next_id=1,
        seconds_before_free=30,
    ): ...
    def __getstate__(self): ...
    def __setstate__(self, state): ...
    def _alloc_triads_possible(
        self,
        width,
        height,
        max_dead_boards=None,
        max_dead_links=None,
        require_torus=False,
        min_ratio=0.0,
    ): ...
    def _alloc_triads(
        self,
        width,
        height,
        max_dead_boards=None,
        max_dead_links=None,
        require_torus=False,
        min_ratio=0.0,
    ): ...
    def _alloc_boards_possible(
        self,
        boards,
        min_ratio=0.0,
        max_dead_boards=None,
        max_dead_links=None,
        require_torus=False,
    ): ...
    def _alloc_boards(
        self,
        boards,
        min_ratio=0.0,
        max_dead_boards=None,
        max_dead_links=None,
        require_torus=False,
    ): ...
    def _alloc_board_possible(
        self,
        x=None,
        y=None,
        z=None,
        max_dead_boards=None,
        max_dead_links=None,
        require_torus=False,
        min_ratio=0.0,
    ): ...
    def _alloc_board(
        self,
        x=None,
        y=None,
        z=None,
        max_dead_boards=None,
        max_dead_links=None,
        require_torus=False,
        min_ratio=0.0,
    ): ...
    def _alloc_type(
        self,
        x_or_num_or_width=None,
        y_or_height=None,
        z=None,
        max_dead_boards=None,
        max_dead_links=None,
        require_torus=False,
        min_ratio=0.0,
    ): ...
    def alloc_possible(self, *args, **kwargs): ...
    def alloc(self, *args, **kwargs): ...
    def free(self, allocation_id): ...
    def check_free(self): ...
    def _free_next(self): ...
class _AllocationType(Enum):
    triads = 0
    board = 1
    boards = 2
class _CandidateFilter:
    def __init__(
        self,
        width,
        height,
        dead_boards,
        dead_links,
        max_dead_boards,
        max_dead_links,
        require_torus,
        expected_boards=None,
    ): ...
    def _enumerate_boards(self, x, y, width, height): ...
    def _classify_links(self, boards): ...
    def __call__(self, x, y, width, height): ...
""",
    "spalloc_server.pack_tree": """
class PackTree:
    def __init__(self, x, y, width, height): ...
    def __contains__(self, xy): ...
    def hsplit(self, y): ...
    def vsplit(self, x): ...
    def alloc(self, width, height, candidate_filter=None): ...
    def alloc_area(self, area, min_ratio=0.0, candidate_filter=None): ...
    def request(self, x, y): ...
    def free(self, x, y): ...
class FreeError(Exception): ...
""",
    "spalloc_server.async_bmp_controller": """
class AsyncBMPController:
    def __init__(self, hostname, on_thread_start=None): ...
    def __enter__(self): ...
    def add_requests(self, atomic_requests): ...
    def stop(self): ...
    def join(self): ...
    def _set_link_state(self, link, enable, board): ...
    def _run(self): ...
class AtomicRequests:
    def __init__(self, on_done): ...
class LinkRequest(NamedTuple):
    board: int
    link: Links
    enable: bool
""",
}

COMMANDS = (
    "create_job",
    "destroy_job",
    "get_board_at_position",
    "get_board_position",
    "get_job_machine_info",
    "get_job_state",
    "job_keepalive",
    "list_jobs",
    "list_machines",
    "no_notify_job",
    "no_notify_machine",
    "notify_job",
    "notify_machine",
    "power_off_job_boards",
    "power_on_job_boards",
    "version",
    "where_is",
)
"""The protocol's commands: the keys of ``spalloc_server.server._COMMANDS``."""
