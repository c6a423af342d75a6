/*
 * Attention over the KV cache with the online softmax (Milakov & Gimelshein, arXiv:1805.02867; Dao et al.,
 * arXiv:2205.14135): a block's queries, up to 16 rows of (token, head of the group), walk their keys 64 at a time. Scores of a tile:
 * a thread has one key and half of the queries; weighted values: a thread has every 128th column of all queries.
 * Decoding splits the keys into parts over blocks, as FlashDecoding does, which nano_attention_join_kernel adds up.
 */
#include "cuda/device/common.cuh"

enum { QUERIES = NANO_CUDA_QUERIES, KEYS = NANO_CUDA_KEYS, HEAD_MAX = NANO_CUDA_HEAD_MAX };

/* Elements i ... i + 3 of a row of a cache. Rows of heads are whole blocks of 32. */
NANO_DEVICE void load_4_elements(const uint8_t *row, int type, int i, float *out) {
    if (type == 0) {
        const float *x = reinterpret_cast<const float *>(row) + i;
        for (int k = 0; k < 4; k++) {
            out[k] = x[k];
        }
    } else if (type == 1) {
        for (int k = 0; k < 4; k++) {
            out[k] = load_half(row + 2 * (i + k));
        }
    } else {
        const uint8_t *block = row + i / 32 * 34;
        const float d = load_half(block);
        const int q = load_4_at_2(block + 2 + i % 32);
        for (int k = 0; k < 4; k++) {
            out[k] = d * static_cast<float>(static_cast<int8_t>(static_cast<unsigned>(q) >> (8 * k)));
        }
    }
}

NANO_DEVICE float load_element(const uint8_t *row, int type, int i) {
    return type == 0 ? reinterpret_cast<const float *>(row)[i]
           : type == 1
               ? load_half(row + 2 * i)
               : load_half(row + i / 32 * 34) * static_cast<float>(static_cast<int8_t>(row[i / 32 * 34 + 2 + i % 32]));
}

/* The row of heads that a block's query i is: its token in the tile and its head in the group. */
struct query_of {
    int token, head;
};

NANO_DEVICE query_of query(const nano_cuda_attention &p, int i) {
    query_of out = {i / p.n_group, static_cast<int>(blockIdx.y) * p.n_group + i % p.n_group};
    return out;
}

/* Scores of the tile of keys from `start` on for all queries: scores[query][key], -INFINITY where not seen. */
NANO_DEVICE void score_tile(const nano_cuda_attention &p, const nano_cuda_tile &tile, const uint8_t *keys, int start,
                            int n, const float *q, float (*scores)[KEYS]) {
    const int key = static_cast<int>(threadIdx.x) % KEYS, part = static_cast<int>(threadIdx.x) / KEYS;
    const int position = start + key;
    const bool exists = position < tile.position + tile.count;
    float sums[QUERIES / 2] = {};
    if (exists) {
        const uint8_t *row = keys + position * p.k.row_bytes;
        for (int i = 0; i < p.k_dim; i += 4) {
            float x[4];
            load_4_elements(row, p.k.type, i, x);
            NANO_UNROLL
            for (int j = 0; j < QUERIES / 2; j++) {
                const float *y = q + (part * (QUERIES / 2) + j) * p.k_dim + i;
                sums[j] += x[0] * y[0] + x[1] * y[1] + x[2] * y[2] + x[3] * y[3];
            }
        }
    }
    NANO_UNROLL
    for (int j = 0; j < QUERIES / 2; j++) {
        const int i = part * (QUERIES / 2) + j;
        const int at = tile.position + query(p, i).token;
        const bool seen = exists && i < n && position <= at && (p.window == 0 || position > at - p.window);
        const float s = p.softcap > 0.0f ? p.softcap * tanhf(sums[j] / p.softcap) : sums[j];
        scores[i][key] = seen ? s : -INFINITY;
    }
}

/* A tile's softmax: scores become exp(score - max), max and sum are brought up to date, rescale[query] is by what the
 * sums so far shrink. A warp has every fourth query. */
