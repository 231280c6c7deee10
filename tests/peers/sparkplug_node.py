"""A Sparkplug node with one device, by pysparkplug: `python sparkplug_node.py PORT`, with requirements/peers.txt.

It reads lines of two numbers, which are new values of the device's metrics c1 and c2, and sends them by their aliases
alone. When a host asks for its births, it writes `rebirth` and is born again.
"""

from __future__ import annotations

import queue
import sys
import threading

import pysparkplug as psp

GROUP, NODE, DEVICE = "plant", "node1", "pump1"


def metric(name: str | None, alias: int, value: float) -> psp.Metric:
    """One of the device's."""
    now = psp.get_current_timestamp()
    return psp.Metric(timestamp=now, name=name, alias=alias, datatype=psp.DataType.DOUBLE, value=value)


class Node(psp.EdgeNode):
    """A node that knows what its device's values are called, and leaves the names out of its data."""

    def __init__(self, client: psp.Client, on_command: psp.EdgeNode) -> None:
        now = psp.get_current_timestamp()
        control = psp.Metric(timestamp=now, name="Node Control/Rebirth", datatype=psp.DataType.BOOLEAN, value=False)
        super().__init__(GROUP, NODE, [control], client, on_command)
        self.register(psp.Device(DEVICE, [metric(f"c{number}", number, 0.5) for number in (1, 2)]))

    def send(self, *values: float) -> None:
        """Send values of the device."""
        topic = psp.Topic(message_type=psp.MessageType.DDATA, group_id=GROUP, edge_node_id=NODE, device_id=DEVICE)
        metrics = tuple(metric(None, number, value) for number, value in enumerate(values, start=1))
        data = psp.DData(timestamp=psp.get_current_timestamp(), seq=self._seq, metrics=metrics)
        self._client.publish(psp.Message(topic=topic, payload=data, qos=psp.QoS.AT_MOST_ONCE, retain=False))


def main() -> None:
    """Until the input ends."""
    todo: queue.Queue[str] = queue.Queue()
    node = Node(psp.Client(client_id="sparkplug-node"), lambda *_: todo.put("rebirth"))
    node.connect("127.0.0.1", port=int(sys.argv[1]))

    def listen() -> None:
        for line in sys.stdin:
            todo.put(line.strip())
        todo.put("")

    threading.Thread(target=listen, daemon=True).start()
    while line := todo.get():
        if line == "rebirth":
            print(line, flush=True)
            node.disconnect()
            node.connect("127.0.0.1", port=int(sys.argv[1]))
        else:
            node.send(*map(float, line.split()))


if __name__ == "__main__":
    main()
