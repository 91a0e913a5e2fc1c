// split_planes, merge_planes and morph_planes in float64, with the formulas of steerlens_fast/ops/reference.py. The
// code is simple and slow: Fourier transforms use their definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <vector>

namespace reference {

using Complex = std::complex<double>;

// An image, a band or a spectrum, [h, w].
struct Grid {
  int64_t h, w;
  std::vector<Complex> values;

  Grid(int64_t h, int64_t w) : h(h), w(w), values(h * w) {}
  Complex& at(int64_t y, int64_t x) { return values[y * w + x]; }
  const Complex& at(int64_t y, int64_t x) const { return values[y * w + x]; }
};

// The grid of f(a, b), where a and b are the values of two grids at the same place.
template <typename F>
Grid combined(const Grid& a, const Grid& b, const F& f) {
  Grid out(a.h, a.w);
  for (size_t i = 0; i < a.values.size(); ++i) out.values[i] = f(a.values[i], b.values[i]);
  return out;
}

// Replaces n values x_k, which are `stride` apart, by sum_j x_j exp(sign 2 pi i j k / n).
inline void transform_line(Complex* line, int64_t n, int64_t stride, int sign) {
  std::vector<Complex> roots(n), in(n);
  for (int64_t j = 0; j < n; ++j) {
    roots[j] = std::polar(
        1.0, sign * 2 * 3.14159265358979323846 * static_cast<double>(j) / static_cast<double>(n));
    in[j] = line[j * stride];
  }
  for (int64_t k = 0; k < n; ++k) {
    double re = 0, im = 0;
    for (int64_t j = 0, turn = 0; j < n; ++j, turn = (turn + k) % n) {
      re += in[j].real() * roots[turn].real() - in[j].imag() * roots[turn].imag();
      im += in[j].real() * roots[turn].imag() + in[j].imag() * roots[turn].real();
    }
    line[k * stride] = {re, im};
  }
}

// The forward (sign -1) or inverse (sign 1) Fourier transform, not normalised.
inline Grid fourier(Grid grid, int sign) {
  for (int64_t y = 0; y < grid.h; ++y) transform_line(&grid.at(y, 0), grid.w, 1, sign);
  for (int64_t x = 0; x < grid.w; ++x) transform_line(&grid.at(0, x), grid.h, grid.w, sign);
  return grid;
}

// The index in a spectrum of N samples that has the same frequency as index i in a spectrum of n <= N samples.
inline int64_t wider_index(int64_t i, int64_t n, int64_t N) { return i <= n / 2 ? i : i - n + N; }

inline Grid crop(const Grid& spectrum, int64_t h, int64_t w) {
  Grid out(h, w);
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; ++x)
      out.at(y, x) = spectrum.at(wider_index(y, h, spectrum.h), wider_index(x, w, spectrum.w));
  return out;
}

inline void add_padded(Grid& spectrum, const Grid& block) {
  for (int64_t y = 0; y < block.h; ++y)
    for (int64_t x = 0; x < block.w; ++x)
      spectrum.at(wider_index(y, block.h, spectrum.h), wider_index(x, block.w, spectrum.w)) +=
          block.at(y, x);
}

inline Complex power_of_i(int power) { return std::vector<Complex>{1, {0, 1}, -1, {0, -1}}[power]; }

// The real filters [K, h, w] of a group of bands, and the form of the bands.
struct Group {
  std::vector<Grid> filters;
  int i_power;
  bool complex;  // whether bands are complex; otherwise they are real

  int64_t h() const { return filters[0].h; }
  int64_t w() const { return filters[0].w; }
  int64_t K() const { return static_cast<int64_t>(filters.size()); }
};

using Bands = std::vector<Grid>;  // bands of one plane and one group

// Pairs of bands m and m' as complex bands m + i m'. If the number of bands is odd, the last m' is 0.
inline Bands paired(const Bands& bands) {
  Bands out;
  for (size_t k = 0; k < bands.size(); k += 2) {
    const Grid none(bands[k].h, bands[k].w);
    out.push_back(combined(bands[k], k + 1 < bands.size() ? bands[k + 1] : none,
                           [](Complex a, Complex b) { return Complex(a.real(), b.real()); }));
  }
  return out;
}

inline Bands unpaired(const Bands& pairs, int64_t K) {
  Bands out;
  for (int64_t k = 0; k < K; ++k)
    out.push_back(combined(pairs[k / 2], pairs[k / 2], [k](Complex a, Complex) {
      return Complex(k % 2 ? a.imag() : a.real());
    }));
  return out;
}

