"""MovieLens 1M, 20M, 25M, 32M and latest: ratings joined with movies and, in 1M, users.

Source: https://grouplens.org/datasets/movielens/ (ml-1m.zip, ml-20m.zip, ml-25m.zip, ml-32m.zip, ml-latest.zip,
ml-latest-small.zip). Terms: research use, acknowledge GroupLens, no redistribution without permission.

1M, ISO-8859-1 text, no header, fields parted by `::`, no quotes:
    ratings.dat  UserID::MovieID::Rating::Timestamp     (1 to 5; seconds since 1970, UTC)
    users.dat    UserID::Gender::Age::Occupation::Zip-code
    movies.dat   MovieID::Title::Genres                 (Toy Story (1995); Animation|Comedy)
The others, UTF-8, a header, commas, quotes where a title has a comma; tags.csv, links.csv and genome-*.csv are not
read:
    ratings.csv  userId,movieId,rating,timestamp        (0.5 to 5 in halves)
    movies.csv   movieId,title,genres                   ("(no genres listed)" is an empty list)
The year is the last four digits in parentheses of the title, null where there are none. A movie that movies.* does not
list has nulls. Partitioned by month, as these logs span years; the ratings come by user, so each month is sorted.

Not sure of: 10M (ratings.dat with halves, no users.dat) is not taken, nor 100K (u.data).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from recdistill.data.importers.archive import Member, matching, missing, only
from recdistill.data.importers.lines import Chunk, Faults, Layout, read
from recdistill.data.importers.partitions import Partitions
from recdistill.data.importers.tables import Importer, Ready, Side, split_list, with_time
from recdistill.problems import BadInput

_OLD_RATINGS = {"user_id": pa.int64(), "movie_id": pa.int64(), "rating": pa.int8(), "seconds": pa.int64()}
_OLD_USERS = {
    "user_id": pa.int64(),
    "gender": pa.string(),
    "age": pa.int32(),
    "occupation": pa.int32(),
    "zip": pa.string(),
}
_OLD_MOVIES = {"movie_id": pa.int64(), "title": pa.string(), "genres": pa.string()}
_RATINGS = {"userId": pa.int64(), "movieId": pa.int64(), "rating": pa.float32(), "timestamp": pa.int64()}
_MOVIES = {"movieId": pa.int64(), "title": pa.string(), "genres": pa.string()}
_NAMES = {"userId": "user_id", "movieId": "movie_id", "timestamp": "seconds"}
_NO_GENRES = "(no genres listed)"


def load(path: Path, found: Sequence[Member], partitions: Partitions, faults: Faults) -> Ready:
    """Tells the two layouts apart by the name of the ratings."""
    if matching(found, r"ratings\.dat"):
        return _load_old(path, found, partitions, faults)
    if matching(found, r"ratings\.csv"):
        return _load_new(path, found, partitions, faults)
    wanted = "ratings.dat, users.dat and movies.dat, or ratings.csv and movies.csv"
    raise BadInput(missing(path, found, wanted))


def _load_old(path: Path, found: Sequence[Member], partitions: Partitions, faults: Faults) -> Ready:
    patterns = {"ratings.dat": r"ratings\.dat", "users.dat": r"users\.dat", "movies.dat": r"movies\.dat"}
    ratings, users, movies = only(path, found, patterns)
    user_table = Side(read(users, _old(_OLD_USERS), faults), "user_id", faults)
    movie_table = Side(_movies(movies, _old(_OLD_MOVIES), faults), "movie_id", faults)
    for chunk in read(ratings, _old(_OLD_RATINGS), faults):
        table = user_table.look_up(with_time(chunk, "seconds", "s", faults), "user_id")
        partitions.add(movie_table.look_up(table, "movie_id"))
    return _ready("movie_id, gender, age, occupation, year")


def _load_new(path: Path, found: Sequence[Member], partitions: Partitions, faults: Faults) -> Ready:
    ratings, movies = only(path, found, {"ratings.csv": r"ratings\.csv", "movies.csv": r"movies\.csv"})
    movie_table = Side(_movies(movies, Layout(columns=_MOVIES), faults), "movie_id", faults)
    for chunk in read(ratings, Layout(columns=_RATINGS), faults):
        table = with_time(_renamed(chunk), "seconds", "s", faults)
        partitions.add(movie_table.look_up(table, "movie_id"))
    return _ready("{column: movie_id, min_count: 5}, year")


def _old(columns: Mapping[str, pa.DataType]) -> Layout:
    return Layout(columns=columns, header=False, delimiter="::", quoted=False, encoding="latin-1")


def _renamed(chunk: Chunk) -> Chunk:
    names = [_NAMES.get(name, name) for name in chunk.table.column_names]
    return Chunk(table=chunk.table.rename_columns(names), first_line=chunk.first_line, where=chunk.where)


def _movies(member: Member, layout: Layout, faults: Faults) -> Iterator[Chunk]:
    for chunk in map(_renamed, read(member, layout, faults)):
        title, genres = chunk.table["title"], chunk.table["genres"]
        year = pc.struct_field(pc.extract_regex(title, r"\((?P<year>\d{4})\)\s*$"), "year").cast(pa.int32())
        lists = split_list(genres, "|", _NO_GENRES)
        table = pa.table({"movie_id": chunk.table["movie_id"], "title": title, "year": year, "genres": lists})
        yield Chunk(table=table, first_line=chunk.first_line, where=chunk.where)


def _ready(ids: str) -> Ready:
    about = """
    MovieLens: will this user rate this movie 4 or more? First 80% of the ratings in time train, the next 10% valid, the
    last 10% test; a request is a user's day. The user's id is left out: a model that reads it learns its users by heart
    instead of reading their histories."""
    data = """
    user: user_id
    label: {column: rating, at_least: 4}
    request: {user_every: day}
    split: {train: 0.8, valid: 0.1}"""
    features = f"""
    ids: [{ids}, {{column: genres, max_values: 6}}]
    history: {{item: movie_id, outcomes: [rating], length: 50}}"""
    return Ready(about=about, data=data, features=features)


IMPORTER = Importer(name="movielens", length="month", load=load)
