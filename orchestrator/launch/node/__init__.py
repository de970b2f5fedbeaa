"""What runs on a host of a run: the agent, the way to it, and what is said over it.

Only the standard library and `orchestrator.{errors,cluster,launch}` may be
imported here: on a host there is nothing else.
"""
