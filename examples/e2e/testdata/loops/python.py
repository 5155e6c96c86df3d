# usage: python python.py CONFIG
import json
import sys

import follow

config = json.loads(sys.argv[1])
tokens, current = config["tokens"], 0
task_id, last_event_id = config["tasks"][0]


def say(line):
    print(line, flush=True)


def token(fresh):
    global current
    if fresh:
        current = min(current + 1, len(tokens) - 1)
        say("fresh")
    return tokens[current]


try:
    follow.follow(
        config["base"], task_id, token,
        on_event=lambda event: say(f"event {event['eventId']} {event['type']}"),
        on_gap=lambda gap: say("gap"),
        last_event_id=last_event_id, silence=config["silence"] / 1000,
    )
    say(f"over {task_id} ")
except RuntimeError as refused:
    say(f"over {task_id} {refused}")
