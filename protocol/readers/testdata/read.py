"""Follows a stream with httpx-sse and prints the data of each message, as JSON."""

import json
import sys

import httpx
from httpx_sse import connect_sse

with httpx.Client(timeout=60, headers={"Authorization": "Bearer reader"}) as client:
    with connect_sse(client, "GET", sys.argv[1]) as source:
        for message in source.iter_sse():
            print(json.dumps(message.data))