// The bands of a plane, for each group.
inline std::vector<Bands> split(const Grid& plane, const std::vector<Group>& groups) {
  const Grid spectrum = fourier(plane, -1);
  std::vector<Bands> out;
  for (const Group& group : groups) {
    Bands bands;
    const Complex factor = power_of_i(group.i_power);
    for (const Grid& filter : group.complex ? group.filters : paired(group.filters))
      bands.push_back(fourier(combined(crop(spectrum, group.h(), group.w()), filter,
                                       [&](Complex x, Complex f) { return x * f * factor; }),
                              1));
    out.push_back(group.complex ? bands : unpaired(bands, group.K()));
  }
  return out;
}

inline Grid merge(const std::vector<Bands>& bands, const std::vector<Group>& groups,
                  const Grid& residual) {
  Grid spectrum(residual.h, residual.w);
  for (size_t i = 0; i < groups.size(); ++i) {
    const Group& group = groups[i];
    const Bands filters = group.complex ? group.filters : paired(group.filters);
    const Bands values = group.complex ? bands[i] : paired(bands[i]);
    const Complex factor = power_of_i(group.i_power);
    for (size_t k = 0; k < filters.size(); ++k)
      add_padded(spectrum, combined(fourier(values[k], -1), filters[k], [&](Complex x, Complex f) {
                   return x * std::conj(f) * factor;
                 }));
  }
  return combined(fourier(spectrum, 1), residual,
                  [](Complex a, Complex b) { return Complex(a.real() + b.real()); });
}

struct Options {
  bool moves_phase, moves_amplitude, polar;
  double eps, floor, low, high;
};

// The step of the phase, and of the amplitude or (polar rule) its logarithm.
struct Step {
  double phase, amplitude;
};

inline Step step(Complex c, Complex gradient, const Options& options, double largest) {
  if (std::abs(c) < options.floor * largest || std::abs(c) == 0) return {0, 0};
  if (options.polar) {
    const Complex log_step = -options.eps * gradient * std::conj(c);
    return {log_step.imag(), log_step.real()};
  }
  const Complex moved = c - options.eps * gradient;
  return {std::arg(moved * std::conj(c)), std::abs(moved) - std::abs(c)};
}

// The factors by which the steps are multiplied.
struct Factors {
  double phase, amplitude;
};

inline Complex moved(Complex c, Step s, Factors factors, const Options& options) {
  const Complex turn = std::polar(1.0, options.moves_phase ? factors.phase * s.phase : 0.0);
  if (!options.moves_amplitude) return c * turn;
  if (options.polar) return c * turn * std::exp(factors.amplitude * s.amplitude);
  const double amplitude = std::max(std::abs(c) + factors.amplitude * s.amplitude, 0.0);
  return amplitude * turn * (std::abs(c) == 0 ? 1.0 : c / std::abs(c));
}

inline Bands moved_bands(const Bands& bands, const Bands& gradient, Factors factors,
                         const Options& options, bool complex) {
  Bands out;
  for (size_t k = 0; k < bands.size(); ++k) {
    double largest = 0;
    for (const Complex& c : bands[k].values) largest = std::max(largest, std::abs(c));
    out.push_back(combined(bands[k], gradient[k], [&](Complex c, Complex g) {
      const Complex value = moved(c, step(c, g, options, largest), factors, options);
      return complex ? value : Complex(value.real());
    }));
  }
  return out;
}

// A frame of an image. The last group of `analysis` is the residual. `synthesis` also splits the gradient, so its
// groups have the i_power of the analysis. The synthesis negates it.
inline Grid morph(const Grid& image, const Grid& gradient, const std::vector<Group>& analysis,
                  std::vector<Group> synthesis, Factors factors, const Options& options) {
  const bool moves = (options.moves_phase && factors.phase != 0) ||
                     (options.moves_amplitude && factors.amplitude != 0);
  std::vector<Bands> bands = split(image, analysis), frame;
  const std::vector<Bands> gradients = split(gradient, synthesis);
  for (size_t i = 0; i < synthesis.size(); ++i) {
    frame.push_back(moved_bands(bands[i], gradients[i], factors, options, synthesis[i].complex));
    synthesis[i].i_power = (4 - synthesis[i].i_power) % 4;
  }
  const Grid made = moves ? merge(frame, synthesis, bands.back()[0]) : image;
  return combined(made, image, [&](Complex value, Complex) {
    return Complex(std::clamp(value.real(), options.low, options.high));
  });
}

}  // namespace reference
