/* Runs a short program over the rows of matrices, a tile of rows at a time, in double.
 *
 * A program is straight-line code on registers. A number register holds one number for each row of
 * the tile, a vector register one row of coordinates for each. Everything between loading and
 * storing stays in the cache, and is rounded once when it is stored. Programs are recorded from the
 * formulas in Python by ternvae/manifolds/programs.py, the only caller, which vouches for every
 * address, register and size that it passes.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define TILE_COORDINATES 1024 /* coordinates in a vector register: 8 KiB */
#define MOST_ROWS 64          /* rows in a tile of short vectors */
#define PARALLEL_FROM 16384   /* coordinates in a call below which threads cost more than they do */
#define ALIGNMENT 64

/* One version for each generation of x86 vector units, chosen when the module is loaded. */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && __GNUC__ >= 12
#define VERSIONS __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define VERSIONS
#endif

/* In the order of programs.OPERATIONS. Vectors: x, y, z; numbers: s, t, u. */
enum {
    LOAD_VECTOR,  /* z = input[a] */
    LOAD_NUMBER,  /* u = input[a] */
    DOT,          /* u = <x, y> */
    SCALE,        /* z = s x */
    AXPY,         /* z = x + s y */
    ADD, SUBTRACT, MULTIPLY, DIVIDE, SQRT, EXP, TANH, LOG1P, ABS, COPYSIGN, MINIMUM, MAXIMUM,
    LESS,         /* u = s < t, as 1 or 0 */
    SELECT,       /* u = s ? t : r */
    STORE_VECTOR, /* output[out] = x */
    STORE_NUMBER  /* output[out] = s */
};

typedef struct {
    int operation, out, a, b, c;
} Instruction;

typedef struct {
    Py_ssize_t length;
    int n_numbers, n_vectors, n_constants, n_inputs, n_outputs;
    const Instruction *code;
    const double *constants; /* the first number registers; the parameters of a call follow them */
} Program;

typedef struct {    /* a matrix whose rows have their coordinates next to each other */
    char *data;
    Py_ssize_t row; /* bytes from row to row; 0 repeats one row */
    int is_double;
} Matrix;

typedef struct {
    const Program *program;
    Py_ssize_t n, width;
    int n_parameters;
    const double *parameters;
    const Matrix *inputs, *outputs;
} Call;

#define INLINE static inline __attribute__((always_inline)) /* compiled for each of VERSIONS */

INLINE void load(const Matrix *from, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t width,
                 double *restrict to) {
    const Py_ssize_t size = from->is_double ? sizeof(double) : sizeof(float);
    const char *at = from->data + row * from->row;
    if (from->row == width * size) { /* rows next to each other: one long loop */
        width *= rows;
        rows = 1;
    }
    for (Py_ssize_t r = 0; r < rows; r++, to += width, at += from->row) {
        if (from->is_double) {
            const double *restrict x = (const double *)at;
            for (Py_ssize_t k = 0; k < width; k++) to[k] = x[k];
        } else {
            const float *restrict x = (const float *)at;
            for (Py_ssize_t k = 0; k < width; k++) to[k] = (double)x[k];
        }
    }
}

INLINE void store(const Matrix *to, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t width,
                  const double *restrict from) {
    const Py_ssize_t count = rows * width;
    if (to->is_double) {
        double *restrict at = (double *)to->data + row * width;
        for (Py_ssize_t k = 0; k < count; k++) at[k] = from[k];
    } else {
        float *restrict at = (float *)to->data + row * width;
        for (Py_ssize_t k = 0; k < count; k++) at[k] = (float)from[k];
    }
}

#if defined(__GNUC__) && !defined(__clang__)
typedef double Eight __attribute__((vector_size(64), aligned(8)));
typedef long long Places __attribute__((vector_size(64)));

/* Each of the results is one half of a, added up in pairs, interleaved with the same of b. */
INLINE Eight pairs(Eight a, Eight b) {
    const Places even = {0, 8, 2, 10, 4, 12, 6, 14}, odd = {1, 9, 3, 11, 5, 13, 7, 15};
    return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
}

