"""Plain data comes out of a pickle as Python's own machine gives it, in every protocol."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch

from masqclip.errors import MasqclipError
from masqclip.weights import folders, pickle_machine
from masqclip.weights.folders import check_fits
from masqclip.weights.pickle_machine import PickleMachine

DATA: list[Any] = [
    True, False, None, 0, 1, -1, 255, 256, 65_535, 65_536, -65_536, 2**31 - 1, -(2**31), 2**31,
    2**63, -(2**63), 2**100, -(2**100), 0.0, -1.5, math.inf, 1e300, "", "a", "\u00e4\n'\"\\",
    "x" * 300, "y" * 200, b"", b"\0\xff", b"z" * 300, (), (1,),
    (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1, [2]],
    {}, {"a": 1, 2: "b", -3: None, None: (), b"k": []},
    {"same": [1], "deep": {"x": {"y": (True,)}}}, set(), {1, 2}, [list(range(2000))],
]  # fmt: skip


def no_name(module: str, name: str) -> Any:
    raise pickle.UnpicklingError(f"{module}.{name}")


def read(content: bytes) -> Any:
    return PickleMachine(content, no_name).load()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("value", DATA, ids=range(len(DATA)))
def test_plain_data_is_read_as_python_reads_it(value: Any, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    try:
        found = read(content)
    except pickle.UnpicklingError:  # what this protocol writes as a call, or in no such steps
        by_call = isinstance(value, (bytes, set)) or (isinstance(value, dict) and b"k" in value)
        assert by_call, (value, protocol)
        return
    assert found == value
    assert repr(found) == repr(value)


def test_what_stands_twice_is_one_thing() -> None:
    same = [1]
    for protocol in range(6):
        found = read(pickle.dumps([same, same, "text", "text"], protocol))
        assert found[0] is found[1]


def test_a_key_is_a_text_or_a_small_number() -> None:
    for key in (2**32 - 1, -(2**32 - 1), "a", b"a", None, True):
        assert read(pickle.dumps({key: 1}, 4)) == {key: 1}
    for key in (2**32, -(2**32), 2**61, 1.5, (1,)):
        with pytest.raises(pickle.UnpicklingError, match="as a key"):
            read(pickle.dumps({key: 1}, 4))


def test_a_number_has_sixteen_bytes_or_forty_digits_at_most() -> None:
    assert read(pickle.dumps(2**127 - 1, 4)) == 2**127 - 1
    assert read(b"L" + b"9" * 40 + b"L\n.") == int("9" * 40)
    for content in (pickle.dumps(2**127, 4), b"L" + b"9" * 41 + b"L\n."):
        with pytest.raises(pickle.UnpicklingError, match="a number of too many digits"):
            read(content)


def test_a_pickle_ends_and_takes_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = PickleMachine(b"xxK\x05.K\x06.", no_name, start=2)
    assert machine.load() == 5
    assert machine.position == 5
    assert PickleMachine(b"xxK\x05.K\x06.", no_name, start=5).load() == 6
    for content in (b"", b"K", b"K\x05", b".", b"\x80\x04K"):
        with pytest.raises(pickle.UnpicklingError):
            read(content)
    assert pickle_machine.MAX_STEPS == 1_000_000
    monkeypatch.setattr(pickle_machine, "MAX_STEPS", 100)
    assert read(b"N0" * 49 + b"N.") is None
    with pytest.raises(pickle.UnpicklingError, match="more than 100 steps"):
        read(b"N0" * 49 + b"NN.")


# A configuration and its weights


class Model(torch.nn.Module):
    """A hundred numbers in a parameter, ten in a buffer."""

    def __init__(self, config: object) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(100))
        self.register_buffer("table", torch.zeros(10))


class Config:
    def __init__(self, layers: int) -> None:
        self.num_layers = layers


def test_a_model_is_not_far_larger_than_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most twice what they hold, and a little more."""
    held = {"table": torch.zeros(10), "other": torch.zeros(30)}
    monkeypatch.setattr(folders, "_SLACK", 30)
    assert check_fits(Model, Config(1), held, source="it") == {"weight", "table"}
    monkeypatch.setattr(folders, "_SLACK", 29)
    with pytest.raises(MasqclipError, match="a model of 110 numbers, and the weights are 40"):
        check_fits(Model, Config(1), held, source="it")


def test_a_configuration_has_a_tensor_a_layer_and_its_shapes() -> None:
    held = {"weight": torch.zeros(100), "table": torch.zeros(10)}
    check_fits(Model, Config(2), held, source="it")
    with pytest.raises(MasqclipError, match="describes 3 layers, and the weights are only 2"):
        check_fits(Model, Config(3), held, source="it")
    for name in held:
        with pytest.raises(MasqclipError, match=rf"the tensor '{name}' is \(7,\)"):
            check_fits(Model, Config(1), held | {name: torch.zeros(7)}, source="it")
