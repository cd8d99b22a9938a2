/* Runs a small network of linear layers over tiles of rows, forward and backward, in float.
 *
 * A network is straight-line code: each instruction makes one register, a matrix with a row for
 * each row of the batch. A tile of rows goes through all of it while it is in the cache. Forward
 * keeps what linear layers give where something curved follows; backward makes the rest again.
 * ternvae/models/dense.py is the only caller, and vouches for every address and size it passes.
 *
 * Gradients of weights are summed over slabs of rows of a fixed size, and the slabs in their order,
 * so that results do not depend on the number of threads.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>
#include <string.h>

#include "_dense.h"

/* The version of the inner loops for a generation of x86-64 (4, 3, or 0 for any processor); NULL if
 * this one cannot run it. */
static Worker *worker_of(long generation) {
#if GENERATIONS
    __builtin_cpu_init();
    if (generation == 4 && __builtin_cpu_supports("x86-64-v4")) return ternvae_dense_slab_v4;
    if (generation == 3 && __builtin_cpu_supports("x86-64-v3")) return ternvae_dense_slab_v3;
#endif
    return generation == 0 ? ternvae_dense_slab : NULL;
}

static Worker *worker; /* the newest that this processor can run, unless `use` took another */

/* --- a call -------------------------------------------------------------------------------- */

static void pack_row(const float *from, int columns, float *to) {
    memcpy(to, from, (size_t)columns * sizeof(float));
    memset(to + columns, 0, (size_t)(PADDED(columns) - columns) * sizeof(float));
}

/* Forward: (in x out) and the bias. Backward: (out x in). Both with padded rows. */
static void pack_linear(const Instruction *o, const float *weight, const float *bias, int backward,
                        float *to) {
    const int pitch = PADDED(backward ? o->in : o->out);
    const int rows = backward ? o->out : o->in, columns = backward ? o->in : o->out;
    if (backward) {
        for (int r = 0; r < rows; r++)
            pack_row(weight + (Py_ssize_t)r * o->in, columns, to + r * pitch);
        return;
    }
    memset(to, 0, (size_t)(rows * pitch) * sizeof(float));
    for (int block_at = 0; block_at < rows; block_at += 16)
        for (int c = 0; c < columns; c++)
            for (int r = block_at; r < rows && r < block_at + 16; r++)
                to[r * pitch + c] = weight[(Py_ssize_t)c * o->in + r];
    pack_row(bias, columns, to + rows * pitch);
}

static Py_ssize_t packed_size(const Instruction *o) {
    if (o->operation == NORM_SILU) return 2 * PADDED(o->in);
    if (o->operation != LINEAR) return 0;
    const Py_ssize_t forward = (Py_ssize_t)(o->in + 1) * PADDED(o->out);
    const Py_ssize_t backward = (Py_ssize_t)o->out * PADDED(o->in);
    return forward > backward ? forward : backward;
}

static Py_ssize_t sums_size(const Instruction *o) {
    if (o->operation == NORM_SILU) return 2 * PADDED(o->in);
    if (o->operation != LINEAR) return 0;
    return (Py_ssize_t)PADDED(o->out) * PADDED(o->in) + PADDED(o->out);
}

static void pack(const Call *call, int backward) {
    for (int i = 0; i < call->network->length; i++) {
        const Instruction *o = call->network->code + i;
        if (o->operation == LINEAR)
            pack_linear(o, call->parameters[o->parameter], call->parameters[o->parameter + 1],
                        backward, call->packed[i]);
        if (o->operation == NORM_SILU)
            for (int p = 0; p < 2; p++)
                pack_row(call->parameters[o->parameter + p], o->in,
                         call->packed[i] + p * PADDED(o->in));
    }
}

/* to = from, or to += from. */
static void put(const float *from, Py_ssize_t count, int adds, float *to) {
    if (!adds) {
        memcpy(to, from, (size_t)count * sizeof(float));
        return;
    }
    for (Py_ssize_t k = 0; k < count; k++) to[k] += from[k];
}

