"""The index of the kept pictures: an SQLite file in their folder, which can be made again from them at any time.

One connection writes, under one lock; other studios on the same folder wait for it as SQLite has them do (WAL).
"""

import os
import re
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from gmi_ui.history.facts import Kept
from gmi_ui.notices import NotPossibleError

SCHEMA = 1
WAIT = 15.0  # seconds for another studio's writing
MOST_FAMILY = 300  # pictures of one lineage
DEEPEST = 100  # steps of one lineage
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_BESIDE = ("", "-wal", "-shm")  # the files of one index

_TABLES = f"""
CREATE TABLE pictures (
    id TEXT NOT NULL UNIQUE, path TEXT NOT NULL, made REAL NOT NULL, task TEXT NOT NULL, how TEXT NOT NULL,
    prompt TEXT NOT NULL, model TEXT NOT NULL, prompt_model TEXT NOT NULL, seed INTEGER NOT NULL, step INTEGER NOT NULL,
    side TEXT NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, settings TEXT NOT NULL, score REAL, fit REAL,
    parent TEXT NOT NULL, number INTEGER PRIMARY KEY AUTOINCREMENT, liked INTEGER NOT NULL DEFAULT 0,
    tags TEXT NOT NULL DEFAULT '', trashed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX newest ON pictures (trashed, made DESC, number DESC);
CREATE INDEX children ON pictures (parent);
CREATE VIRTUAL TABLE words USING fts5(
    prompt, tags, content='pictures', content_rowid='number', tokenize='unicode61 remove_diacritics 2'
);
CREATE TRIGGER added AFTER INSERT ON pictures BEGIN
    INSERT INTO words (rowid, prompt, tags) VALUES (new.number, new.prompt, new.tags);
END;
CREATE TRIGGER removed AFTER DELETE ON pictures BEGIN
    INSERT INTO words (words, rowid, prompt, tags) VALUES ('delete', old.number, old.prompt, old.tags);
END;
CREATE TRIGGER renamed AFTER UPDATE OF tags ON pictures BEGIN
    INSERT INTO words (words, rowid, prompt, tags) VALUES ('delete', old.number, old.prompt, old.tags);
    INSERT INTO words (rowid, prompt, tags) VALUES (new.number, new.prompt, new.tags);
END;
CREATE TABLE state (revision INTEGER NOT NULL);
INSERT INTO state VALUES (1);
PRAGMA user_version = {SCHEMA};
"""

_COLUMNS = tuple(field.name for field in fields(Kept))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM pictures"
_ADD = f"INSERT INTO pictures ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_NEWEST = "ORDER BY made DESC, number DESC LIMIT ? OFFSET ?"
# The pictures that one was made from, and all that were made from it, it included.
_FAMILY = f"""
WITH RECURSIVE up (id, parent, depth) AS (
    SELECT id, parent, 0 FROM pictures WHERE number = :number
    UNION SELECT p.id, p.parent, depth + 1 FROM pictures p JOIN up ON p.id = up.parent WHERE depth < {DEEPEST}
), down (id, depth) AS (
    SELECT id, 0 FROM pictures WHERE number = :number
    UNION SELECT p.id, depth + 1 FROM pictures p JOIN down ON p.parent = down.id WHERE depth < {DEEPEST}
    LIMIT {MOST_FAMILY}
)
{_SELECT} WHERE id IN (SELECT id FROM up UNION SELECT id FROM down) ORDER BY made, number
"""


class IndexBrokenError(Exception):
    """The file is no index, or a damaged one: it has to be made again."""


@dataclass(frozen=True)
class Wanted:
    """Which pictures are asked for. words: all of them begin words of the prompt or a tag; since, until: seconds since
    1970.
    """

    words: str = ""
    model: str = ""
    task: str = ""
    liked: bool = False
    since: float | None = None
    until: float | None = None
    trashed: bool = False

    @property
    def clause(self) -> tuple[str, list[object]]:
        """SQL and its values."""
        parts: list[tuple[str, object]] = [("trashed = ?", int(self.trashed))]
        if self.words.strip():
            parts.append(("number IN (SELECT rowid FROM words WHERE words MATCH ?)", match_of(self.words)))
        parts += [(f"{name} = ?", value) for name, value in (("model", self.model), ("task", self.task)) if value]
        if self.liked:
            parts.append(("liked = ?", 1))
        if self.since is not None:
            parts.append(("made >= ?", self.since))
        if self.until is not None:
            parts.append(("made < ?", self.until))
        return "WHERE " + " AND ".join(part for part, _ in parts), [value for _, value in parts]


def match_of(words: str) -> str:
    """A full-text query for the beginnings of words, whatever a person types; one that finds nothing where none is a
    word.
    """
    found = re.findall(r"\w+", words)[:32]
    return " ".join(f'"{word}"*' for word in found) or '""'


