// Arithmetic on whole registers, in the compiler's own vector types: small matrix products, transposition, exponential.
// Everything is in float32, with rows of a multiple of 16 values.

#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <utility>
#include <vector>

namespace {

#ifdef __AVX512F__
constexpr int VL = 16, TALL = 8; // floats of a register, rows of a tile of a product
#else
constexpr int VL = 8, TALL = 4;
#endif
typedef float Vec __attribute__((vector_size(VL * 4)));
typedef int IVec __attribute__((vector_size(VL * 4)));
constexpr float LOWEST = -std::numeric_limits<float>::infinity();

inline Vec load(const float* p) { Vec x; std::memcpy(&x, p, sizeof x); return x; }
inline IVec load(const int* p) { IVec x; std::memcpy(&x, p, sizeof x); return x; }
inline void store(float* p, Vec x) { std::memcpy(p, &x, sizeof x); }

using Lanes = std::make_integer_sequence<int, VL>;

// Lane k takes what stands in lane k ^ H.
template <int H, typename V, int... K>
inline V swap(V x, std::integer_sequence<int, K...>) { return __builtin_shuffle(x, IVec{(K ^ H)...}); }

template <int H = VL / 2>
inline float sum(Vec x) {
  x += swap<H>(x, Lanes{});
  if constexpr (H > 1) return sum<H / 2>(x);
  return x[0];
}

template <int H = VL / 2>
inline float highest(Vec x) {
  const Vec y = swap<H>(x, Lanes{});
  x = x > y ? x : y;
  if constexpr (H > 1) return highest<H / 2>(x);
  return x[0];
}

// exp of numbers up to 0 to within 2 units in the last place (and of -inf to 0): 2^n times a polynomial.
inline Vec exp_negative(Vec x) {
  const Vec shift = Vec{} + 12582912.0f; // 1.5 * 2^23: adding it rounds to an integer in the lowest bits
  const IVec tiny = x < -87.0f;
  x = tiny ? Vec{} - 87.0f : x;
  const Vec t = x * 1.44269504f + shift;
  const Vec n = t - shift;
  const Vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Vec p = Vec{} + 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  IVec bits;
  std::memcpy(&bits, &p, sizeof bits);
  IVec exponent;
  std::memcpy(&exponent, &t, sizeof exponent);
  bits += exponent << 23;
  std::memcpy(&p, &bits, sizeof p);
  return tiny ? Vec{} : p;
}

// C [TALL, WIDE * VL] (+)= A [TALL, K] B [K, WIDE * VL]; a_row and a_k are the strides of A: it may be transposed.
template <int WIDE>
inline void tile(int K, const float* A, long a_row, long a_k, const float* B, long ldb, float* C, long ldc, bool add) {
  Vec acc[TALL][WIDE];
  for (int i = 0; i < TALL; ++i)
    for (int j = 0; j < WIDE; ++j) acc[i][j] = add ? load(C + i * ldc + j * VL) : Vec{};
  for (int k = 0; k < K; ++k) {
    Vec b[WIDE];
    for (int j = 0; j < WIDE; ++j) b[j] = load(B + k * ldb + j * VL);
    for (int i = 0; i < TALL; ++i) {
      const Vec a = Vec{} + A[i * a_row + k * a_k];
      for (int j = 0; j < WIDE; ++j) acc[i][j] += a * b[j];
    }
  }
  for (int i = 0; i < TALL; ++i)
    for (int j = 0; j < WIDE; ++j) store(C + i * ldc + j * VL, acc[i][j]);
}

inline void gemm(int M, int N, int K, const float* A, long a_row, long a_k, const float* B, long ldb, float* C, long ldc,
          bool add) {
  int n = 0;
  for (; n + 2 * VL <= N; n += 2 * VL)
    for (int m = 0; m < M; m += TALL) tile<2>(K, A + m * a_row, a_row, a_k, B + n, ldb, C + m * ldc + n, ldc, add);
  for (; n < N; n += VL)
    for (int m = 0; m < M; m += TALL) tile<1>(K, A + m * a_row, a_row, a_k, B + n, ldb, C + m * ldc + n, ldc, add);
}

// One step of transposing a square: swaps its off-diagonal blocks of width H. The masks must be constants.
template <int H, int... K>
inline void swap_blocks(Vec* x, std::integer_sequence<int, K...>) {
  const IVec low = {(K & H ? VL + K - H : K)...}, high = {(K & H ? VL + K : K + H)...};
  for (int k = 0; k < VL; ++k)
    if (!(k & H)) {
      const Vec a = x[k], b = x[k + H];
      x[k] = __builtin_shuffle(a, b, low), x[k + H] = __builtin_shuffle(a, b, high);
    }
  if constexpr (2 * H < VL) swap_blocks<2 * H>(x, std::integer_sequence<int, K...>{});
}

// out [D, P] = rows [P, D] transposed, times factor [P].
inline void transpose(int P, int D, const float* rows, const float* factor, float* out) {
  for (int i = 0; i < P; i += VL)
    for (int d = 0; d < D; d += VL) {
      Vec x[VL];
      for (int k = 0; k < VL; ++k) x[k] = load(rows + (i + k) * D + d);
      swap_blocks<1>(x, Lanes{});
      for (int k = 0; k < VL; ++k) store(out + (d + k) * P + i, x[k] * load(factor + i));
    }
}

// Rows copied between places; `to` and `from` do not overlap.
inline void copy(float* to, const float* from, int64_t n) {
  for (int64_t i = 0; i < n; i += VL) store(to + i, load(from + i));
}

class Floats { // zeros, in large pages where there are many: rows are read in no order
  std::unique_ptr<float[], decltype(&std::free)> values;
  int64_t size;
 public:
  explicit Floats(int64_t n) : values(nullptr, &std::free), size(n) {
    constexpr size_t PAGE = 2 << 20;
    const size_t unit = n * sizeof(float) >= PAGE ? PAGE : 64, bytes = (n * sizeof(float) + unit - 1) / unit * unit;
    values.reset(static_cast<float*>(std::aligned_alloc(unit, bytes)));
    if (!values) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (unit == PAGE) madvise(values.get(), bytes, MADV_HUGEPAGE);
#endif
    fill(0.0f);
  }
  float* data() { return values.get(); }
  float& operator[](int64_t i) { return values[i]; }
  void fill(float value) { std::fill_n(data(), size, value); }
};

} // namespace
