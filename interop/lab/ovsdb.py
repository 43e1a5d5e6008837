"""One OVSDB transaction at a time over a unix socket (RFC 7047), as plain dictionaries. Nothing is cached."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from .shell import LabError


def mapping(values: dict[str, str]) -> list:
    """A map column."""
    return ["map", [[key, value] for key, value in sorted(values.items())]]


def members(values: list) -> list:
    """A set column."""
    return ["set", values]


def named(name: str) -> list:
    """A reference to a row inserted in the same transaction."""
    return ["named-uuid", name]


class Database:
    """A connection to one database of an ovsdb-server."""

    def __init__(self, path: Path, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(60.0)
        # Socket paths are limited to 107 octets; a path through an open directory never comes near it.
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self._socket.connect(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
        self._decoder = json.JSONDecoder()
        self._buffer = ""
        self._next_id = 0

    def close(self) -> None:
        self._socket.close()

    def transact(self, operations: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Commits the operations in one transaction and returns the server's result for each."""
        self._next_id += 1
        request = {"method": "transact", "params": [self.name, *operations], "id": self._next_id}
        self._socket.sendall(json.dumps(request).encode())
        while True:
            message = self._receive()
            if message.get("method") == "echo":
                reply = {"result": message.get("params"), "error": None, "id": message.get("id")}
                self._socket.sendall(json.dumps(reply).encode())
            elif message.get("id") == self._next_id:
                break
        results = message.get("result") or []
        faults = [entry for entry in results if entry and entry.get("error")]
        if message.get("error") or faults:
            raise LabError(f"{self.name} refused a transaction: {message.get('error') or faults}")
        return results

    def select(self, table: str, where: list | None = None, columns: list[str] | None = None) -> list[dict[str, Any]]:
        """Rows of a table."""
        operation: dict[str, Any] = {"op": "select", "table": table, "where": where or []}
        if columns:
            operation["columns"] = columns
        return self.transact([operation])[0]["rows"]

    def _receive(self) -> dict[str, Any]:
        while True:
            text = self._buffer.lstrip()
            if text:
                try:
                    message, end = self._decoder.raw_decode(text)
                    self._buffer = text[end:]
                    return message
                except ValueError:
                    self._buffer = text
            chunk = self._socket.recv(1 << 20)
            if not chunk:
                raise LabError(f"{self.name}: the database server closed the connection")
            self._buffer += chunk.decode()
