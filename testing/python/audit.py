"""Checks what a trainer has received against what it was promised, from the trainer's log alone.

    python testing/python/audit.py log.jsonl

Each line of the log is one JSON object, of one of four kinds:

    {"job", "number", "id", "kind", "digest", "redelivered"}   a record was received
    {"job", "acknowledged": [[first, last], ...]}              the engine has confirmed these
    {"job", "rewound": number}                                 what is above may come again
    {"job", "requested", "extra"}                              the job's account, as received

It knows nothing of the engine and shares no code with `envmill audit`, which also reads the journal.
Findings go to standard output; the exit status is 1 if there are any.
"""

import json
import sys
from collections import defaultdict


class Job:
    def __init__(self):
        self.digests = {}
        self.number_of = {}
        self.id_of = {}
        self.acknowledged = []
        self.counted = set()
        self.account = None

    def is_acknowledged(self, number):
        return any(first <= number <= last for first, last in self.acknowledged)


def audit(lines):
    """Yields what is wrong, as text."""
    jobs = defaultdict(Job)
    for place, line in enumerate(lines, 1):
        if not line.endswith("\n"):
            break  # the trainer was killed while it wrote
        entry = json.loads(line)
        job, name = jobs[entry["job"]], entry["job"]
        if "number" in entry:
            number, record = entry["number"], (entry["kind"] == "stale", entry["id"])
            where = f"line {place}: {name} {number} ({entry['id']})"
            if job.digests.setdefault(entry["id"], entry["digest"]) != entry["digest"]:
                yield f"{where}: another content than before"
            if job.number_of.setdefault(entry["id"], number) != number:
                yield f"{where}: delivered before as {job.number_of[entry['id']]}"
            if job.id_of.setdefault(number, record) != record:
                yield f"{where}: the number was {job.id_of[number][1]} before"
            elif number in job.counted and not entry["redelivered"]:
                yield f"{where}: received before, and not marked as redelivered"
            if job.is_acknowledged(number):
                yield f"{where}: acknowledged before"
            job.counted.add(number)
        elif "acknowledged" in entry:
            for first, last in entry["acknowledged"]:
                for number in range(first, last + 1):
                    if number not in job.counted:
                        yield f"line {place}: {name} {number}: acknowledged and never received"
            job.acknowledged = merge(job.acknowledged + entry["acknowledged"])
        elif "rewound" in entry:
            limit = entry["rewound"]
            job.acknowledged = [[a, min(b, limit)] for a, b in job.acknowledged if a <= limit]
        elif "requested" in entry:
            job.account = entry["requested"] + entry["extra"]
    for name, job in sorted(jobs.items()):
        yield from losses(name, job)


def losses(name, job):
    """What is missing of one job."""
    numbers = sorted(job.counted)
    for before, after in zip([0] + numbers, numbers):
        if after != before + 1:
            yield f"{name}: numbers {before + 1}-{after - 1} were never received"
    if job.account is None:
        return
    prefix = f"{name}-"
    episodes = {int(it[len(prefix):]) for it in job.digests if it.startswith(prefix)}
    for missing in sorted(set(range(job.account)) - episodes)[:20]:
        yield f"{name}: episode {missing} was never received"
    for strange in sorted(episodes - set(range(job.account)))[:20]:
        yield f"{name}: episode {strange} was never asked for"


def merge(ranges):
    merged = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    return merged


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as log:
        findings = list(audit(log))
    for finding in findings:
        print(finding)
    print(f"{len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
