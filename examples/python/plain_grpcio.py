"""A trainer that knows nothing of Envmill but its .proto files and `grpcio`.

    envmill serve --config cluster.toml
    python examples/python/plain_grpcio.py 127.0.0.1:7460 ENVIRONMENT 5000 --log log.jsonl

It submits a job of so many episodes, takes every record, acknowledges what it has taken, and prints the
account that the engine gives at the end beside what it has counted itself. `--log` writes down what was
received and acknowledged, for `envmill audit` and `testing/python/audit.py`. It may be killed and started
again with the same --name and --log: it goes on where it was. Needs: pip install grpcio grpcio-tools.
"""

import argparse
import hashlib
import importlib
import json
import pathlib
import queue
import sys
import tempfile
import time

import grpc
from grpc_tools import protoc

PROTOS = pathlib.Path(__file__).parents[2] / "protocol" / "proto"
WINDOW = 256


def stubs():
    """Generates the messages and the stub, as `python -m grpc_tools.protoc` does."""
    files = ["envmill/v1/record.proto", "envmill/v1/rollouts.proto"]
    # What was imported is not read again.
    with tempfile.TemporaryDirectory() as out:
        wanted = [f"--proto_path={PROTOS}", f"--python_out={out}", f"--grpc_python_out={out}"]
        if protoc.main(["protoc", *wanted, *files]) != 0:
            sys.exit("the .proto files cannot be compiled")
        # Made whole packages, they come before an installed package of the same name.
        for package in ["envmill", "envmill/v1"]:
            (pathlib.Path(out) / package / "__init__.py").touch()
        sys.path.insert(0, out)
        try:
            rollouts = importlib.import_module("envmill.v1.rollouts_pb2")
            return rollouts, importlib.import_module("envmill.v1.rollouts_pb2_grpc")
        finally:
            sys.path.remove(out)


class Trainer:
    def __init__(self, arguments):
        self.arguments = arguments
        self.pb, self.grpc = stubs()
        self.seen, self.ends, self.unacknowledged = {}, {}, []
        self.parts = []
        self.log = open(arguments.log, "a", encoding="utf-8") if arguments.log else None
        if arguments.log:
            for line in open(arguments.log, encoding="utf-8"):
                entry = json.loads(line) if line.endswith("\n") else {}
                if "number" in entry:
                    self.seen[entry["id"]] = entry["digest"]
                elif "requested" in entry:
                    self.account = entry

    def write(self, **entry):
        if self.log:
            self.log.write(json.dumps(entry) + "\n")
            self.log.flush()

    def requests(self, outgoing):
        while True:
            request = outgoing.get()
            if request is None:
                return
            yield request

    def play(self):
        """One connection, until the job is settled; False if it broke."""
        pb, outgoing = self.pb, queue.Queue()
        arguments = self.arguments
        options = [("grpc.max_receive_message_length", 64 << 20)]
        with grpc.insecure_channel(arguments.address, options=options) as channel:
            stub = self.grpc.RolloutsStub(channel)
            job = pb.SubmitJob(
                name=arguments.name,
                environment=arguments.environment,
                seed=arguments.seed,
                limits=pb.Limits(max_steps=arguments.max_steps, sessions=arguments.sessions),
            )
            if arguments.action:
                job.policy.constant = arguments.action.encode()
            if arguments.samples:
                job.groups = arguments.episodes // arguments.samples
                job.group_rules.samples = arguments.samples
                job.delivery.order = pb.ORDER_BY_GROUP
            else:
                job.episodes = arguments.episodes
            outgoing.put(pb.DriveRequest(request_id=1, submit=job))
            try:
                for response in stub.Drive(self.requests(outgoing)):
                    if self.on(response, outgoing):
                        return True
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    raise
                print(f"the connection broke: {error.details()}", file=sys.stderr)
            finally:
                outgoing.put(None)
        return False

    def on(self, response, outgoing):
        pb, kind = self.pb, response.WhichOneof("response")
        if kind == "accepted":
            self.job, self.promised, self.unacknowledged = response.accepted.job_id, {}, []
            self.request_id = 1
            credit = pb.GrantCredit(job_id=self.job, records=WINDOW, bytes=1 << 40)
            outgoing.put(pb.DriveRequest(credit=credit))
        elif kind == "refused":
            sys.exit(f"refused: {response.refused.message}")
        elif kind == "delivery":
            self.take(response.delivery, outgoing)
        elif kind == "done" and response.done.request_id in self.promised:
            ranges = self.promised.pop(response.done.request_id)
            self.write(job=self.job, acknowledged=ranges)
        elif kind == "warning":
            print(f"warning: {response.warning.message}", file=sys.stderr)
        return kind == "settled"

    def take(self, delivery, outgoing):
        kind = delivery.WhichOneof("content")
        if kind == "part":
            self.parts = [] if delivery.part.index == 0 else self.parts
            self.parts.append(delivery.part.data)
            if len(self.parts) < delivery.part.parts:
                return
            kind = ["trajectory", "group", "end"][delivery.part.content]
            getattr(delivery, kind).ParseFromString(b"".join(self.parts))
        content = getattr(delivery, kind)
        name = {"group": f"group-{delivery.index}", "end": "end"}.get(kind)
        name = name or content.trajectory_id
        data = content.SerializeToString(deterministic=True)
        digest = hashlib.sha256(data).hexdigest()[:16]
        if self.seen.setdefault(name, digest) != digest:
            sys.exit(f"{name} came with two contents")
        self.write(job=self.job, number=delivery.number, id=name, kind=kind, digest=digest,
                   redelivered=delivery.redelivered)
        if kind == "end":
            counts = ["requested", "extra", "completed", "truncated", "failed", "cancelled", "groups"]
            self.account = {"job": self.job, **{count: getattr(content, count) for count in counts}}
            self.write(**self.account)
        self.unacknowledged.append(delivery.number)
        if len(self.unacknowledged) >= WINDOW // 4 or kind == "end":
            self.acknowledge(outgoing)

    def acknowledge(self, outgoing):
        pb, numbers = self.pb, sorted(self.unacknowledged)
        self.request_id += 1
        ranges = []
        for number in numbers:
            if ranges and ranges[-1][1] + 1 == number:
                ranges[-1][1] = number
            else:
                ranges.append([number, number])
        self.promised[self.request_id] = ranges
        wire = [pb.NumberRange(first=first, last=last) for first, last in ranges]
        words = pb.Acknowledge(job_id=self.job, ranges=wire)
        outgoing.put(pb.DriveRequest(request_id=self.request_id, acknowledge=words))
        credit = pb.GrantCredit(job_id=self.job, records=len(numbers))
        outgoing.put(pb.DriveRequest(credit=credit))
        self.unacknowledged = []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address")
    parser.add_argument("environment")
    parser.add_argument("episodes", type=int)
    parser.add_argument("--name", default="plain")
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--sessions", type=int, default=0)
    parser.add_argument("--max-steps", type=int, default=0)
    parser.add_argument("--action", help="a JSON object; random actions without it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log")
    arguments = parser.parse_args()
    trainer = Trainer(arguments)
    while not trainer.play():
        time.sleep(0.2)
    episodes = [name for name in trainer.seen if name != "end" and not name.startswith("group-")]
    account = {**trainer.account, "received": len(episodes)}
    account["requested"] += account.pop("extra")
    print(json.dumps(account))
    return 0 if account["received"] == account["requested"] else 1


if __name__ == "__main__":
    sys.exit(main())
