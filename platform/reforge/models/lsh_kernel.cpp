// LSH attention on a CPU, one head of one row at a time: what lsh_operators.py computes, in one pass over the sorted
// sequence. Everything of a chunk (queries, keys, scores) stays in the core's cache; arithmetic is in float32.
//
// N batch x heads, T tokens, D width of a head, R rounds, S tokens padded to whole pairs of chunks, P places of a chunk.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include "lsh_vectors.h"

#include <cmath>
#include <optional>
#include <tuple>

namespace {

constexpr int NOWHERE = std::numeric_limits<int>::max(); // position of padding
constexpr float ALONE = std::numeric_limits<float>::infinity(); // log-sum-exp of a token that sees itself alone

struct Call { // what all heads share
  int64_t B, T, H, D, R, S, P;
  const int* order;
  const int64_t* lengths;
  const float* rotary; // [T, D]: sines, then cosines
  bool causal, all_pairs;
  decltype(&product) multiply; // in the precision of the inputs
  int64_t length(int64_t n) const { return lengths ? lengths[n / H] : T; }
};

struct Rows { // a [B, T, H, D] tensor of either type, read and written in float32
  char* data;
  int64_t strides[3];
  bool half;
  explicit Rows(const at::Tensor& x)
      : data(static_cast<char*>(x.data_ptr())), strides{x.stride(0), x.stride(1), x.stride(2)},
        half(x.scalar_type() == at::kBFloat16) {}
  int64_t at(int64_t b, int64_t t, int64_t h) const { return b * strides[0] + t * strides[1] + h * strides[2]; }
  void read(int64_t offset, int64_t D, float* to) const {
    if (!half) { std::memcpy(to, reinterpret_cast<float*>(data) + offset, D * sizeof(float)); return; }
    const auto* from = reinterpret_cast<const c10::BFloat16*>(data) + offset;
    for (int64_t d = 0; d < D; ++d) to[d] = from[d];
  }
  void write(int64_t offset, int64_t D, const float* from) const {
    if (!half) { std::memcpy(reinterpret_cast<float*>(data) + offset, from, D * sizeof(float)); return; }
    auto* to = reinterpret_cast<c10::BFloat16*>(data) + offset;
    for (int64_t d = 0; d < D; ++d) to[d] = from[d];
  }
};

void rotate(const Call& call, int64_t t, float* x, float direction) {
  if (!call.rotary) return;
  const float *sine = call.rotary + t * call.D, *cosine = sine + call.D / 2;
  for (int64_t e = 0; e < call.D / 2; ++e) {
    const float s = sine[e] * direction, c = cosine[e], even = x[2 * e], odd = x[2 * e + 1];
    x[2 * e] = even * c - odd * s, x[2 * e + 1] = odd * c + even * s;
  }
}

struct Head { // one head of one row, by position
  const Call& call;
  Floats q, v, inverse_norm;
  explicit Head(const Call& c) : call(c), q(c.T * c.D), v(c.T * c.D), inverse_norm(c.T) {}
  void read(const Rows& qk, const Rows& values, int64_t b, int64_t h) {
    const int64_t D = call.D;
    for (int64_t t = 0; t < call.T; ++t) {
      float* x = &q[t * D];
      qk.read(qk.at(b, t, h), D, x), values.read(values.at(b, t, h), D, &v[t * D]);
      rotate(call, t, x, 1.0f);
      Vec squares{};
      for (int64_t d = 0; d < D; d += VL) squares += load(x + d) * load(x + d);
      inverse_norm[t] = 1.0f / std::max(std::sqrt(sum(squares)), 1e-12f);
    }
  }
};

struct Chunk { // P places of the sorted sequence; those past `count` hold zeros
  int64_t count = 0;
  const int* next = nullptr; // the places of the chunk after it
  std::vector<int> position;
  Floats factor, q, v, k, kT, vT, grad_k, grad_v; // k and kT are normalised and hold the scale of the scores
  Chunk(int64_t P, int64_t D)
      : position(P), factor(P), q(P * D), v(P * D), k(P * D), kT(P * D), vT(P * D), grad_k(P * D), grad_v(P * D) {}
  void gather(Head& head, const int* order, int64_t n, bool backward) {
    const int64_t P = head.call.P, D = head.call.D;
    const float scale = 1.0f / std::sqrt(static_cast<float>(D));
    count = std::max<int64_t>(0, std::min(n, P));
    for (int64_t i = 0; i < P; ++i) {
      const bool real = i < count;
      position[i] = real ? order[i] : NOWHERE;
      factor[i] = real ? scale * head.inverse_norm[order[i]] : 0.0f;
      if (real) copy(&q[i * D], &head.q[order[i] * D], D), copy(&v[i * D], &head.v[order[i] * D], D);
      else std::memset(&q[i * D], 0, D * 4), std::memset(&v[i * D], 0, D * 4);
    }
    transpose(P, D, q.data(), factor.data(), kT.data());
    if (!backward) return;
    for (int64_t i = 0; i < P; ++i)
      for (int64_t d = 0; d < D; d += VL) store(&k[i * D + d], load(&q[i * D + d]) * factor[i]);
    factor.fill(1.0f);
    transpose(P, D, v.data(), factor.data(), vT.data());
    grad_k.fill(0.0f), grad_v.fill(0.0f);
  }
};

// Asks for rows that are needed soon, so that they come from memory while something else is computed.
inline void prefetch(int64_t t, int64_t D, std::initializer_list<Floats*> arrays) {
  for (Floats* x : arrays)
    for (int64_t d = 0; d < D; d += 16) __builtin_prefetch(&(*x)[t * D + d]);
}

// Takes a pass over all pairs of chunks that see each other. For each chunk: begin, visit its keys, itself first, end;
// flush when nothing looks at it any more. The first chunk of a round looks at the row's own last of the round before.
template <typename Pass>
void walk_rounds(Pass& pass, const int* order, int64_t length) {
  const Call& call = pass.call;
  Chunk &own = pass.own, &back = pass.back;
  const int64_t chunks = 2 * ((length + 2 * call.P - 1) / (2 * call.P));
  const auto gather = [&](Chunk& chunk, int64_t r, int64_t c) {
    chunk.gather(pass.head, order + r * call.S + c * call.P, length - c * call.P, Pass::BACKWARD);
  };
  gather(back, call.R - 1, chunks - 1);
  for (int64_t r = 0; r < call.R; ++r)
    for (int64_t c = 0; c < chunks; ++c) {
      gather(own, r, c);
      own.next = order + (c + 1 < chunks ? r * call.S + (c + 1) * call.P : (r + 1) % call.R * call.S);
      if (own.count) {
        pass.begin(own), pass.visit(own, own);
        if (back.count) pass.visit(own, back);
        pass.end(own);
      }
      pass.flush(back);
      std::swap(own, back);
    }
  pass.flush(back);
}

// Exact attention: every chunk sees every chunk that is not wholly hidden.
template <typename Pass>
void walk_all_pairs(Pass& pass, const int* order, int64_t length) {
  const Call& call = pass.call;
  const int64_t chunks = (length + call.P - 1) / call.P;
  while (static_cast<int64_t>(pass.all.size()) < chunks) pass.all.emplace_back(call.P, call.D);
  for (int64_t c = 0; c < chunks; ++c)
    pass.all[c].gather(pass.head, order + c * call.P, length - c * call.P, Pass::BACKWARD);
  for (int64_t c = 0; c < chunks; ++c) {
    Chunk& own = pass.all[c];
    pass.begin(own), pass.visit(own, own);
    for (int64_t k = 0; k < (call.causal ? c : chunks); ++k)
      if (k != c) pass.visit(own, pass.all[k]);
    pass.end(own);
  }
  for (int64_t c = 0; c < chunks; ++c) pass.flush(pass.all[c]);
}

template <typename Pass>
void walk(Pass& pass, const int* order, int64_t length) {
  if (!length) return;
  if (pass.call.all_pairs) walk_all_pairs(pass, order, length);
  else walk_rounds(pass, order, length);
}

// A row of scores against the keys of one chunk: what the query may not see becomes -inf.
inline Vec visible(const float* scores, const int* key, int query, int limit) {
  const IVec k = load(key);
  return (k < limit) & (k != query) ? load(scores) : Vec{} + LOWEST;
}

struct Forward {
  static constexpr bool BACKWARD = false;
  const Call& call;
  Head head;
  Chunk own, back;
  std::vector<Chunk> all;
  Floats scores, part, total, top, mass, kept;
  explicit Forward(const Call& c)
      : call(c), head(c), own(c.P, c.D), back(c.P, c.D), scores(c.P * c.P), part(c.P * c.D), total(c.T * c.D),
        top(c.T), mass(c.T), kept(c.P) {}

