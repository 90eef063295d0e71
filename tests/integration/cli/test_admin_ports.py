"""The router's admin ports, which ``caravan up`` chooses as it does the others."""

import socket
import urllib.request

from caravan.cli import ports
from caravan.testing.nats import free_port
from caravan.testing.platform import Platform


def listening(port):
    return socket.create_server(("127.0.0.1", port))


def test_a_row_of_ports_is_free_as_a_whole():
    first = ports.row(0, free_port(), 3, runs=False)
    with listening(first + 2):
        chosen = ports.row(0, first, 3, runs=False)
    assert chosen > first + 2


def test_a_known_row_is_kept_while_it_is_free_or_its_part_runs():
    known = ports.row(0, free_port(), 2, runs=False)
    assert ports.row(known, 9100, 2, runs=False) == known
    with listening(known + 1):
        assert ports.row(known, 9100, 2, runs=False) != known
        assert ports.row(known, 9100, 2, runs=True) == known


def test_up_gives_each_process_of_the_router_an_admin_port_and_keeps_it(tmp_path):
    platform = Platform(tmp_path, environ={"ROUTER_PROCESSES": "2"})
    del platform.environ["ROUTER_ADMIN_PORT"]
    with platform:
        first = platform.context.router_admin
        assert first >= 9100
        assert [ready(first + index) for index in range(2)] == [200, 200]
        platform.down()
        platform.up()
        assert platform.context.router_admin == first


def ready(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=10) as answer:
        return answer.status