NANO_DEVICE void soften(int n, float (*scores)[KEYS], float *max, float *sum, float *rescale) {
    for (int i = warp_of(); i < n; i += WARPS) {
        const float a = scores[i][lane_of()], b = scores[i][lane_of() + WARP];
        const float before = max[i], most = fmaxf(before, warp_max(fmaxf(a, b)));
        const float base = most == -INFINITY ? 0.0f : most;
        const float ea = expf(a - base), eb = expf(b - base), total = warp_sum(ea + eb), shrink = expf(before - base);
        scores[i][lane_of()] = ea;
        scores[i][lane_of() + WARP] = eb;
        __syncwarp();
        if (lane_of() == 0) {
            max[i] = most;
            sum[i] = sum[i] * shrink + total;
            rescale[i] = shrink;
        }
    }
}

/* Queries, scaled; rows past the last are zeros. */
NANO_DEVICE void load_queries(const nano_cuda_attention &p, const nano_cuda_tile &tile, int n, float *q) {
    for (int e = static_cast<int>(threadIdx.x); e < QUERIES * p.k_dim; e += NANO_CUDA_THREADS) {
        const int i = e / p.k_dim, d = e % p.k_dim;
        const query_of which = query(p, i);
        q[e] = i < n ? p.scale * p.q[(tile.first + which.token) * p.q_stride + which.head * p.k_dim + d] : 0.0f;
    }
}

/* Where a query's sums go, for columns d: the result, or its part of it. */
NANO_DEVICE float *result(const nano_cuda_attention &p, const nano_cuda_tile &tile, int i) {
    const query_of which = query(p, i);
    const int64_t token = tile.first + which.token;
    return p.n_split == 1 ? p.y + token * p.y_stride + which.head * p.v_dim
                          : p.part + ((token * p.n_head + which.head) * p.n_split + blockIdx.z) * (p.v_dim + 2);
}

NANO_CUDA_KERNEL(nano_attention_kernel, nano_cuda_attention) {
    __shared__ float q[QUERIES * HEAD_MAX];
    __shared__ float scores[QUERIES][KEYS];
    __shared__ float max[QUERIES], sum[QUERIES], rescale[QUERIES];
    const nano_cuda_tile tile = p.tiles[blockIdx.x];
    const int n = tile.count * p.n_group;
    const uint8_t *keys = p.k.data + tile.slot * p.k.slot_bytes + blockIdx.y * p.k.head_bytes;
    const uint8_t *values = p.v.data + tile.slot * p.v.slot_bytes + blockIdx.y * p.v.head_bytes;
    /* Tiles of keys, shared out among the parts. */
    const int end = tile.position + tile.count;
    const int first_seen = p.window > 0 && tile.position >= p.window ? tile.position + 1 - p.window : 0;
    const int n_tiles = (end + KEYS - 1) / KEYS, each = (n_tiles + p.n_split - 1) / p.n_split;
    const int from = static_cast<int>(blockIdx.z) * each, to = from + each < n_tiles ? from + each : n_tiles;
    float out[QUERIES][HEAD_MAX / NANO_CUDA_THREADS] = {};
    load_queries(p, tile, n, q);
    if (threadIdx.x < QUERIES) {
        max[threadIdx.x] = -INFINITY;
        sum[threadIdx.x] = 0.0f;
    }
    __syncthreads();
    for (int t = from > first_seen / KEYS ? from : first_seen / KEYS; t < to; t++) {
        score_tile(p, tile, keys, t * KEYS, n, q, scores);
        __syncthreads();
        soften(n, scores, max, sum, rescale);
        __syncthreads();
        const int count = end - t * KEYS < KEYS ? end - t * KEYS : static_cast<int>(KEYS);
        NANO_UNROLL
        for (int c = 0; c < HEAD_MAX / NANO_CUDA_THREADS; c++) {
            const int d = static_cast<int>(threadIdx.x) + c * NANO_CUDA_THREADS;
            if (d >= p.v_dim) {
                continue;
            }
            NANO_UNROLL
            for (int i = 0; i < QUERIES; i++) {
                out[i][c] = i < n ? out[i][c] * rescale[i] : 0.0f;
            }
            for (int key = 0; key < count; key++) {
                const float v = load_element(values + (t * KEYS + key) * p.v.row_bytes, p.v.type, d);
                NANO_UNROLL
                for (int i = 0; i < QUERIES; i++) {
                    out[i][c] += scores[i][key] * v;
                }
            }
        }
        __syncthreads();
    }
    NANO_UNROLL
    for (int i = 0; i < QUERIES; i++) {
        if (i >= n) {
            continue;
        }
        float *y = result(p, tile, i);
        const float factor = p.n_split == 1 ? 1.0f / sum[i] : 1.0f;
        NANO_UNROLL
        for (int c = 0; c < HEAD_MAX / NANO_CUDA_THREADS; c++) {
            const int d = static_cast<int>(threadIdx.x) + c * NANO_CUDA_THREADS;
            if (d < p.v_dim) {
                y[d] = out[i][c] * factor;
            }
        }
        if (p.n_split > 1 && threadIdx.x == 0) {
            y[p.v_dim] = max[i];
            y[p.v_dim + 1] = sum[i];
        }
    }
}