  // Weights of one query relative to the highest score that it has met so far.
  void weigh(int64_t i, Chunk& own, Chunk& keys) {
    const int64_t P = call.P;
    const int query = own.position[i], limit = call.causal ? query : NOWHERE;
    float* row = &scores[i * P];
    Vec peak = Vec{} + LOWEST, weight{};
    for (int64_t j = 0; j < P; j += VL) {
      const Vec x = visible(row + j, &keys.position[j], query, limit);
      peak = x > peak ? x : peak;
      store(row + j, x);
    }
    const float before = top[query], now = std::max(before, highest(peak));
    const float from = now == LOWEST ? 0.0f : now; // without any key all weights are exp(-inf) = 0
    for (int64_t j = 0; j < P; j += VL) {
      const Vec e = exp_negative(load(row + j) - from);
      weight += e;
      store(row + j, e);
    }
    kept[i] = before == now ? 1.0f : std::exp(before - now);
    top[query] = now;
    mass[query] = mass[query] * kept[i] + sum(weight);
  }

  void begin(Chunk&) {}
  void end(Chunk&) {}
  void flush(Chunk&) {}

  void visit(Chunk& own, Chunk& keys) {
    const int64_t P = call.P, D = call.D;
    call.multiply(P, P, D, own.q.data(), D, 1, keys.kT.data(), P, scores.data(), P, false);
    for (int64_t i = 0; i < own.count; ++i) {
      if (own.next && &own == &keys) prefetch(own.next[i], D, {&head.q, &head.v, &total});
      weigh(i, own, keys);
    }
    call.multiply(P, D, P, scores.data(), P, 1, keys.v.data(), D, part.data(), D, false);
    for (int64_t i = 0; i < own.count; ++i)
      for (int64_t d = 0; d < D; d += VL) {
        float* to = &total[own.position[i] * D + d];
        store(to, load(to) * kept[i] + load(&part[i * D + d]));
      }
  }

