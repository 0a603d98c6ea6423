"""JSON-RPC requests of a session: tools, as `/mcp` serves them, and the Task API."""

import inspect
import json

from openenv.core.env_server.mcp_types import (
    CallToolAction,
    CallToolObservation,
    JsonRpcErrorCode,
    JsonRpcRequest,
    JsonRpcResponse,
    ListToolsAction,
    ListToolsObservation,
    WSMCPResponse,
)

# The Task API's methods, which are the engine's own words (protocol/src/openenv/tasks.rs).
TASKS = "envmill/tasks/"


def frame(response):
    return WSMCPResponse(data=response.model_dump()).model_dump_json().encode()


async def answer(adapter, env, text, step):
    """The response to a request. `step` takes an action the way the session does."""
    try:
        request = JsonRpcRequest(**json.loads(text))
    except Exception as error:  # noqa: BLE001
        return JsonRpcResponse.error_response(
            JsonRpcErrorCode.INVALID_REQUEST, f"Invalid request: {error}"
        )
    if not isinstance(request.params, dict):
        return refused(request, JsonRpcErrorCode.INVALID_PARAMS, "Params must be an object")
    try:
        if request.method == "tools/list":
            return await list_tools(adapter, env, request, step)
        if request.method == "tools/call":
            return await call_tool(adapter, env, request, step)
        if request.method.startswith(TASKS):
            return await task(env, request)
    except Exception as error:  # noqa: BLE001
        return refused(request, JsonRpcErrorCode.INTERNAL_ERROR, str(error))
    return refused(
        request, JsonRpcErrorCode.METHOD_NOT_FOUND, f"Method not found: {request.method}"
    )


def refused(request, code, message):
    return JsonRpcResponse.error_response(code, message, request_id=request.id)


def told(request, result):
    return JsonRpcResponse.success(result=result, request_id=request.id)


async def list_tools(adapter, env, request, step):
    client, server = getattr(env, "mcp_client", None), getattr(env, "mcp_server", None)
    if client is not None:
        tools = await with_session(env, client, client.list_tools)
        return told(request, {"tools": [dumped(tool) for tool in tools]})
    if server is not None:
        tools = [
            {
                "name": tool.name,
                "description": tool.description or "",
                "inputSchema": tool.parameters or {},
            }
            for tool in server_tools(server).values()
        ]
        return told(request, {"tools": tools})
    if adapter.action_cls in (CallToolAction, ListToolsAction):
        seen = await step(ListToolsAction())
        if isinstance(seen, ListToolsObservation):
            return told(request, {"tools": [tool.model_dump() for tool in seen.tools]})
        message = (
            f"MCP-style tools/list step returned {type(seen).__name__}, expected ListToolsObservation"
        )
        return refused(request, JsonRpcErrorCode.INTERNAL_ERROR, message)
    return refused(request, JsonRpcErrorCode.INTERNAL_ERROR, "Environment does not support MCP")


async def call_tool(adapter, env, request, step):
    name, arguments = request.params.get("name"), request.params.get("arguments", {})
    if not name:
        return refused(request, JsonRpcErrorCode.INVALID_PARAMS, "Missing 'name' in params")
    client, server = getattr(env, "mcp_client", None), getattr(env, "mcp_server", None)
    if client is not None:
        result = await with_session(
            env, client, lambda: client.call_tool(name=name, arguments=arguments)
        )
        return told(request, plain(result))
    if server is not None:
        tool = server_tools(server).get(name)
        if tool is None:
            return refused(request, JsonRpcErrorCode.INVALID_PARAMS, f"Tool not found: {name}")
        return told(request, plain(await awaited(tool.fn(**arguments))))
    if adapter.action_cls in (CallToolAction, ListToolsAction):
        seen = await step(CallToolAction(tool_name=name, arguments=arguments))
        if isinstance(seen, CallToolObservation):
            return told(request, plain(seen))
        message = (
            f"MCP-style tools/call step returned {type(seen).__name__}, expected CallToolObservation"
        )
        return refused(request, JsonRpcErrorCode.INTERNAL_ERROR, message)
    return refused(request, JsonRpcErrorCode.INTERNAL_ERROR, "Environment does not support MCP")


async def with_session(env, client, operation):
    """Runs an operation of an environment's client, within the session's connection if it stands."""
    if client.is_connected():
        return await operation()
    session = getattr(env, "mcp_session", None)
    async with session() if callable(session) else client:
        return await operation()


async def task(env, request):
    """`list_splits`, `list_tasks`, `num_tasks`, `get_task` or `get_task_range` of an environment."""
    name, params = request.method.removeprefix(TASKS), request.params
    arguments = {
        "list_splits": (),
        "list_tasks": ("split",),
        "num_tasks": ("split",),
        "get_task": ("split", "index"),
        "get_task_range": ("split", "start", "stop"),
    }.get(name)
    method = getattr(env, name, None) if arguments is not None else None
    missing = f"{name} is not supported for this environment"
    if not callable(method):
        return refused(request, JsonRpcErrorCode.METHOD_NOT_FOUND, missing)
    try:
        result = await awaited(method(*(params.get(argument) for argument in arguments)))
    except NotImplementedError:
        return refused(request, JsonRpcErrorCode.METHOD_NOT_FOUND, missing)
    except IndexError:
        return refused(request, JsonRpcErrorCode.INVALID_PARAMS, "Invalid task index")
    if name == "list_splits":
        result = [split(each) for each in result]
    elif name != "num_tasks":
        result = plain(result)
    return told(request, result)


def split(found):
    """A split as the server lists it, whatever form the environment gives it in."""
    if isinstance(found, dict) or hasattr(found, "model_dump"):
        return dumped(found)
    name = str(found)
    known = isinstance(found, str) and name in ("train", "validation", "test")
    return {"name": name, "type": name if known else "validation"}


def server_tools(server):
    from openenv.core.env_server.mcp_environment import get_server_tools

    return get_server_tools(server)


def dumped(found):
    return found.model_dump() if hasattr(found, "model_dump") else plain(dict(found))


def plain(value):
    """A value as JSON can hold it: models by their fields, other objects by their attributes."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if hasattr(value, "model_dump"):
        return value.model_dump()
    if hasattr(value, "__dict__"):
        return {key: plain(each) for key, each in vars(value).items()}
    return str(value)


async def awaited(value):
    return await value if inspect.isawaitable(value) else value
