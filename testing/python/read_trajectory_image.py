"""Maps a file with the image of the tests' record, and checks each array in place."""

import math
import mmap
import sys

import numpy

from trajectory_image import Image


def main():
    with open(sys.argv[1], "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    image = Image(mapped)
    arrays = image.arrays
    expected = {
        "token_ids": ("uint32", [1, 50256, 7, 2**32 - 1, 9]),
        "logprobs": ("float32", [0.0, 0.0, -0.25, -1.5, -0.125]),
        "loss_mask": ("uint8", [0, 0, 1, 1, 1]),
        "step_reward_given": ("uint8", [1, 0, 1]),
        (0, "routed_experts"): ("int16", [[1, 2, 3], [4, 5, 6]]),
        (2, "weights"): ("uint8", [0x80, 0x3F, 0x00, 0x40]),
    }
    for name, (dtype, values) in expected.items():
        assert arrays[name].dtype == numpy.dtype(dtype), name
        assert arrays[name].tolist() == values, name
    rewards = arrays["step_rewards"].tolist()
    assert rewards[0] == 0.5 and math.isnan(rewards[1]) and rewards[2] == 1.0, rewards
    assert set(arrays) == {*expected, "step_rewards"}, arrays.keys()
    base = numpy.frombuffer(mapped, "uint8").ctypes.data
    for name, array in arrays.items():
        assert not array.flags.owndata, name
        assert (array.ctypes.data - base) % 64 == 0, name
        assert 0 <= array.ctypes.data - base < len(mapped), "it is a view of the mapping"
        try:
            array[...] = 0
        except ValueError:
            continue
        raise AssertionError(f"{name} could be written to")
    assert b"maze.1-00000007" in bytes(image.rest)
    print("read in place")


if __name__ == "__main__":
    main()
