"""Tools of MCP servers as tools of a release. Nothing else of the runtime depends on this room.

`servers`, `discoveries` and `reviews` are the verbs; `connections` keeps what a worker has open, over `stdio` or `web`;
`executing` is what the engine calls. The package `mcp` is imported where a connection is made, never before: it takes a
second.
"""