NANO_CUDA_KERNEL(nano_attention_join_kernel, nano_cuda_attention_join) {
    const int64_t row = static_cast<int64_t>(blockIdx.y) * p.n_head + blockIdx.x;
    const float *part = p.part + row * p.n_split * (p.v_dim + 2);
    float max = -INFINITY, sum = 0.0f;
    for (int s = 0; s < p.n_split; s++) {
        max = fmaxf(max, part[s * (p.v_dim + 2) + p.v_dim]);
    }
    for (int s = 0; s < p.n_split; s++) {
        const float *at = part + s * (p.v_dim + 2) + p.v_dim;
        sum += at[1] * expf(at[0] - max);
    }
    for (int d = static_cast<int>(threadIdx.x); d < p.v_dim; d += NANO_CUDA_THREADS) {
        float y = 0.0f;
        for (int s = 0; s < p.n_split; s++) {
            const float *at = part + s * (p.v_dim + 2);
            y += at[d] * expf(at[p.v_dim] - max);
        }
        p.y[blockIdx.y * p.y_stride + blockIdx.x * p.v_dim + d] = y / sum;
    }
}

/* A thread writes an element; in Q8_0 a warp a block of 32, a head being whole blocks of them. */
NANO_CUDA_KERNEL(nano_kv_write_kernel, nano_cuda_kv_write) {
    const int token = static_cast<int>(blockIdx.y);
    const float *x = p.x + token * p.x_stride + static_cast<int64_t>(blockIdx.x) * p.n;
    uint8_t *row = p.cache.data + p.slots[token] * p.cache.slot_bytes + blockIdx.x * p.cache.head_bytes +
                   p.positions[token] * p.cache.row_bytes;
    for (int i = static_cast<int>(threadIdx.x); i < (p.n + 31) / 32 * 32; i += NANO_CUDA_THREADS) {
        const float value = i < p.n ? x[i] : 0.0f;
        if (p.cache.type == 0 && i < p.n) {
            reinterpret_cast<float *>(row)[i] = value;
        } else if (p.cache.type == 1 && i < p.n) {
            reinterpret_cast<__half *>(row)[i] = __float2half_rn(value);
        } else if (p.cache.type == 8) {
            const float d = warp_max(fabsf(value)) / 127.0f;
            uint8_t *block = row + i / 32 * 34;
            block[2 + i % 32] = static_cast<uint8_t>(static_cast<int8_t>(d > 0.0f ? __float2int_rn(value / d) : 0));
            if (i % 32 == 0) {
                *reinterpret_cast<__half *>(block) = __float2half_rn(d);
            }
        }
    }
}
