"""A store that replicas on several machines share: a Redis server.

Theory of operation. A transaction's writes wait in memory, level by level as savepoints nest, and are seen by its own
reads. At its end one script checks the guard row, and the version of each contended table that was read, and applies
all of them or none. Redis runs a script alone, so nothing comes between. A table is a hash of rows, and a sorted set of
their ids where all have one score, which Redis then keeps in the order of their bytes.

An answer that did not come leaves open whether the script ran. The step counts as undone, its memory is read again, and
either way nothing had left before.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from quietfleet.errors import ErasureDelayed, Fenced, SettingsError, StoreUnavailable
from quietfleet.storage._rows import Guard, RowTable

if TYPE_CHECKING:
    import redis

PATIENCE: Final = 2.0  # seconds for an answer: a server in the same network takes less than a thousandth of it

_DONE: Final = 1
_ABOVE: Final = b"\xff" * 65  # no id is that long

# KEYS: the guard's hash, the hash of versions, then hash and sorted set of each table.
# ARGV: the guard (0 none, 1 absent, 2 equal), its id and row; then counted lists: versions that must hold, versions to
# raise, rows to put, ids to delete; tables are named by their place among KEYS.
_COMMIT: Final = """
local at = 4
local function take() local value = ARGV[at]; at = at + 1; return value end
if ARGV[1] ~= '0' then
  local kept = redis.call('HGET', KEYS[1], ARGV[2])
  if ARGV[1] == '1' and kept then return 0 end
  if ARGV[1] == '2' and kept ~= ARGV[3] then return 0 end
end
for _ = 1, tonumber(take()) do
  local name, version = take(), take()
  if (redis.call('HGET', KEYS[2], name) or '0') ~= version then return 0 end
end
for _ = 1, tonumber(take()) do redis.call('HINCRBY', KEYS[2], take(), 1) end
for _ = 1, tonumber(take()) do
  local place, id, row = tonumber(take()), take(), take()
  redis.call('HSET', KEYS[place], id, row)
  redis.call('ZADD', KEYS[place + 1], 0, id)
end
for _ = 1, tonumber(take()) do
  local place, id = tonumber(take()), take()
  redis.call('HDEL', KEYS[place], id)
  redis.call('ZREM', KEYS[place + 1], id)
end
return 1
"""

Level = dict[tuple[str, bytes], bytes | None]  # what a transaction puts, or deletes, by table and id


class RedisStore:
    """Tables under one namespace of a server; `namespace` names nobody."""

    def __init__(self, client: redis.Redis, namespace: str) -> None:
        self.guard: Guard | None = None
        self._client: Any = client
        self._prefix = f"quietfleet:{{{namespace}}}"  # the braces keep all of it in one slot of a cluster
        self._commit = client.register_script(_COMMIT)
        self._levels: list[Level] = []
        self._contended: set[str] = set()
        self._versions: dict[str, bytes] = {}

    @contextmanager
    def transaction(self) -> Iterator[object]:
        self._levels.append({})
        try:
            yield self
        except BaseException:
            self._levels.pop()
            raise
        finally:
            if not self._levels:
                self._versions = {}
        level = self._levels.pop()
        if self._levels:
            self._levels[-1].update(level)
            return
        versions, self._versions = self._versions, {}
        if level:
            self._apply(level, versions)

    def table(self, name: str, *, contended: bool = False) -> RowTable:
        if contended:
            self._contended.add(name)
        return _RedisTable(self, name)

    def snapshot(self, names: Sequence[str]) -> dict[str, dict[bytes, bytes]]:
        for name in names:
            self.written(name)  # what is read of a contended table must hold until the end
        with _translated(), self._client.pipeline(transaction=True) as asked:
            for name in names:
                asked.hgetall(self.keys(name)[0])
            return dict(zip(names, asked.execute(), strict=True))

    def truncate_log(self) -> None:
        """Have the server write its file of commands anew, from the rows that there are; if it keeps one."""
        with _translated():
            persistence = self._client.info("persistence")
            if not persistence.get("aof_enabled"):
                return
            if persistence.get("aof_rewrite_in_progress") or persistence.get("rdb_bgsave_in_progress"):
                raise ErasureDelayed("the server is writing its file")
            self._client.bgrewriteaof()

    def close(self) -> None:
        self._client.close()

    def keys(self, table: str) -> tuple[str, str]:
        """The names of a table's hash and sorted set."""
        return f"{self._prefix}:{table}:rows", f"{self._prefix}:{table}:ids"

    def ask(self, command: str, *arguments: Any) -> Any:
        """Have the server run one command."""
        with _translated():
            return self._client.execute_command(command, *arguments)

    def write(self, table: str, changes: dict[bytes, bytes | None]) -> None:
        """Note changes in the transaction under way, or make them in one of their own."""
        with self.transaction():
            self._levels[-1].update({(table, row_id): row for row_id, row in changes.items()})

    def written(self, table: str) -> dict[bytes, bytes | None]:
        """What the transaction under way has changed in a table; reading a contended one ties it to what it reads."""
        if self._levels and table in self._contended and table not in self._versions:
            self._versions[table] = self.ask("HGET", f"{self._prefix}:versions", table) or b"0"
        return {row_id: row for level in self._levels for (name, row_id), row in level.items() if name == table}

    def _apply(self, level: Level, versions: dict[str, bytes]) -> None:
        tables = sorted({table for table, _ in level})
        places = {table: 3 + 2 * index for index, table in enumerate(tables)}
        keys = [self._guard_key(), f"{self._prefix}:versions", *(key for table in tables for key in self.keys(table))]
        puts = [(places[table], row_id, row) for (table, row_id), row in level.items() if row is not None]
        gone = [(places[table], row_id) for (table, row_id), row in level.items() if row is None]
        raised = [(table,) for table in tables if table in self._contended]
        words = [word for listed in (versions.items(), raised, puts, gone) for word in _counted(listed)]
        with _translated():
            done = self._commit(keys=keys, args=[*self._guard_words(), *words])
        if done != _DONE:
            raise Fenced

    def _guard_key(self) -> str:
        return self.keys(self.guard.table if self.guard else "none")[0]

    def _guard_words(self) -> tuple[int, bytes, bytes]:
        if self.guard is None:
            return 0, b"", b""
        return (1 if self.guard.row is None else 2), self.guard.row_id, self.guard.row or b""


