"""The thread that keeps all conversations with hosts going, so that heartbeats wait for nothing."""

from __future__ import annotations

import os
import queue
import select
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from orchestrator.launch.node.frames import Header
from orchestrator.launch.ssh.conversation import Conversation, Deliver

LONGEST_WAIT_SECONDS = 1.0
_JOIN_SECONDS = 30.0
_MOST_WAITING_BYTES = 64 << 20
"""What is more is left to the hosts to keep."""

Arrival = tuple[str, Header, bytes]
"""A host, and what it says."""


class Switchboard:
    """Conversations by host, served by one thread; what hosts say waits to be taken by another.

    All methods are for that other thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._conversations: dict[str, Conversation] = {}
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._thread: threading.Thread | None = None
        self._ending = False
        self._waiting_bytes = 0

    def open(self, host: str, make: Callable[[Deliver], Conversation]) -> None:
        """Begins a conversation, in place of one with that host that is over."""

        def deliver(header: Header, payload: bytes) -> None:
            self._waiting_bytes += len(payload)
            self._arrivals.put((host, header, payload))

        with self._lock:
            before = self._conversations.pop(host, None)
            if before is not None:
                before.end()
            conversation = self._conversations[host] = make(deliver)
            conversation.keeping_up = lambda: self._waiting_bytes < _MOST_WAITING_BYTES
            conversation.begin(self._clock())
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="ssh-hosts", daemon=True)
            self._thread.start()
        self._wake()

    def command(self, host: str, header: Header, payload: bytes = b"") -> None:
        """Says something that must arrive, sooner or later."""
        with self._lock:
            conversation = self._conversations.get(host)
            if conversation is not None and conversation.usable:
                conversation.command(header, payload)
        self._wake()

    def pass_by(self, host: str, header: Header, payload: bytes = b"") -> None:
        """Says something that may be lost with the connection."""
        with self._lock:
            conversation = self._conversations.get(host)
            if conversation is not None and conversation.usable:
                conversation.pass_by(header, payload)
        self._wake()

    def drop(self, host: str) -> None:
        """Ends a conversation; the host is told nothing."""
        with self._lock:
            conversation = self._conversations.pop(host, None)
            if conversation is not None:
                conversation.end()
        self._wake()

    def begun(self, host: str) -> bool:
        """Whether our program has begun on a host, over the present connection."""
        with self._lock:
            conversation = self._conversations.get(host)
            return conversation is not None and conversation.begun

    def unsent_bytes(self, host: str) -> int:
        """What waits to be written to a host."""
        with self._lock:
            conversation = self._conversations.get(host)
            return 0 if conversation is None else conversation.unsent_bytes

    def take(self, timeout: float) -> Arrival | None:
        """The next thing that a host said; None when none says anything within `timeout` seconds."""
        try:
            return (
                self._arrivals.get(timeout=max(0.0, timeout)) if timeout > 0 else self._arrivals.get_nowait()
            )
        except queue.Empty:
            return None

    def close(self) -> None:
        """Ends all connections; the hosts are told nothing."""
        with self._lock:
            self._ending = True
        self._wake()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)
        with self._lock:
            for conversation in self._conversations.values():
                conversation.end()
            self._conversations.clear()
            for fd in (self._wake_read, self._wake_write):
                if fd >= 0:
                    os.close(fd)
            self._wake_read = self._wake_write = -1

    def _wake(self) -> None:
        with self._lock, suppress(OSError):
            if self._wake_write >= 0:
                os.write(self._wake_write, b"x")

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._ending:
                    return
                now = self._clock()
                for conversation in list(self._conversations.values()):
                    conversation.serve(now)
                interest, wait = _interest(self._conversations), self._wait(now)
            self._sleep(interest, wait)

    def _wait(self, now: float) -> float:
        """How long nothing is due, in seconds."""
        times = [conversation.next_time() for conversation in self._conversations.values()]
        soonest = min((time for time in times if time is not None), default=now + LONGEST_WAIT_SECONDS)
        return min(LONGEST_WAIT_SECONDS, max(0.0, soonest - now))

    def _sleep(self, interest: Mapping[int, int], seconds: float) -> None:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        for fd, events in interest.items():
            poll.register(fd, events)
        poll.poll(seconds * 1000 + 1)
        with suppress(BlockingIOError):
            os.read(self._wake_read, 65536)


def _interest(conversations: Mapping[str, Conversation]) -> dict[int, int]:
    wanted: dict[int, int] = {}
    for conversation in conversations.values():
        if conversation.link is not None:
            wanted.update(conversation.link.interest())
    return wanted