class Index:
    """The file at `path`. Every method may be called from any thread.

    All raise IndexBrokenError where it has to be made again, NotPossibleError where it cannot be used now.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._opened: os.stat_result | None = None  # the file that the connection has

    def make(self) -> None:
        """Takes what is there away and makes an empty index."""
        with self._lock:
            self.close()
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                for beside in _BESIDE:
                    self._path.with_name(self._path.name + beside).unlink(missing_ok=True)
            except OSError as error:
                raise _unavailable(error) from error
            with self._told():
                connection = self._connect()
                connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} COMMIT;")
                self._take(connection)

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                with suppress(sqlite3.Error):
                    self._connection.close()
            self._connection = None

    # --- reading

    @property
    def revision(self) -> int:
        """Rises with every change, whoever makes it."""
        with self._reading() as connection:
            return int(connection.execute("SELECT revision FROM state").fetchone()[0])

    def page(self, wanted: Wanted, offset: int, limit: int) -> list[Kept]:
        """The newest first."""
        where, values = wanted.clause
        with self._reading() as connection:
            return _kept(connection.execute(f"{_SELECT} {where} {_NEWEST}", (*values, limit, offset)))

    def count(self, wanted: Wanted) -> int:
        where, values = wanted.clause
        with self._reading() as connection:
            return int(connection.execute(f"SELECT count(*) FROM pictures {where}", values).fetchone()[0])

    def find(self, number: int) -> Kept | None:
        with self._reading() as connection:
            return next(iter(_kept(connection.execute(f"{_SELECT} WHERE number = ?", (number,)))), None)

    def by_id(self, sha256: str) -> Kept | None:
        with self._reading() as connection:
            return next(iter(_kept(connection.execute(f"{_SELECT} WHERE id = ?", (sha256,)))), None)

    def family(self, number: int) -> list[Kept]:
        """What a picture was made from and what was made from it, itself included; the oldest first."""
        with self._reading() as connection:
            return _kept(connection.execute(_FAMILY, {"number": number}))

    def models(self) -> list[str]:
        with self._reading() as connection:
            return [name for (name,) in connection.execute("SELECT DISTINCT model FROM pictures ORDER BY model")]

    def paths(self) -> dict[str, int]:
        """The number of each picture by its path."""
        with self._reading() as connection:
            return dict(connection.execute("SELECT path, number FROM pictures"))

    # --- writing

    def add(self, kept: Kept) -> None:
        """A new picture; of one that is there already, where it lies now."""
        with self._writing() as connection:
            values = astuple(kept)
            place = _COLUMNS.index("number")
            known = connection.execute("SELECT number FROM pictures WHERE id = ?", (kept.id,)).fetchone()
            if known is not None:
                sql = "UPDATE pictures SET path = ?, trashed = ? WHERE number = ?"
                connection.execute(sql, (kept.path, kept.trashed, known[0]))
            else:
                connection.execute(_ADD, (*values[:place], None, *values[place + 1 :]))

    def mark(self, number: int, *, liked: bool, tags: str) -> None:
        with self._writing() as connection:
            connection.execute("UPDATE pictures SET liked = ?, tags = ? WHERE number = ?", (liked, tags, number))

    def move(self, number: int, path: str, *, trashed: bool) -> None:
        with self._writing() as connection:
            connection.execute("UPDATE pictures SET path = ?, trashed = ? WHERE number = ?", (path, trashed, number))

    def forget(self, numbers: Sequence[int]) -> None:
        with self._writing() as connection:
            connection.executemany("DELETE FROM pictures WHERE number = ?", [(number,) for number in numbers])

    # ---

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._told():
            yield self._current()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._told():
            connection = self._current()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("UPDATE state SET revision = revision + 1")
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """SQLite's errors as ours."""
        try:
            yield
        except sqlite3.Error as error:
            self.close()
            if isinstance(error, sqlite3.DatabaseError) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _BROKEN:
                raise IndexBrokenError(str(error)) from error
            raise _unavailable(error) from error

    def _current(self) -> sqlite3.Connection:
        """The connection to the file that is there now: another studio may have made it again."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            self.close()
            raise IndexBrokenError("it is not there") from error
        if self._connection is not None and self._opened is not None and os.path.samestat(found, self._opened):
            return self._connection
        self.close()
        connection = self._connect()
        self._take(connection)
        if connection.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
            self.close()
            raise IndexBrokenError("it was made by another version")
        if connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            self.close()
            raise IndexBrokenError("it is damaged")
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=WAIT, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _take(self, connection: sqlite3.Connection) -> None:
        self._connection, self._opened = connection, os.stat(self._path)


def _kept(rows: sqlite3.Cursor) -> list[Kept]:
    made = [dict(zip(_COLUMNS, row, strict=True)) for row in rows]
    return [Kept(**row | {"liked": bool(row["liked"]), "trashed": bool(row["trashed"])}) for row in made]


def _unavailable(error: Exception) -> NotPossibleError:
    return NotPossibleError(
        f"The list of your pictures cannot be used now ({error}). The pictures themselves are kept."
    )