  void run(int64_t n, const Rows& qk, const Rows& v, const Rows& out, float* lse) {
    const int64_t b = n / call.H, h = n % call.H, D = call.D, length = call.length(n);
    const int* order = call.order + n * call.R * call.S;
    head.read(qk, v, b, h);
    total.fill(0.0f), mass.fill(0.0f);
    top.fill(LOWEST);
    walk(*this, order, length);
    for (int64_t i = 0; i < length; ++i) {
      const int64_t t = order[i];
      float* x = &total[t * D];
      const bool alone = mass[t] == 0;
      lse[t] = alone ? ALONE : top[t] + std::log(mass[t]);
      for (int64_t d = 0; d < D; ++d) x[d] = alone ? head.v[t * D + d] : x[d] / mass[t];
      out.write(out.at(b, t, h), D, x);
    }
  }
};

struct Backward {
  static constexpr bool BACKWARD = true;
  const Call& call;
  Head head;
  Chunk own, back;
  std::vector<Chunk> all;
  Floats grad, delta, scores, slopes, grads, part, grad_q, grad_k, grad_v;
  const float* lse = nullptr;
  explicit Backward(const Call& c)
      : call(c), head(c), own(c.P, c.D), back(c.P, c.D), grad(c.T * c.D), delta(c.T), scores(c.P * c.P),
        slopes(c.P * c.P), grads(c.P * c.D), part(c.P * c.D), grad_q(c.T * c.D), grad_k(c.T * c.D),
        grad_v(c.T * c.D) {}

