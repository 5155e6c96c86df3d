"""Reads a stream to its end and posts on the same pool, again and again."""

import sys

import httpx

base, path, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
failed, last = 0, ""
with httpx.Client(timeout=60, headers={"Authorization": "Bearer reader"}) as client:
    for _ in range(rounds):
        try:
            with client.stream("GET", base + path) as stream:
                for _ in stream.iter_bytes():
                    pass
            client.post(base + "/post", content="x").raise_for_status()
        except httpx.HTTPError as error:
            failed, last = failed + 1, repr(error)
print(f"{rounds} rounds, {failed} failed {last}".strip())
