"""Values to ids and numbers: known from the train rows alone, the same alone, in batches and after a trip to disk."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from conftest import make_run, write_log

from recdistill.config.features import Features
from recdistill.data import parts
from recdistill.data.encoder import Encoder
from recdistill.data.prepare import open_checked, read_view
from recdistill.data.write import encode
from recdistill.problems import BadInput
from recdistill.types import ABSENT, FIRST_KNOWN, OOV

FEATURES = Features.model_validate(
    {
        "ids": ["item", "country", {"column": "tags", "max_values": 2}],
        "dense": ["price", {"column": "stock", "transform": "log1p"}],
        "history": {"item": "item", "outcomes": ["clicked"], "length": 3},
    }
)
TRAIN = {
    "item": [70, 50, 50, None],
    "country": ["b", "a", None, "b"],
    "tags": [["x", "y", "z"], None, [], ["x", None]],
    "price": [1.0, 2.0, None, 6.0],
    "stock": [0, 3, 8, None],
    "clicked": [1, 0, 0, 1],
}
TYPES = pa.schema(
    [
        ("item", pa.int64()),
        ("country", pa.string()),
        ("tags", pa.list_(pa.string())),
        ("price", pa.float64()),
        ("stock", pa.int32()),
        ("clicked", pa.int8()),
    ]
)


def rows(**columns):
    """A record batch of the train rows with some columns replaced."""
    values = {**TRAIN, **columns}
    num = len(next(iter(columns.values()))) if columns else len(TRAIN["item"])
    repeated = {name: list(itertools.islice(itertools.cycle(values[name]), num)) for name in TRAIN}
    return pa.record_batch({name: pa.array(repeated[name], TYPES.field(name).type) for name in TRAIN})


SPLIT = {"valid_from": "2026-01-02", "test_from": "2026-01-03"}
DAYS = [1767225600, 1767312000, 1767398400]  # the first of January 2026, in seconds, and the two days after it


def fit(root, features, train):
    """The encoder of a log whose train window is these rows, a file each; later rows hold other values."""
    other = {"item": [1, 2], "country": ["y", "z"], "tags": [["later"]] * 2, "price": [-9.0, 9e9]}
    later = rows(**other, stock=[77, 99], clicked=[1, 0])
    files = {}
    for number, batch in enumerate([*train, later]):
        days = [DAYS[0]] * len(batch) if batch is not later else DAYS[1:]
        table = pa.Table.from_batches([batch])
        for name, values in (("timestamp", days), ("user_id", [7] * len(batch)), ("request_id", days)):
            table = table.append_column(name, pa.array(values, pa.int64()))
        files[f"{number:02d}.parquet"] = table
    data = {"split": SPLIT, "time_unit": "s", "contract": {"min_rows": 0}}
    run = make_run(write_log(root / "log", files), root, features=features.model_dump(mode="json"))
    run = run.model_validate({**run.model_dump(mode="json"), "data": {**run.data.model_dump(mode="json"), **data}})
    out = root / "out"
    out.mkdir()
    found = encode(run, read_view(run, open_checked(run), out), out, ["train"])
    found.save(root / "encoder")
    return Encoder.open(root / "encoder")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("fitted"), FEATURES, [rows()])


def known(encoder, table):
    return encoder.tables[table].values.to_pylist()


def now(encoder, **columns):
    return encoder.now(rows(**columns))


def test_known_values_are_numbered_in_their_own_order_from_two(encoder):
    ids, _ = now(encoder, item=[50, 70])
    assert ids[:, 0].tolist() == [FIRST_KNOWN, FIRST_KNOWN + 1]
    assert now(encoder, country=["a", "b"])[0][:, 1].tolist() == [FIRST_KNOWN, FIRST_KNOWN + 1]


def test_a_null_is_absent_and_a_new_value_is_unknown(encoder):
    assert now(encoder, item=[None, 71])[0][:, 0].tolist() == [ABSENT, OOV]
    assert now(encoder, country=[None, "", "A"])[0][:, 1].tolist() == [ABSENT, OOV, OOV]


def test_a_list_is_its_first_values_with_nulls_absent_and_short_ones_padded(encoder):
    x, y = FIRST_KNOWN, FIRST_KNOWN + 1
    lists = [["x", "y", "z"], None, [], ["x", None], [None, "y"], ["new", "y"], ["y"]]
    ids, _ = now(encoder, tags=lists)
    assert ids[:, 2:4].tolist() == [[x, y], [0, 0], [0, 0], [x, 0], [0, y], [OOV, y], [y, 0]]


def test_a_value_that_only_stood_beyond_max_values_is_not_known(encoder):
    assert known(encoder, "tags") == ["x", "y"]
    assert now(encoder, tags=[["z"]])[0][0, 2:4].tolist() == [OOV, ABSENT]


def test_numbers_are_scaled_by_the_train_rows_and_a_null_is_the_mean(encoder):
    _, dense = now(encoder, price=[1.0, 2.0, None, 6.0])
    deviation = np.sqrt(((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 3)
    assert dense[:, 0] == pytest.approx(np.array([-2, -1, 0, 3]) / deviation)
    logs = np.log1p([0, 3, 8])
    assert now(encoder, stock=[0, 3, 8])[1][:, 1] == pytest.approx((logs - logs.mean()) / logs.std())
    assert dense.dtype == np.float32


def test_a_constant_column_becomes_zero(tmp_path):
    features = Features.model_validate({"ids": ["item"], "dense": ["price"]})
    fitted = fit(tmp_path / "again", features, [rows(price=[4.0] * 4)])
    assert now(fitted, price=[4.0, 5.0])[1].tolist() == [[0.0], [1.0]]


def test_columns_without_a_value_are_told_at_once(tmp_path):
    with pytest.raises(BadInput) as caught:
        fit(tmp_path / "ids", FEATURES, [rows(item=[None] * 4, tags=[[], None, [None], []])])
    assert [line.split(":")[0] for line in caught.value.problems] == ["feature item", "feature tags"]
    with pytest.raises(BadInput, match="feature price: wanted values in the train window, found only nulls"):
        fit(tmp_path / "numbers", FEATURES, [rows(price=[None] * 4)])


@pytest.mark.parametrize("cuts", [[1], [2, 3], [0, 4]])
def test_the_fit_does_not_depend_on_the_files(encoder, tmp_path, cuts):
    edges = [0, *cuts, 4]
    again = fit(tmp_path, FEATURES, [rows().slice(a, b - a) for a, b in itertools.pairwise(edges)])
    assert {name: known(again, name) for name in again.tables} == {n: known(encoder, n) for n in encoder.tables}
    for one, other in zip(again.scales, encoder.scales, strict=True):
        assert (one.mean, one.deviation) == pytest.approx((other.mean, other.deviation), rel=1e-12)


def test_nor_on_the_segments(encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "ROWS_PER_SEGMENT", 1)
    again = fit(tmp_path, FEATURES, [rows(), rows(), rows()])
    assert {name: known(again, name) for name in again.tables} == {n: known(encoder, n) for n in encoder.tables}
    assert len(list((tmp_path / "run").rglob("rows-*.arrow"))) == 4 + 2  # files of one content are one part


def test_moments_of_a_stream_far_from_zero_lose_nothing(tmp_path):
    values = 1e7 + np.arange(1000.0)  # which 32 bits hold
    features = Features.model_validate({"ids": ["item"], "dense": ["price"]})
    files = [rows(price=part.tolist()) for part in np.array_split(values, 7)]
    (scale,) = fit(tmp_path, features, files).scales
    assert (scale.mean, scale.deviation) == pytest.approx((values.mean(), values.std()), rel=1e-9)


@pytest.mark.parametrize("num", [2**7 - 1, 2**7, 2**7 + 1, 2**15])
def test_as_many_values_as_8_and_16_bits_number_are_all_known(tmp_path, num):
    fitted = fit(tmp_path, Features.model_validate({"ids": ["item"]}), [rows(item=range(num))])
    assert known(fitted, "item") == list(range(num))


def test_rare_values_share_the_unknown_row(tmp_path):
    features = Features.model_validate({"ids": [{"column": "item", "min_count": 2}]})
    fitted = fit(tmp_path, features, [rows(item=[7, 8, 8]), rows(item=[9, 9, 9])])
    assert known(fitted, "item") == [8, 9]
    assert fitted.tables["item"].ids(pa.array([7, 8, 9, None])).tolist() == [OOV, 2, 3, ABSENT]
    assert fitted.layout.tables["item"] == FIRST_KNOWN + 2


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint32(), pa.dictionary(pa.int8(), pa.int64())])
def test_a_value_has_one_id_in_every_type(encoder, kind):
    values = pa.array([50, 70, 3, None])
    plain = values.dictionary_encode() if pa.types.is_dictionary(kind) else values.cast(kind)
    assert encoder.tables["item"].ids(plain).tolist() == [2, 3, OOV, ABSENT]


def test_large_ids_do_not_go_through_floats(tmp_path):
    features = Features.model_validate({"ids": ["item"]})
    fitted = fit(tmp_path, features, [rows(item=[2**53, 2**53 + 1, 2**62 + 1])])
    assert fitted.tables["item"].ids(pa.array([2**53, 2**53 + 1, 2**62, 2**62 + 1])).tolist() == [2, 3, OOV, 4]


def test_a_value_of_another_type_is_told(encoder):
    with pytest.raises(BadInput, match="column item: wanted int64, found string; give the type"):
        encoder.tables["item"].ids(pa.array(["50"]))


def test_a_missing_column_is_told_with_those_there_are(encoder):
    with pytest.raises(BadInput, match="wanted column country, found none; give it; there are item, tags"):
        encoder.now(rows().select(["item", "tags"]))


def request(*pasts):
    """Raw requests with these histories of (item, clicked), oldest first."""
    table = pa.Table.from_batches([rows(item=[50] * len(pasts))])
    for place, name in enumerate(("item", "clicked")):
        lists = [None if past is None else [event[place] for event in past] for past in pasts]
        table = table.append_column(f"history.{name}", pa.array(lists, pa.list_(TYPES.field(name).type)))
    return table


def test_a_history_is_its_last_events_newest_first_and_padded(encoder):
    ids, _ = encoder.request(request([(50, 1), (70, 0), (99, 1), (70, 1)], [(70, 0)], [], None))
    layout = {feature.name: feature.columns for feature in encoder.layout.ids}
    assert ids[:, layout["history.item"]].tolist() == [[3, 1, 3], [3, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert ids[:, layout["history.clicked"]].tolist() == [[3, 3, 2], [2, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_rows_are_encoded_alone_as_they_are_together(encoder):
    table = pa.concat_tables([request([(50, 1)], []), request([(70, 0), (50, 1)], None)])
    ids, dense = encoder.request(table)
    for row in range(table.num_rows):
        alone = encoder.request(table.slice(row, 1))
        assert (alone[0][0] == ids[row]).all()
        assert (alone[1][0] == dense[row]).all()


def test_every_id_is_inside_its_table(encoder):
    ids, _ = encoder.request(request([(70, 1)] * 5, [(1, 0)]))
    assert (ids >= 0).all()
    assert (ids < np.array(encoder.layout.limits())).all()
    assert encoder.layout.num_id_columns == ids.shape[1] == 1 + 1 + 2 + 3 + 3


def test_an_encoder_comes_back_from_disk_as_it_was(encoder, tmp_path):
    encoder.save(tmp_path / "encoder")
    again = Encoder.open(tmp_path / "encoder")
    assert again.digest == encoder.digest
    assert again.layout == encoder.layout
    assert again.scales == encoder.scales
    given = request([(50, 1), (70, 0)], None)
    for one, other in zip(again.request(given), encoder.request(given), strict=True):
        assert (one == other).all()


def test_two_encoders_differ_where_their_values_scales_or_layout_do(encoder, tmp_path):
    others = [
        fit(tmp_path / "values", FEATURES, [rows(item=[51, 70, 50, 50])]),
        fit(tmp_path / "scales", FEATURES, [rows(price=[1.0, 2.0, 3.0, 4.0])]),
        fit(tmp_path / "layout", FEATURES.model_copy(update={"history": None}), [rows()]),
    ]
    assert len({encoder.digest, *(other.digest for other in others)}) == 4
    assert fit(tmp_path / "same", FEATURES, [rows()]).digest == encoder.digest


def test_a_vocabulary_that_was_tampered_with_is_refused(encoder, tmp_path):
    encoder.save(tmp_path)
    other = fit(tmp_path / "fitted", FEATURES, [rows(item=[1, 2, 3, 4])])
    other.save(tmp_path / "other")
    files = sorted(tmp_path.glob("vocabulary-*.arrow"))
    assert len(files) == 4
    (tmp_path / "other" / files[0].name).replace(files[0])
    with pytest.raises(BadInput, match=r"vocabulary-00\.arrow: wanted the vocabulary of this encoder.*restore"):
        Encoder.open(tmp_path)


@pytest.mark.parametrize(
    ("column", "values", "wanted"),
    [("country", pa.nulls(2), [[0], [0]]), ("tags", pa.array([[], []]), [[0, 0], [0, 0]])],
)
def test_nulls_and_empty_lists_without_a_type_are_absent(encoder, column, values, wanted):
    """What pyarrow makes of a JSON request whose country is null or whose tags are []."""
    given = rows(item=[50, 70])
    given = given.set_column(given.schema.get_field_index(column), column, values)
    ids, _ = encoder.now(given)
    feature = next(f for f in encoder.layout.ids if f.name == column)
    assert ids[:, feature.columns].tolist() == wanted


def test_an_encoder_that_grows_keeps_every_id_and_adds_new_values_at_the_end(encoder, tmp_path):
    encoder.save(tmp_path / "before/encoder")
    features = FEATURES.model_copy(update={"grow_from": str(tmp_path / "before")})
    later = rows(item=[10, 70, 60, 10], country=["c", "a", "c", "a"])
    grown = fit(tmp_path / "grown", features, [later])
    assert known(grown, "item") == [*known(encoder, "item"), 10, 60]
    assert known(grown, "country") == [*known(encoder, "country"), "c"]
    values = pa.array([50, 70, 60, 99, None])
    assert grown.tables["item"].ids(values).tolist() == [2, 3, 5, OOV, ABSENT]
    assert encoder.tables["item"].ids(values).tolist() == [2, 3, OOV, OOV, ABSENT]


def test_what_to_grow_from_must_hold_an_encoder(tmp_path):
    features = FEATURES.model_copy(update={"grow_from": str(tmp_path)})
    with pytest.raises(BadInput, match=r"features\.grow_from .*: wanted a folder with an encoder, found none"):
        fit(tmp_path / "grown", features, [rows()])
