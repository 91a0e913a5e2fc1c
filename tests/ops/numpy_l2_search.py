"""The search for a distance in numpy, for all samples at once.

csrc/math/l2_search.h explains the fields, l2_search.cpp the steps and the constants (LOG_REACH is kLogReach there).
"""

import math

import numpy as np

LOG_REACH, NO_CHANGE, RANGE_MARGIN = math.log(2), 1e-6, 1e-6
MIN_PROGRESS = MIN_RISE = 0.05
PATIENCE, PATIENCE_WITHOUT_MOTION = 10, 3


class NumpyL2Search:
    """The state that ``ops.begin_l2_search(limits, source_l2, epsilon)`` returns; advance() changes it in place."""

    @np.errstate(all="ignore")
    def __init__(self, limits, source_l2, epsilon):
        self.target, self.tolerance, start, self.max_factor, range_end = limits
        self.dtype, self.epsilon = (np.float32 if epsilon > np.finfo(np.float64).eps else np.float64), epsilon
        self.best, self.best_l2 = np.zeros_like(self.target), or_infinite(source_l2)
        self.source_l2 = self.best_l2
        unknown = np.full_like(self.target, math.inf)
        self.low, self.high = -unknown, unknown
        self.log_range_end = np.log(range_end) - RANGE_MARGIN
        self.end = np.minimum(self.log_range_end, np.log(self.max_factor))
        self.low_rise, self.high_rise = np.zeros_like(unknown), unknown
        self.points = np.stack([unknown] * 3), np.stack([unknown] * 3)  # rises and log_ratios
        self.largest = np.zeros_like(unknown)
        self.best_gap, self.idle = unknown, np.zeros_like(unknown)
        self.position = np.minimum(np.log(start), self.end)
        first = np.minimum(np.minimum(start, self.max_factor), range_end * (1 - RANGE_MARGIN))
        self.factor = np.where(self.is_active(), first.astype(self.dtype), 0.0)

    def is_active(self):
        open_bracket = (self.low < self.end) & (self.high - self.low > self.epsilon / 2)
        progress = self.is_bracketed() | (self.idle < np.where(self.has_moved(), PATIENCE, PATIENCE_WITHOUT_MOTION))
        return (self.target > 0) & ~self.attained() & np.isfinite(self.source_l2) & open_bracket & progress

    def is_bracketed(self):
        return np.isfinite(self.low) & np.isfinite(self.high)

    def has_moved(self):
        return self.largest > MIN_RISE

    def attained(self):
        return np.abs(self.best_l2 - self.target) <= self.tolerance

    def out_of_range(self):
        return ~self.attained() & (self.low >= self.log_range_end) & (self.largest > NO_CHANGE)

    @np.errstate(all="ignore")
    def advance(self, l2):
        active, l2 = self.is_active(), or_infinite(l2)
        self._update_best(l2, active)
        rise = (l2 - self.source_l2) / (self.target - self.source_l2)
        rise = np.where(np.isfinite(l2), rise, math.inf)
        up, down = active & (rise < 1), active & (rise >= 1)
        self.low, self.low_rise = np.where(up, self.position, self.low), np.where(up, rise, self.low_rise)
        self.high, self.high_rise = np.where(down, self.position, self.high), np.where(down, rise, self.high_rise)
        slow = gap(rise) > gap(self.points[0][0]) / 2
        self._update_points(rise, active)
        self.position = np.minimum(self._next(slow), self.end)
        factor = np.minimum(np.exp(self.position).astype(self.dtype), self.max_factor.astype(self.dtype))
        self.factor = np.where(self.is_active(), factor, 0.0)

    def _update_best(self, l2, active):
        miss, best_miss = np.abs(l2 - self.target), np.abs(self.best_l2 - self.target)
        far = np.minimum(miss, best_miss) > self.tolerance
        tied = far & (miss < best_miss + self.tolerance) & (self.factor < self.best)
        self.improved = active & ((miss < np.where(far, best_miss - self.tolerance, best_miss)) | tied)
        self.best = np.where(self.improved, self.factor, self.best)
        self.best_l2 = np.where(self.improved, l2, self.best_l2)

    def _update_points(self, rise, active):
        self.largest = np.maximum(self.largest, np.abs(rise))
        closer = active & (gap(rise) < self.best_gap - MIN_PROGRESS)
        self.best_gap = np.where(closer, gap(rise), self.best_gap)
        self.idle = np.where(closer, 0.0, self.idle + 1)
        new = rise, self.position - np.log(np.maximum(rise, 0))
        rises, log_ratios = (np.concatenate([old, values[None]]) for old, values in zip(self.points, new))
        order = np.argsort(gap(rises), axis=0, kind="stable")[:3]
        self.points = np.take_along_axis(rises, order, 0), np.take_along_axis(log_ratios, order, 0)

    def _next(self, slow):
        x = predicted(*self.points)
        room = np.abs(np.log(np.clip(self.largest, NO_CHANGE, 1 / NO_CHANGE)))
        stalled = self.has_moved() & (self.idle > 0)
        up = self.low + np.where(stalled, 0.0, room) + LOG_REACH
        down = self.high - room - LOG_REACH * np.exp2(self.idle)
        inside = (x > self.low) & (x < self.high) & ~slow
        share = np.clip((1 - self.low_rise) / (self.high_rise - self.low_rise), 0.1, 0.9)
        middle = np.where(inside, x, self.low + (self.high - self.low) * share)
        up = np.where(x > self.low, np.minimum(x, up), up)
        down = np.where(inside, np.maximum(x, down), down)
        return np.where(self.is_bracketed(), middle, np.where(np.isfinite(self.low), up, down))


def or_infinite(l2):
    return np.where(np.isfinite(l2), l2, math.inf)


def gap(rise):
    return np.abs(np.log(np.maximum(rise, 0)))


def predicted(rises, log_ratios):
    first = (log_ratios[1:] - log_ratios[:-1]) / (rises[1:] - rises[:-1])
    second = (first[1] - first[0]) / (rises[2] - rises[0])
    line = log_ratios[0] + first[0] * (1 - rises[0])
    parabola = line + second * (1 - rises[0]) * (1 - rises[1])
    return np.where(np.isfinite(parabola), parabola, np.where(np.isfinite(line), line, log_ratios[0]))
