/* cuda_columns.cuh -- work on the columns of (rows, c), c often small and rows often many.
 *
 * A block takes a slice of the rows and up to THREADS columns of them, and in it a thread keeps to
 * one column: what is a column's stays in its registers, nothing is divided on the way, and where
 * c is small a block reads several rows side by side, without a gap. Slices depend on the shape
 * only, so that sums come out the same on any device.
 */
#ifndef CUDA_COLUMNS_CUH
#define CUDA_COLUMNS_CUH

#include "kernels/cuda_reduce.cuh"

struct columns {
    size_t rows, slice; /* rows of a slice */
    unsigned c, slices, tiles, unused;
};

/* `rows_each` is how many rows a thread should have, `most` how many blocks there may be. */
static inline struct columns columns_of(size_t rows, int c, unsigned rows_each, size_t most) {
    struct columns s = {rows, 0, (unsigned)c, 1, ((unsigned)c + THREADS - 1) / THREADS, 0};
    size_t abreast = s.c < THREADS ? THREADS / s.c : 1, wanted = rows / (abreast * rows_each);
    size_t slices = s.tiles < most ? most / s.tiles : 1;
    if (wanted < slices) slices = wanted;
    s.slices = slices > 1 ? (unsigned)slices : 1;
    s.slice = (rows + s.slices - 1) / s.slices;
    return s;
}

static inline dim3 columns_grid(const struct columns *s) { return dim3(s->slices, s->tiles); }

/* What a thread works on: `count` elements of one column, `apart` from each other. */
struct column_share {
    unsigned width, abreast; /* columns of the block, and rows that it takes side by side */
    unsigned row;            /* the thread's among these; too many for a few of the threads */
    unsigned j;              /* the column */
    size_t at, apart, count; /* none for the few */
};

static inline __device__ struct column_share column_share_of(struct columns s) {
    struct column_share t;
    unsigned from = blockIdx.y * THREADS;
    t.width = s.c - from < THREADS ? s.c - from : (unsigned)THREADS;
    t.abreast = THREADS / t.width;
    t.row = threadIdx.x / t.width;
    t.j = from + threadIdx.x % t.width;
    size_t first = blockIdx.x * s.slice + t.row, end = (blockIdx.x + 1) * s.slice;
    if (end > s.rows) end = s.rows;
    if (t.row >= t.abreast || first > end) first = end;
    t.at = first * s.c + t.j;
    t.apart = (size_t)t.abreast * s.c;
    t.count = (end - first + t.abreast - 1) / t.abreast;
    return t;
}

/* A thread's elements, counted, so that the compiler fetches several of them at a time: there are
 * not enough threads to hide behind one another how long memory takes. */
#define FOR_COLUMN(i, share)                                                                       \
    _Pragma("unroll 8") for (size_t left_ = (share).count, i = (share).at; left_ > 0;              \
                             left_--, i += (share).apart)

/* ---- two sums a column ---- */

/* Blocks whose sums, two floats a column, have room in the scratch: 512 of 256 columns. */
enum { SUMS_MOST = CUDA_SCRATCH / (2 * sizeof(float) * THREADS) };

/* Terms and finishes have no padding: whoever looks for addresses among the arguments would find
 * leftovers there. */

/* Sums of term(i, j) over a slice's elements i of column j: to part (c, slices), or where there
 * is one slice, to finish(j, sums). */
template <class Term, class Finish>
static __global__ void columns_sum_kernel(
    struct columns s, Term term, Finish finish, float2 *part) {
    static __shared__ float2 sums[THREADS];
    struct column_share t = column_share_of(s);
    float2 sum = make_float2(0, 0);
    FOR_COLUMN (i, t) {
        float2 v = term(i, t.j);
        sum.x += v.x;
        sum.y += v.y;
    }
    sums[threadIdx.x] = sum;
    for (unsigned left = t.abreast; left > 1;) {
        unsigned half = (left + 1) / 2;
        __syncthreads();
        if (t.row < left - half) {
            float2 other = sums[threadIdx.x + half * t.width];
            sum.x += other.x;
            sum.y += other.y;
            sums[threadIdx.x] = sum;
        }
        left = half;
    }
    if (t.row != 0) return;
    if (s.slices == 1) {
        finish(t.j, sum);
    } else {
        part[(size_t)t.j * s.slices + blockIdx.x] = sum;
    }
}

/* A warp adds up a column's slices; finish(j, sums) is told. */
template <class Finish>
static __global__ void columns_finish_kernel(
    const float2 *part, unsigned c, unsigned slices, Finish finish) {
    unsigned j = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    float2 sum = make_float2(0, 0);
    if (j >= c) return; /* a whole warp */
    for (unsigned i = lane; i < slices; i += 32) {
        float2 v = part[(size_t)j * slices + i];
        sum.x += v.x;
        sum.y += v.y;
    }
    for (int apart = 16; apart > 0; apart /= 2) {
        sum.x += __shfl_xor_sync(0xffffffffu, sum.x, apart);
        sum.y += __shfl_xor_sync(0xffffffffu, sum.y, apart);
    }
    if (lane == 0) finish(j, sum);
}

/* For each column j: finish(j, sum over its elements of term(i, j)). */
template <class Term, class Finish>
static inline void columns_sum(struct stream *q, size_t rows, int c, Term term, Finish finish) {
    if (c == 0) return;
    struct columns s = columns_of(rows, c, 16, SUMS_MOST);
    float2 *part = (float2 *)((struct cuda_stream *)q)->scratch;
    LAUNCH(
        (columns_sum_kernel<Term, Finish>), q, columns_grid(&s), THREADS, 0, s, term, finish, part);
    if (s.slices == 1) return;
    LAUNCH(
        (columns_finish_kernel<Finish>), q, (s.c + 7) / 8, THREADS, 0, part, s.c, s.slices, finish);
}

#endif