INLINE Eight fours(Eight a, Eight b) {
    const Places even = {0, 1, 8, 9, 4, 5, 12, 13}, odd = {2, 3, 10, 11, 6, 7, 14, 15};
    return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
}

INLINE Eight eights(Eight a, Eight b) {
    const Places even = {0, 1, 2, 3, 8, 9, 10, 11}, odd = {4, 5, 6, 7, 12, 13, 14, 15};
    return __builtin_shuffle(a, b, even) + __builtin_shuffle(a, b, odd);
}

/* The inner products of eight rows at a time: summing one row by itself waits for each addition.
 * The last eight may be more than there are; a tile has room for them. A row that was summed in
 * another way would depend on its place in the batch. */
INLINE void dots_of_eight(const double *x, const double *y, Py_ssize_t rows, Py_ssize_t width,
                          double *u) {
    for (Py_ssize_t r = 0; r < rows; r += 8, x += 8 * width, y += 8 * width) {
        Eight sum[8];
        for (int i = 0; i < 8; i++) {
            const Eight *a = (const Eight *)(x + i * width), *b = (const Eight *)(y + i * width);
            sum[i] = a[0] * b[0];
            for (Py_ssize_t k = 1; k < width / 8; k++) sum[i] += a[k] * b[k];
        }
        *(Eight *)(u + r) = eights(
            fours(pairs(sum[0], sum[1]), pairs(sum[2], sum[3])),
            fours(pairs(sum[4], sum[5]), pairs(sum[6], sum[7])));
    }
}
#define EIGHTS 1
#else
#define EIGHTS 0
#define dots_of_eight(x, y, rows, width, u)
#endif

INLINE void dots(const double *x, const double *y, Py_ssize_t rows, Py_ssize_t width, double *u) {
    if (EIGHTS && width == 16) { /* a constant width lets the compiler unroll */
        dots_of_eight(x, y, rows, 16, u);
    } else if (EIGHTS && width % 8 == 0 && width > 0) {
        dots_of_eight(x, y, rows, width, u);
    } else {
        for (Py_ssize_t r = 0; r < rows; r++, x += width, y += width) {
            double sum = 0.0;
#pragma omp simd reduction(+ : sum)
            for (Py_ssize_t k = 0; k < width; k++) sum += x[k] * y[k];
            u[r] = sum;
        }
    }
}

/* The functions of the C library do not come in vectors everywhere. These have no branches, so that
 * the loops over them can be compiled to vector code, and are within 2 ulp. */

typedef union {
    double value;
    uint64_t bits;
} Word;

#define LN2_HIGH 6.93147180369123816490e-01 /* the low bits are 0: k LN2_HIGH is exact */
#define LN2_LOW 1.90821492927058770002e-10
#define SHIFT 6755399441055744.0 /* 1.5 * 2^52: adding it leaves an integer in the low bits */

/* exp(x) - 1 and 2^k, where x = k log 2 + r; *small is exp(r) - 1. */
INLINE double scale_of_exp(double x, double *small) {
    x = x > 709.0 ? 709.0 : x;
    x = x < -708.0 ? -708.0 : x;
    Word k = {.value = x * 1.4426950408889634074 + SHIFT};
    const double n = k.value - SHIFT, r = (x - n * LN2_HIGH) - n * LN2_LOW;
    double sum = 1.0 / 6227020800.0; /* the Taylor series up to r^13: the rest is below 2^-57 r */
    sum = sum * r + 1.0 / 479001600.0;
    sum = sum * r + 1.0 / 39916800.0;
    sum = sum * r + 1.0 / 3628800.0;
    sum = sum * r + 1.0 / 362880.0;
    sum = sum * r + 1.0 / 40320.0;
    sum = sum * r + 1.0 / 5040.0;
    sum = sum * r + 1.0 / 720.0;
    sum = sum * r + 1.0 / 120.0;
    sum = sum * r + 1.0 / 24.0;
    sum = sum * r + 1.0 / 6.0;
    sum = sum * r + 0.5;
    *small = sum * (r * r) + r;
    const Word scale = {.bits = (k.bits + 1023) << 52};
    return scale.value;
}

