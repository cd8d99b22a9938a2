/* What _dense.c and the versions of its inner loops have in common. */
#ifndef TERNVAE_DENSE_H
#define TERNVAE_DENSE_H

#include <stddef.h>
#include <stdint.h>

#define LANES 16 /* floats in a vector; rows and columns are padded to multiples of it */
#define ROWS 64      /* rows in a tile */
#define SLAB_ROWS 256 /* rows whose gradients are summed by one thread */
#define ALIGNMENT 64
#define MOST_DIGITS 64 /* of a sequence */
#define PADDED(n) (((n) + LANES - 1) / LANES * LANES)

/* In the order of dense.OPERATIONS. */
enum {
    ONE_HOT,   /* of the digits of the sequences */
    LOAD,      /* an input matrix */
    LINEAR,    /* W x + b */
    NORM_SILU, /* silu(gamma (x - mean) / deviation + beta) */
    SILU,      /* x sigmoid(x) */
    ADD,       /* x + y, y the register `index` */
    SHARE,     /* `whole` times sigmoid(x) */
    STORE,     /* an output matrix */
    NLL,       /* an output number: -log of the probability of the sequence */
    DRAW       /* from log-variances l and an input of noise e: the output e exp(l / 2), and the next
                * one, the numbers -|e|^2 / 2 - sum(l) / 2; l is cut off at the bounds */
};

typedef struct {
    int operation, source, in, out;
    int parameter; /* the first of two: weight and bias, or gamma and beta */
    int index;     /* of the input or output; ADD: of the second register; DRAW: of the output, and `parameter` of the input */
    int saved;     /* columns of what is kept before this register; -1: it is not kept */
    float epsilon;
} Instruction;

/* layers.LOG_VARIANCE_RANGE */
#define LEAST_LOG_VARIANCE -10.0f
#define MOST_LOG_VARIANCE 2.0f

typedef struct {
    int length, n_parameters, saved_columns;
    const Instruction *code;
} Network;

typedef struct {
    const Network *network;
    ptrdiff_t n;
    float whole; /* see SHARE */
    const int64_t *sequences;
    const float **inputs, **parameters;
    float **outputs;        /* forward */
    float *saved;           /* NULL: nothing is kept */
    const float **g_outputs; /* backward */
    float **g_inputs, **g_parameters;
    int adds;               /* to the gradients of parameters that are there */
    float **packed;         /* for each instruction, both passes */
    float *slabs;           /* gradients of the parameters, slab by slab */
    ptrdiff_t slab_size;
    const ptrdiff_t *slab_at; /* for each instruction */
} Call;

/* Takes the rows of a slab through the network, forward, or forward and backward; 0: no memory.
 * One version for each generation of x86 vector units, and one for everything else. */
typedef int Worker(const Call *call, int backward, ptrdiff_t slab);
Worker ternvae_dense_slab, ternvae_dense_slab_v3, ternvae_dense_slab_v4;

#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && __GNUC__ >= 12
#define GENERATIONS 1
#else
#define GENERATIONS 0
#endif

#endif
