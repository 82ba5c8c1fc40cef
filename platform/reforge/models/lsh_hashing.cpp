// Two steps of hashing that torch has no fast operator for on a CPU; lsh_hashing.py says what they compute.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "lsh_vectors.h"

namespace {

struct Best {
  float value;
  int at;
};

// The highest of all lanes, of equals the one with the lowest place.
template <int H = VL / 2>
Best fold(Vec value, IVec at) {
  const Vec other = swap<H>(value, Lanes{});
  const IVec place = swap<H>(at, Lanes{}), take = (other > value) | ((other == value) & (place < at));
  value = take ? other : value, at = take ? place : at;
  if constexpr (H > 1) return fold<H / 2>(value, at);
  return {value[0], at[0]};
}

// The highest of sign * x and the first place of it.
Best find_highest(const float* x, int C, float sign) {
  Best best{LOWEST, 0};
  int c = 0;
  if (C >= VL) {
    Vec value = Vec{} + LOWEST;
    IVec at{}, place;
    for (int i = 0; i < VL; ++i) place[i] = i;
    for (; c + VL <= C; c += VL, place += VL) {
      const Vec v = load(x + c) * sign;
      at = v > value ? place : at;
      value = v > value ? v : value;
    }
    best = fold(value, at);
  }
  for (; c < C; ++c)
    if (x[c] * sign > best.value) best = {x[c] * sign, c};
  return best;
}

at::Tensor nearest(const at::Tensor& rotated, const std::optional<at::Tensor>& used) {
  const int C = rotated.size(-1), columns = used ? *used->const_data_ptr<int64_t>() : C;
  at::Tensor buckets = at::empty(rotated.sizes().slice(0, rotated.dim() - 1), rotated.options().dtype(at::kInt));
  int* to = buckets.data_ptr<int>();
  const bool half = rotated.scalar_type() == at::kBFloat16;
  at::parallel_for(0, buckets.numel(), 1024, [&](int64_t begin, int64_t end) {
    Floats row(C);
    for (int64_t i = begin; i < end; ++i) {
      const float* x = row.data();
      if (half) std::copy_n(rotated.const_data_ptr<at::BFloat16>() + i * C, columns, row.data());
      else x = rotated.const_data_ptr<float>() + i * C;
      const Best plus = find_highest(x, columns, 1.0f), minus = find_highest(x, columns, -1.0f);
      to[i] = plus.value >= minus.value ? plus.at : C + minus.at;
    }
  });
  return buckets;
}

at::Tensor sort_by_bucket(const at::Tensor& buckets, int64_t num_buckets) {
  at::Tensor order = at::empty(buckets.sizes(), buckets.options());
  const int64_t S = buckets.size(-1);
  const int* from = buckets.const_data_ptr<int>();
  int* to = order.data_ptr<int>();
  at::parallel_for(0, buckets.numel() / S, 1, [&](int64_t begin, int64_t end) {
    std::vector<int> next(num_buckets + 2);
    for (int64_t row = begin; row < end; ++row) {
      std::fill(next.begin(), next.end(), 0);
      for (int64_t s = 0; s < S; ++s) ++next[from[row * S + s] + 1];
      for (int64_t k = 1; k < num_buckets + 2; ++k) next[k] += next[k - 1];
      for (int64_t s = 0; s < S; ++s) to[row * S + next[from[row * S + s]]++] = s;
    }
  });
  return order;
}

} // namespace

TORCH_LIBRARY_FRAGMENT(reforge_lsh, library) {
  library.def("nearest(Tensor rotated, Tensor? used) -> Tensor", &nearest);
  library.def("sort_by_bucket(Tensor buckets, int num_buckets) -> Tensor", &sort_by_bucket);
}
