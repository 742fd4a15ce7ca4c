import numpy as np
import pytest

from limbeck.errors import DataError
from limbeck.piece_map import PieceMap


def test_piece_map_goes_both_ways_and_survives_a_file(tmp_path):
    piece_map = PieceMap(np.array([1, 4, 6]), 8)
    assert piece_map.kept.dtype == piece_map.old_to_new.dtype == np.int32
    assert piece_map.old_to_new.tolist() == [-1, 0, -1, -1, 1, -1, 2, -1]
    assert piece_map.apply([[4, 0], [6, 1]]).tolist() == [[1, -1], [2, 0]]
    assert piece_map.invert([2, 0]).tolist() == [6, 1]
    assert piece_map.apply([]).shape == (0,)
    assert len(piece_map) == 3
    for name in ("a.npz", "b"):
        piece_map.save(tmp_path / name)
        assert PieceMap.load(tmp_path / name) == piece_map
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b").read_bytes()
    assert piece_map != PieceMap(np.array([1, 4, 6]), 9)
    assert piece_map != "kept"
    with pytest.raises(ValueError, match="read-only"):
        piece_map.kept[0] = 3


@pytest.mark.parametrize("kept", [[], [[1]], [0.5], [2, 1], [1, 1], [-1, 2], [7, 8]])
def test_piece_map_checks_itself(kept):
    with pytest.raises(DataError, match="kept"):
        PieceMap(np.array(kept), 8)


@pytest.mark.parametrize("ids", [[-1], [8]])
def test_ids_outside_of_the_vocabulary_are_told(ids):
    piece_map = PieceMap(np.arange(8), 8)
    with pytest.raises(DataError, match="old vocabulary"):
        piece_map.apply(ids)
    with pytest.raises(DataError, match="new vocabulary"):
        piece_map.invert(ids)