def _counted(listed: Collection[tuple[Any, ...]]) -> Iterator[Any]:
    yield len(listed)
    for one in listed:
        yield from one


class _RedisTable:
    """One table, with what the transaction under way has changed in it laid over what the server has."""

    def __init__(self, store: RedisStore, name: str) -> None:
        self._store = store
        self._name = name
        self._rows, self._ids = store.keys(name)

    def put(self, row_id: bytes, row: bytes) -> None:
        self._store.write(self._name, {row_id: row})

    def put_many(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        self._store.write(self._name, dict(rows))

    def get(self, row_id: bytes) -> bytes | None:
        written = self._store.written(self._name)
        if row_id in written:
            return written[row_id]
        row: bytes | None = self._store.ask("HGET", self._rows, row_id)
        return row

    def delete(self, row_id: bytes) -> None:
        self._store.write(self._name, {row_id: None})

    def delete_many(self, row_ids: Iterable[bytes]) -> None:
        self._store.write(self._name, dict.fromkeys(row_ids))

    def delete_all(self, *prefixes: bytes) -> None:
        self.delete_many(row_id for prefix in prefixes for row_id in self.ids(prefix))

    def ids(self, prefix: bytes = b"") -> list[bytes]:
        written = self._store.written(self._name)
        kept = {row_id for row_id in self._stored_ids(prefix) if written.get(row_id, b"") is not None}
        fresh = {row_id for row_id, row in written.items() if row is not None and row_id.startswith(prefix)}
        return sorted(kept | fresh)

    def all(self, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        written = self._store.written(self._name)
        rows = self._stored(prefix) | {row_id: row for row_id, row in written.items() if row_id.startswith(prefix)}
        return sorted((row_id, row) for row_id, row in rows.items() if row is not None)

    def _stored_ids(self, prefix: bytes) -> list[bytes]:
        ids: list[bytes] = self._store.ask("ZRANGEBYLEX", self._ids, b"[" + prefix, b"(" + prefix + _ABOVE)
        return ids

    def _stored(self, prefix: bytes) -> dict[bytes, bytes | None]:
        if not prefix:
            return dict(self._store.ask("HGETALL", self._rows))
        ids = self._stored_ids(prefix)
        return dict(zip(ids, self._store.ask("HMGET", self._rows, *ids), strict=True)) if ids else {}


def open_redis(url: str, password: str | None, namespace: str) -> RedisStore:
    """Connect when first needed; raises `SettingsError` where the library is missing or the address is no good."""
    try:
        import redis  # noqa: PLC0415 - an extra: only replicas on several machines need it
    except ModuleNotFoundError as error:
        raise SettingsError("[oracle] store names a Redis server: install quietfleet[replicated]") from error
    try:
        client = redis.Redis.from_url(
            url,
            password=password,
            protocol=2,
            retry=None,
            socket_timeout=PATIENCE,
            socket_connect_timeout=PATIENCE,
        )
    except ValueError as error:
        raise SettingsError(f"[oracle] store: {error}") from error
    return RedisStore(client, namespace)


@contextmanager
def _translated() -> Iterator[None]:
    import redis  # noqa: PLC0415 - as above

    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise StoreUnavailable(str(error)) from error
