"""The sum that the trainers of `ring-stream` make of every array: each element is read once, and no more is
done with it. numpy would widen integers first, which takes three times as long as reading them, and is
no part of how they came here."""

import numpy


def total(array):
    if array.dtype == bool:
        array = array.view(numpy.uint8)
    return array.sum(dtype=array.dtype).item()