  // Weights and slopes (gradients of the scores) of all queries of a chunk against the keys of another.
  void weigh(Chunk& own, Chunk& keys) {
    const int64_t P = call.P;
    for (int64_t i = 0; i < P; ++i) {
      const int query = own.position[i], limit = call.causal ? query : NOWHERE;
      if (own.next && &own == &keys) prefetch(own.next[i], call.D, {&head.q, &head.v, &grad});
      else if (own.next) prefetch(own.next[i], call.D, {&grad_q, &grad_k, &grad_v});
      const bool real = query != NOWHERE;
      const float from = real ? lse[query] : ALONE, less = real ? delta[query] : 0.0f;
      for (int64_t j = 0; j < P; j += VL) {
        float *s = &scores[i * P + j], *g = &slopes[i * P + j];
        const Vec weight = exp_negative(visible(s, &keys.position[j], query, limit) - from);
        store(s, weight);
        store(g, weight * (load(g) - less));
      }
    }
  }

  void begin(Chunk& own) {
    const int64_t D = call.D;
    grads.fill(0.0f);
    for (int64_t i = 0; i < own.count; ++i) copy(&grads[i * D], &grad[own.position[i] * D], D);
  }

  void visit(Chunk& own, Chunk& keys) {
    const int64_t P = call.P, D = call.D;
    call.multiply(P, P, D, own.q.data(), D, 1, keys.kT.data(), P, scores.data(), P, false);
    call.multiply(P, P, D, grads.data(), D, 1, keys.vT.data(), P, slopes.data(), P, false);
    weigh(own, keys);
    call.multiply(P, D, P, slopes.data(), P, 1, keys.k.data(), D, part.data(), D, &own != &keys);
    call.multiply(P, D, P, slopes.data(), 1, P, own.q.data(), D, keys.grad_k.data(), D, true);
    call.multiply(P, D, P, scores.data(), 1, P, grads.data(), D, keys.grad_v.data(), D, true);
  }

  void end(Chunk& own) { add(own, part, grad_q); }
  void flush(Chunk& chunk) { add(chunk, chunk.grad_k, grad_k), add(chunk, chunk.grad_v, grad_v); }

  void add(Chunk& chunk, Floats& from, Floats& to) {
    const int64_t D = call.D;
    for (int64_t i = 0; i < chunk.count; ++i)
      for (int64_t d = 0; d < D; d += VL) {
        float* x = &to[chunk.position[i] * D + d];
        store(x, load(x) + load(&from[i * D + d]));
      }
  }

  void run(int64_t n, const Rows& grad_out, const Rows& qk, const Rows& v, const Rows& out, const float* lse_T,
           const Rows& to_qk, const Rows& to_v) {
    const int64_t b = n / call.H, h = n % call.H, D = call.D, length = call.length(n);
    const int* order = call.order + n * call.R * call.S;
    lse = lse_T;
    head.read(qk, v, b, h);
    Floats row(D);
    for (int64_t t = 0; t < call.T; ++t) {
      grad_out.read(grad_out.at(b, t, h), D, &grad[t * D]), out.read(out.at(b, t, h), D, row.data());
      Vec dot{};
      for (int64_t d = 0; d < D; d += VL) dot += load(&grad[t * D + d]) * load(&row[d]);
      delta[t] = sum(dot);
    }
    for (Floats* x : {&grad_q, &grad_k, &grad_v}) x->fill(0.0f);
    walk(*this, order, length);
    for (int64_t i = 0; i < length; ++i) finish(order[i], b, h, to_qk, to_v);
  }