static void add_slabs(const Call *call, Py_ssize_t n_slabs) {
    for (Py_ssize_t slab = 1; slab < n_slabs; slab++)
        for (Py_ssize_t k = 0; k < call->slab_size; k++)
            call->slabs[k] += call->slabs[slab * call->slab_size + k];
    for (int i = 0; i < call->network->length; i++) {
        const Instruction *o = call->network->code + i;
        const float *from = call->slabs + call->slab_at[i];
        if (o->operation != LINEAR && o->operation != NORM_SILU) continue;
        float *first = call->g_parameters[o->parameter];
        float *second = call->g_parameters[o->parameter + 1];
        if (first == NULL) continue;
        const int rows = o->operation == LINEAR ? o->out : 1, pitch = PADDED(o->in);
        if (o->in == pitch) {
            put(from, (Py_ssize_t)rows * pitch, call->adds, first);
        } else {
            for (int r = 0; r < rows; r++)
                put(from + r * pitch, o->in, call->adds, first + (Py_ssize_t)r * o->in);
        }
        from += (o->operation == LINEAR ? PADDED(o->out) : 1) * pitch;
        put(from, o->out, call->adds, second);
    }
}

static int run_call(Call *call, int backward, int threads) {
    const Network *network = call->network;
    /* Without rows there is one all the same: its sums are zero, and those are the gradients. */
    const Py_ssize_t n_slabs = call->n > 0 ? (call->n + SLAB_ROWS - 1) / SLAB_ROWS : 1;
    Py_ssize_t size = 0, sums = 0;
    for (int i = 0; i < network->length; i++) size += packed_size(network->code + i);
    if (backward)
        for (int i = 0; i < network->length; i++) sums += PADDED(sums_size(network->code + i));
    const size_t heads = (size_t)network->length * (sizeof(float *) + sizeof(Py_ssize_t));
    const size_t floats = (size_t)(PADDED(size) + n_slabs * sums) * sizeof(float);
    char *room = aligned_alloc(ALIGNMENT, (floats + heads + ALIGNMENT) / ALIGNMENT * ALIGNMENT);
    if (room == NULL) return 0;
    float *at = (float *)room;
    Py_ssize_t *slab_at = (Py_ssize_t *)(room + floats), place = 0;
    call->packed = (float **)(slab_at + network->length);
    for (int i = 0; i < network->length; i++) {
        call->packed[i] = at;
        at += packed_size(network->code + i);
        slab_at[i] = place;
        place += backward ? PADDED(sums_size(network->code + i)) : 0;
    }
    call->slabs = (float *)room + PADDED(size);
    call->slab_size = sums;
    call->slab_at = slab_at;
    pack(call, backward);
    int ok = 1;
    if (threads > n_slabs) threads = (int)n_slabs;
    if (threads <= 1) {
        for (Py_ssize_t slab = 0; slab < n_slabs; slab++) ok = ok && worker(call, backward, slab);
    } else {
#pragma omp parallel for schedule(static) num_threads(threads) reduction(&& : ok)
        for (Py_ssize_t slab = 0; slab < n_slabs; slab++) ok = ok && worker(call, backward, slab);
    }
    if (ok && backward) add_slabs(call, n_slabs);
    free(room);
    return ok;
}

/* --- Python -------------------------------------------------------------------------------- */

#define CAPSULE "ternvae.models._dense.network"
#define MOST 256 /* parameters, inputs or outputs of a network */

static void release(PyObject *capsule) {
    Network *network = PyCapsule_GetPointer(capsule, CAPSULE);
    if (network == NULL) return;
    PyMem_Free((void *)network->code);
    PyMem_Free(network);
}

/* prepare(code): code is the bytes of Instructions. */
static PyObject *prepare(PyObject *self, PyObject *code) {
    char *bytes;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(code, &bytes, &size) < 0) return NULL;
    Network *network = PyMem_Malloc(sizeof(Network));
    Instruction *kept = PyMem_Malloc((size_t)size + 1);
    if (network == NULL || kept == NULL) {
        PyMem_Free(network);
        PyMem_Free(kept);
        return PyErr_NoMemory();
    }
    memcpy(kept, bytes, (size_t)size);
    *network = (Network){.length = (int)(size / (Py_ssize_t)sizeof(Instruction)), .code = kept};
    return PyCapsule_New(network, CAPSULE, release);
}

