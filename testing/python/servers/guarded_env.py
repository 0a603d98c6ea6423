# bench_env for those who say that they know the token TOKEN. Anybody may ask after its health.
import os

from bench_env import app as unguarded

AUTHORIZATION = f"Bearer {os.environ['TOKEN']}".encode()


async def app(scope, receive, send):
    is_free = scope["type"] == "lifespan" or scope["path"] == "/health"
    if is_free or dict(scope["headers"]).get(b"authorization") == AUTHORIZATION:
        await unguarded(scope, receive, send)
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 401, "headers": []})
        await send({"type": "http.response.body", "body": b"who asks?"})
    else:
        await send({"type": "websocket.close"})