  // Through the keys' normalisation and the rotation; what a token alone gets goes to its own value.
  void finish(int64_t t, int64_t b, int64_t h, const Rows& to_qk, const Rows& to_v) {
    const int64_t D = call.D;
    const float scale = 1.0f / std::sqrt(static_cast<float>(D)), inverse = head.inverse_norm[t];
    float *q = &grad_q[t * D], *k = &grad_k[t * D], *v = &grad_v[t * D], *x = &head.q[t * D];
    Vec dot{};
    for (int64_t d = 0; d < D; d += VL) dot += load(k + d) * load(x + d);
    const float along = sum(dot) * inverse * inverse;
    for (int64_t d = 0; d < D; ++d) q[d] += (k[d] - along * x[d]) * inverse * scale;
    if (lse[t] == ALONE)
      for (int64_t d = 0; d < D; ++d) v[d] += grad[t * D + d];
    rotate(call, t, q, -1.0f);
    to_qk.write(to_qk.at(b, t, h), D, q), to_v.write(to_v.at(b, t, h), D, v);
  }
};

using Maybe = std::optional<at::Tensor>;

Call describe(const at::Tensor& qk, const at::Tensor& order, const Maybe& lengths, const Maybe& rotary, int64_t P,
              bool causal, bool all_pairs) {
  return {qk.size(0), qk.size(1), qk.size(2), qk.size(3), order.size(1), order.size(2), P, order.const_data_ptr<int>(),
          lengths ? lengths->const_data_ptr<int64_t>() : nullptr, rotary ? rotary->const_data_ptr<float>() : nullptr,
          causal, all_pairs, qk.scalar_type() == at::kBFloat16 ? product_of_pairs : product};
}

std::tuple<at::Tensor, at::Tensor> forward(const at::Tensor& qk, const at::Tensor& v, const at::Tensor& order,
                                           const Maybe& lengths, const Maybe& rotary, int64_t P, bool causal,
                                           bool all_pairs) {
  const Call call = describe(qk, order, lengths, rotary, P, causal, all_pairs);
  at::Tensor out = at::zeros(qk.sizes(), qk.options());
  at::Tensor lse = at::zeros({call.B * call.H * call.S}, qk.options().dtype(at::kFloat));
  const Rows in(qk), values(v), to(out);
  float* statistics = lse.data_ptr<float>();
  at::parallel_for(0, call.B * call.H, 1, [&](int64_t begin, int64_t end) {
    Forward pass(call);
    for (int64_t n = begin; n < end; ++n) pass.run(n, in, values, to, statistics + n * call.S);
  });
  return {out, lse};
}

std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& grad, const at::Tensor& qk, const at::Tensor& v,
                                            const at::Tensor& out, const at::Tensor& lse, const at::Tensor& order,
                                            const Maybe& lengths, const Maybe& rotary, int64_t P, bool causal,
                                           bool all_pairs) {
  const Call call = describe(qk, order, lengths, rotary, P, causal, all_pairs);
  at::Tensor grad_qk = at::zeros(qk.sizes(), qk.options()), grad_v = at::zeros(v.sizes(), v.options());
  const Rows from(grad), in(qk), values(v), outputs(out), to_qk(grad_qk), to_v(grad_v);
  const float* statistics = lse.const_data_ptr<float>();
  at::parallel_for(0, call.B * call.H, 1, [&](int64_t begin, int64_t end) {
    Backward pass(call);
    for (int64_t n = begin; n < end; ++n)
      pass.run(n, from, in, values, outputs, statistics + n * call.S, to_qk, to_v);
  });
  return {grad_qk, grad_v};
}

} // namespace

TORCH_LIBRARY(reforge_lsh, library) {
  library.def("forward(Tensor qk, Tensor v, Tensor order, Tensor? lengths, Tensor? rotary, int bucket_size, bool causal,"
              " bool all_pairs)"
              " -> (Tensor, Tensor)", &forward);
  library.def("backward(Tensor grad, Tensor qk, Tensor v, Tensor out, Tensor lse, Tensor order, Tensor? lengths,"
              " Tensor? rotary, int bucket_size, bool causal,"
              " bool all_pairs) -> (Tensor, Tensor)", &backward);
}