/* exp(x), cut off at 1e-307 and 1e308. */
INLINE double exp_of(double x) {
    double small;
    const double scale = scale_of_exp(x, &small);
    return scale * small + scale;
}

INLINE double tanh_of(double x) {
    double small;
    const double scale = scale_of_exp(-2.0 * fabs(x), &small);
    const double expm1 = scale * small + (scale - 1.0);
    return copysign(-expm1 / (expm1 + 2.0), x);
}

/* log(1 + x): the algorithm of fdlibm (K. C. Ng, Sun Microsystems 1993), for any x. */
INLINE double log1p_of(double x) {
    const Word u = {.value = 1.0 + x};
    /* u = 2^k m with m between sqrt(1/2) and sqrt(2) */
    const uint64_t shifted = u.bits + ((uint64_t)(0x3ff00000 - 0x3fe6a09e) << 32);
    const Word m = {.bits = (shifted & 0x000fffffffffffffu) + ((uint64_t)0x3fe6a09e << 32)};
    const Word k_shifted = {.bits = (shifted >> 52) + 0x4338000000000000u};
    const double k = k_shifted.value - (SHIFT + 1023.0);
    const double lost = (x > 1.0 ? 1.0 - (u.value - x) : x - (u.value - 1.0)) / u.value;
    const double f = m.value - 1.0, half = 0.5 * f * f, s = f / (2.0 + f), z = s * s, w = z * z;
    const double even = w * (3.999999999940941908e-01 +
                             w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
    const double odd = z * (6.666666666666735130e-01 +
                            w * (2.857142874366239149e-01 +
                                 w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
    const double value =
        s * (half + even + odd) + (k * LN2_LOW + lost) - half + f + k * LN2_HIGH;
    const double beyond = u.value > 0.0 ? x : (u.value == 0.0 ? -INFINITY : NAN);
    return u.value > 0.0 && x < DBL_MAX ? value : beyond;
}

#define NUMBERS(expression)                                                                   \
    for (Py_ssize_t r = 0; r < rows; r++) u[r] = (expression);                                \
    break

/* Loops over the coordinates of each row; a constant width lets the compiler unroll them. */
#define EACH_ROW(body)                                                                        \
    if (width == 16) {                                                                        \
        for (Py_ssize_t r = 0; r < rows; r++) {                                               \
            const Py_ssize_t d = 16, at = r * 16;                                             \
            body                                                                              \
        }                                                                                     \
    } else {                                                                                  \
        for (Py_ssize_t r = 0; r < rows; r++) {                                               \
            const Py_ssize_t d = width, at = r * width;                                       \
            body                                                                              \
        }                                                                                     \
    }

/* The program on rows [row, row + rows) of the matrices. */
INLINE void run_tile(const Call *call, Py_ssize_t row, Py_ssize_t rows, double *numbers,
                     double *vectors, Py_ssize_t pitch) {
    const Py_ssize_t width = call->width;
    for (Py_ssize_t i = 0; i < call->program->length; i++) {
        const Instruction o = call->program->code[i];
        double *u = numbers + o.out * MOST_ROWS;
        const double *s = numbers + o.a * MOST_ROWS, *t = numbers + o.b * MOST_ROWS;
        double *z = vectors + o.out * pitch;
        switch (o.operation) {
        case LOAD_VECTOR: load(&call->inputs[o.a], row, rows, width, z); break;
        case LOAD_NUMBER: load(&call->inputs[o.a], row, rows, 1, u); break;
        case DOT: dots(vectors + o.a * pitch, vectors + o.b * pitch, rows, width, u); break;
        case SCALE: {
            const double *x = vectors + o.b * pitch;
            EACH_ROW({
                const double by = s[r];
                _Pragma("omp simd")
                for (Py_ssize_t k = 0; k < d; k++) z[at + k] = by * x[at + k];
            })
            break;
        }
        case AXPY: {
            const double *x = vectors + o.b * pitch, *y = vectors + o.c * pitch;
            EACH_ROW({
                const double by = s[r];
                _Pragma("omp simd")
                for (Py_ssize_t k = 0; k < d; k++) z[at + k] = x[at + k] + by * y[at + k];
            })
            break;
        }
        case ADD: NUMBERS(s[r] + t[r]);
        case SUBTRACT: NUMBERS(s[r] - t[r]);
        case MULTIPLY: NUMBERS(s[r] * t[r]);
        case DIVIDE: NUMBERS(s[r] / t[r]);
        case SQRT: NUMBERS(sqrt(s[r]));
        case EXP: NUMBERS(exp_of(s[r]));
        case TANH: NUMBERS(tanh_of(s[r]));
        case LOG1P: NUMBERS(log1p_of(s[r]));
        case ABS: NUMBERS(fabs(s[r]));
        case COPYSIGN: NUMBERS(copysign(s[r], t[r]));
        case MINIMUM: NUMBERS(s[r] > t[r] ? t[r] : s[r]); /* NaN stays NaN */
        case MAXIMUM: NUMBERS(s[r] < t[r] ? t[r] : s[r]);
        case LESS: NUMBERS(s[r] < t[r] ? 1.0 : 0.0);
        case SELECT: {
            const double *otherwise = numbers + o.c * MOST_ROWS;
            NUMBERS(s[r] != 0.0 ? t[r] : otherwise[r]);
        }
        case STORE_VECTOR:
            store(&call->outputs[o.out], row, rows, width, vectors + o.a * pitch);
            break;
        case STORE_NUMBER: store(&call->outputs[o.out], row, rows, 1, s); break;
        }
    }
}

VERSIONS static int run_rows(const Call *call, Py_ssize_t from, Py_ssize_t to) {
    const Program *program = call->program;
    Py_ssize_t rows = TILE_COORDINATES / (call->width ? call->width : 1) / 8 * 8;
    if (rows > MOST_ROWS) rows = MOST_ROWS;
    if (rows < 8) rows = 8;
    /* A cache line apart from a power of two, whose addresses would collide in the cache. */
    const Py_ssize_t pitch = (rows * call->width + 15) / 8 * 8;
    const Py_ssize_t n_numbers = program->n_numbers * MOST_ROWS;
    size_t bytes = (size_t)(n_numbers + program->n_vectors * pitch) * sizeof(double);
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    double *numbers = aligned_alloc(ALIGNMENT, bytes);
    if (numbers == NULL) return 0;
    memset(numbers, 0, bytes);
    for (int k = 0; k < program->n_constants + call->n_parameters; k++) {
        const double value = k < program->n_constants
                                 ? program->constants[k]
                                 : call->parameters[k - program->n_constants];
        for (int r = 0; r < MOST_ROWS; r++) numbers[k * MOST_ROWS + r] = value;
    }
    for (Py_ssize_t row = from; row < to; row += rows)
        run_tile(call, row, to - row < rows ? to - row : rows, numbers, numbers + n_numbers,
                 pitch);
    free(numbers);
    return 1;
}

static int run_call(const Call *call, int threads) {
    if (threads <= 1 || call->n * call->width < PARALLEL_FROM)
        return run_rows(call, 0, call->n);
    int ok = 1;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(&& : ok)
    for (int part = 0; part < threads; part++)
        ok = ok && run_rows(call, call->n * part / threads, call->n * (part + 1) / threads);
    return ok;
}

#define CAPSULE "ternvae.manifolds._tiles.program"

static void release(PyObject *capsule) {
    Program *program = PyCapsule_GetPointer(capsule, CAPSULE);
    if (program == NULL) return;
    PyMem_Free((void *)program->code);
    PyMem_Free((void *)program->constants);
    PyMem_Free(program);
}

/* prepare(code, constants, n_numbers, n_vectors, n_inputs, n_outputs): code is the bytes of
 * Instructions, constants those of doubles. */
static PyObject *prepare(PyObject *self, PyObject *args) {
    const char *code, *constants;
    Py_ssize_t code_size, constants_size;
    Program made = {0};
    if (!PyArg_ParseTuple(args, "y#y#iiii", &code, &code_size, &constants, &constants_size,
                          &made.n_numbers, &made.n_vectors, &made.n_inputs, &made.n_outputs))
        return NULL;
    made.length = code_size / (Py_ssize_t)sizeof(Instruction);
    made.n_constants = (int)(constants_size / (Py_ssize_t)sizeof(double));
    Program *program = PyMem_Malloc(sizeof(Program));
    void *kept_code = PyMem_Malloc((size_t)code_size + 1);
    void *kept_constants = PyMem_Malloc((size_t)constants_size + 1);
    if (program == NULL || kept_code == NULL || kept_constants == NULL) {
        PyMem_Free(program);
        PyMem_Free(kept_code);
        PyMem_Free(kept_constants);
        return PyErr_NoMemory();
    }
    memcpy(kept_code, code, (size_t)code_size);
    memcpy(kept_constants, constants, (size_t)constants_size);
    made.code = kept_code;
    made.constants = kept_constants;
    *program = made;
    return PyCapsule_New(program, CAPSULE, release);
}

#define MOST_MATRICES 32
#define MOST_PARAMETERS 16

/* ((address, bytes from row to row, is double), ...) */
static int read_matrices(PyObject *tuple, int expected, Matrix *to) {
    if (PyTuple_GET_SIZE(tuple) != expected || expected > MOST_MATRICES) {
        PyErr_Format(PyExc_ValueError, "expected %d matrices (at most %d), got %zd", expected,
                     MOST_MATRICES, PyTuple_GET_SIZE(tuple));
        return 0;
    }
    for (int i = 0; i < expected; i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        to[i].data = PyLong_AsVoidPtr(PyTuple_GET_ITEM(item, 0));
        to[i].row = PyLong_AsSsize_t(PyTuple_GET_ITEM(item, 1));
        to[i].is_double = PyTuple_GET_ITEM(item, 2) == Py_True;
    }
    return !PyErr_Occurred();
}

/* run(program, n, width, threads, parameters, inputs, outputs) */
static PyObject *run(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 7) return PyErr_Format(PyExc_TypeError, "seven arguments, got %zd", nargs);
    const Program *program = PyCapsule_GetPointer(args[0], CAPSULE);
    if (program == NULL) return NULL;
    Matrix inputs[MOST_MATRICES], outputs[MOST_MATRICES];
    double parameters[MOST_PARAMETERS];
    Call call = {.program = program,
                 .n = PyLong_AsSsize_t(args[1]),
                 .width = PyLong_AsSsize_t(args[2]),
                 .n_parameters = (int)PyTuple_GET_SIZE(args[4]),
                 .parameters = parameters,
                 .inputs = inputs,
                 .outputs = outputs};
    const int threads = (int)PyLong_AsLong(args[3]);
    if (call.n_parameters > MOST_PARAMETERS)
        return PyErr_Format(PyExc_ValueError, "too many parameters: %d", call.n_parameters);
    for (int k = 0; k < call.n_parameters; k++)
        parameters[k] = PyFloat_AsDouble(PyTuple_GET_ITEM(args[4], k));
    if (!read_matrices(args[5], program->n_inputs, inputs) ||
        !read_matrices(args[6], program->n_outputs, outputs) || PyErr_Occurred())
        return NULL;
    int ok;
    Py_BEGIN_ALLOW_THREADS
    ok = run_call(&call, threads);
    Py_END_ALLOW_THREADS
    if (!ok) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"prepare", prepare, METH_VARARGS, "Make a program from its code and constants."},
    {"run", (PyCFunction)(void (*)(void))run, METH_FASTCALL, "Run a program on matrices."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_tiles", "Short programs over the rows of matrices.", -1, methods,
    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__tiles(void) { return PyModule_Create(&module); }
