// Arithmetic on whole registers, in the compiler's own vector types: small matrix products, transposition, exponential.
// Everything is in float32, with rows of a multiple of 16 values.

#pragma once

#include <sys/mman.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include <algorithm>
#include <array>
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

inline void product(int M, int N, int K, const float* A, long a_row, long a_k, const float* B, long ldb, float* C,
                    long ldc, bool add) {
  int n = 0;
  for (; n + 2 * VL <= N; n += 2 * VL)
    for (int m = 0; m < M; m += TALL) tile<2>(K, A + m * a_row, a_row, a_k, B + n, ldb, C + m * ldc + n, ldc, add);
  for (; n < N; n += VL)
    for (int m = 0; m < M; m += TALL) tile<1>(K, A + m * a_row, a_row, a_k, B + n, ldb, C + m * ldc + n, ldc, add);
}

// Where the processor multiplies pairs of bfloat16 faster than float32 (Intel's with AMX do not), products may be rounded
// to that; sums are in float32 all the same. A word holds two neighbours along K.
#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
typedef int Words __attribute__((vector_size(64)));

// [M, K] as words [M, K / 2].
inline void pair_along(int M, int K, const float* x, long ld, int* out) {
  for (int m = 0; m < M; ++m)
    for (int k = 0; k < K; k += 16)
      _mm256_storeu_si256((__m256i*)(out + (m * K + k) / 2), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + m * ld + k)));
}

// [K, N] as words [K / 2, N].
inline void pair_across(int K, int N, const float* x, long ld, int* out) {
  alignas(64) static const auto order = [] {
    std::array<short, 32> order;
    for (int i = 0; i < 32; ++i) order[i] = i % 2 * 16 + i / 2;
    return order;
  }();
  const __m512i interleave = _mm512_load_si512(order.data());
  for (int k = 0; k < K; k += 2)
    for (int n = 0; n < N; n += 16) {
      const __m512 low = _mm512_loadu_ps(x + k * ld + n), high = _mm512_loadu_ps(x + (k + 1) * ld + n);
      const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(high, low);
      _mm512_store_si512(out + k / 2 * N + n, _mm512_permutexvar_epi16(interleave, both));
    }
}

template <int WIDE>
inline void tile_of_pairs(int K, const int* A, long a_row, long a_k, const int* B, long ldb, float* C, long ldc,
                          bool add) {
  __m512 acc[TALL][WIDE];
  for (int i = 0; i < TALL; ++i)
    for (int j = 0; j < WIDE; ++j) acc[i][j] = add ? _mm512_loadu_ps(C + i * ldc + j * 16) : _mm512_setzero_ps();
  for (int k = 0; k < K / 2; ++k) {
    __m512bh b[WIDE];
    for (int j = 0; j < WIDE; ++j) b[j] = (__m512bh)_mm512_load_si512(B + k * ldb + j * 16);
    for (int i = 0; i < TALL; ++i) {
      const __m512bh a = (__m512bh)_mm512_set1_epi32(A[i * a_row + k * a_k]);
      for (int j = 0; j < WIDE; ++j) acc[i][j] = _mm512_dpbf16_ps(acc[i][j], a, b[j]);
    }
  }
  for (int i = 0; i < TALL; ++i)
    for (int j = 0; j < WIDE; ++j) _mm512_storeu_ps(C + i * ldc + j * 16, acc[i][j]);
}

inline void product_of_pairs(int M, int N, int K, const float* A, long a_row, long a_k, const float* B, long ldb,
                             float* C, long ldc, bool add) {
  thread_local std::vector<__m512i> left, right;
  left.resize(M * K / 32), right.resize(K * N / 32);
  int *a = reinterpret_cast<int*>(left.data()), *b = reinterpret_cast<int*>(right.data());
  if (a_k == 1) pair_along(M, K, A, a_row, a), a_row = K / 2;
  else pair_across(K, M, A, a_k, a), a_k = M;
  pair_across(K, N, B, ldb, b);
  int n = 0;
  for (; n + 32 <= N; n += 32)
    for (int m = 0; m < M; m += TALL) tile_of_pairs<2>(K, a + m * a_row, a_row, a_k, b + n, N, C + m * ldc + n, ldc, add);
  for (; n < N; n += 16)
    for (int m = 0; m < M; m += TALL) tile_of_pairs<1>(K, a + m * a_row, a_row, a_k, b + n, N, C + m * ldc + n, ldc, add);
}
#else
constexpr auto product_of_pairs = product;
#endif

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
