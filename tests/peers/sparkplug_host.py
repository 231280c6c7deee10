"""A host of Sparkplug B by pysparkplug, as a process of its own: it needs an older paho-mqtt than ours.

Writes a line of JSON for each message of a group, and asks a node for its births for each line that it reads.
"""

import json
import sys

from pysparkplug import Client, DataType, Message, MessageType, Metric, NCmd, QoS, Topic, get_current_timestamp


def tell(_client: Client, message: Message) -> None:
    payload = message.payload
    metrics = (payload.bd_seq_metric,) if hasattr(payload, "bd_seq_metric") else getattr(payload, "metrics", ())
    line = {
        "kind": str(message.topic.message_type.value),
        "node": message.topic.edge_node_id,
        "device": message.topic.device_id,
        "seq": getattr(payload, "seq", None),
        "qos": int(message.qos),
        "retain": bool(message.retain),
        "metrics": {metric.name: metric.value for metric in metrics},
        "types": {metric.name: metric.datatype.name for metric in metrics},
    }
    print(json.dumps(line), flush=True)


def main(port: int, group: str) -> None:
    client = Client("sparkplug-host")
    client.connect("127.0.0.1", port=port)
    for kind in (MessageType.NBIRTH, MessageType.NDEATH):
        client.subscribe(Topic(group_id=group, message_type=kind, edge_node_id="+"), QoS.AT_LEAST_ONCE, tell)
    for kind in (MessageType.DBIRTH, MessageType.DDATA, MessageType.DDEATH):
        topic = Topic(group_id=group, message_type=kind, edge_node_id="+", device_id="+")
        client.subscribe(topic, QoS.AT_LEAST_ONCE, tell)
    print("{}", flush=True)
    for line in sys.stdin:
        now = get_current_timestamp()
        rebirth = Metric(timestamp=now, name="Node Control/Rebirth", datatype=DataType.BOOLEAN, value=True)
        topic = Topic(group_id=group, message_type=MessageType.NCMD, edge_node_id=line.strip())
        payload = NCmd(timestamp=now, metrics=(rebirth,))
        client.publish(Message(topic=topic, payload=payload, qos=QoS.AT_MOST_ONCE, retain=False), include_dtypes=True)
    client.disconnect()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