static int addresses(PyObject *tuple, const float **to) {
    const Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    if (count > MOST) {
        PyErr_Format(PyExc_ValueError, "at most %d matrices, got %zd", MOST, count);
        return 0;
    }
    for (Py_ssize_t i = 0; i < count; i++) to[i] = PyLong_AsVoidPtr(PyTuple_GET_ITEM(tuple, i));
    return !PyErr_Occurred();
}

static PyObject *finish(Call *call, int backward, int threads) {
    int ok;
    Py_BEGIN_ALLOW_THREADS
    ok = run_call(call, backward, threads);
    Py_END_ALLOW_THREADS
    if (!ok) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

/* forward(network, n, threads, sequences, saved, whole, inputs, parameters, outputs); an address
 * of 0 is what is not there. */
static PyObject *forward(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 9) return PyErr_Format(PyExc_TypeError, "nine arguments, got %zd", nargs);
    const float *inputs[MOST], *parameters[MOST], *outputs[MOST];
    Call call = {.network = PyCapsule_GetPointer(args[0], CAPSULE),
                 .n = PyLong_AsSsize_t(args[1]),
                 .sequences = PyLong_AsVoidPtr(args[3]),
                 .saved = PyLong_AsVoidPtr(args[4]),
                 .whole = (float)PyFloat_AsDouble(args[5]),
                 .inputs = inputs,
                 .parameters = parameters,
                 .outputs = (float **)outputs};
    if (PyErr_Occurred() || !addresses(args[6], inputs) || !addresses(args[7], parameters) ||
        !addresses(args[8], outputs))
        return NULL;
    return finish(&call, 0, (int)PyLong_AsLong(args[2]));
}

/* backward(network, n, threads, sequences, saved, whole, inputs, parameters, output gradients,
 *          input gradients, parameter gradients, adds): whether the last are added to what is there */
static PyObject *backward(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 12) return PyErr_Format(PyExc_TypeError, "twelve arguments, got %zd", nargs);
    const float *inputs[MOST], *parameters[MOST], *g_outputs[MOST], *g_inputs[MOST],
        *g_parameters[MOST];
    Call call = {.network = PyCapsule_GetPointer(args[0], CAPSULE),
                 .n = PyLong_AsSsize_t(args[1]),
                 .sequences = PyLong_AsVoidPtr(args[3]),
                 .saved = PyLong_AsVoidPtr(args[4]),
                 .whole = (float)PyFloat_AsDouble(args[5]),
                 .inputs = inputs,
                 .parameters = parameters,
                 .adds = (int)PyLong_AsLong(args[11]),
                 .g_outputs = g_outputs,
                 .g_inputs = (float **)g_inputs,
                 .g_parameters = (float **)g_parameters};
    if (PyErr_Occurred() || !addresses(args[6], inputs) || !addresses(args[7], parameters) ||
        !addresses(args[8], g_outputs) || !addresses(args[9], g_inputs) ||
        !addresses(args[10], g_parameters))
        return NULL;
    return finish(&call, 1, (int)PyLong_AsLong(args[2]));
}

/* use(generation): compute with the inner loops for that generation from now on; False, and as
 * before, if this processor cannot run them. For tests, which no machine could make of all. */
static PyObject *use(PyObject *self, PyObject *generation) {
    const long number = PyLong_AsLong(generation);
    if (number == -1 && PyErr_Occurred()) return NULL;
    Worker *const found = worker_of(number);
    if (found == NULL) Py_RETURN_FALSE;
    worker = found;
    Py_RETURN_TRUE;
}

static PyMethodDef methods[] = {
    {"use", use, METH_O, "Compute with the inner loops for a generation of x86-64."},
    {"prepare", prepare, METH_O, "Make a network from its code."},
    {"forward", (PyCFunction)(void (*)(void))forward, METH_FASTCALL, "Run a network."},
    {"backward", (PyCFunction)(void (*)(void))backward, METH_FASTCALL, "Its gradients."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_dense", "Small networks over tiles of rows.", -1, methods,
    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__dense(void) {
    for (long generation = 4; worker == NULL; generation--) worker = worker_of(generation);
    return PyModule_Create(&module);
}
