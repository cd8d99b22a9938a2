/* The loss on distances between pairs of points and its gradient, in one pass over the pairs.
 *
 * The formulas are those of ternvae/losses/ultrametric.py, the only caller, which vouches for
 * every address and size. All arithmetic is in double, all sums in the order of the pairs.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>

#define SMALLEST 1e-6   /* manifolds.chord.SMALLEST_CHORD */
#define MOST_LEVELS 64

/* log(1 + exp(x)) without overflow, NaN for NaN. */
static double softplus(double x) { return (x > 0.0 ? x : 0.0 * x) + log1p(exp(-fabs(x))); }

typedef struct {
    double squared, room_x, room_y, away; /* |x - y|^2, 1 - c|x|^2, 1 - c|y|^2, sinh^2 */
} Pair;

static Pair pair_of(const float *x, const float *y, Py_ssize_t width, double c) {
    double squared = 0.0, of_x = 0.0, of_y = 0.0;
    for (Py_ssize_t k = 0; k < width; k++) {
        const double a = x[k], b = y[k];
        squared += (a - b) * (a - b);
        of_x += a * a;
        of_y += b * b;
    }
    const double room_x = 1.0 - c * of_x, room_y = 1.0 - c * of_y;
    return (Pair){squared, room_x, room_y, c * squared / (room_x * room_y)};
}

/* Loss of a value against the thresholds, its slope, and the slopes of the thresholds. */
static double judge(double value, int64_t between, const double *thresholds, int count,
                    double temperature, double *slope, double *of_thresholds) {
    double loss = 0.0;
    *slope = 0.0;
    for (int t = 0; t < count; t++) {
        const double sign = between > t ? 1.0 : -1.0; /* threshold t is passed by t + 1 or more */
        const double x = sign * (value - thresholds[t]) / temperature;
        const double along = sign / (1.0 + exp(-x)) / temperature;
        loss += softplus(x);
        *slope += along;
        of_thresholds[t] = -along;
    }
    return loss;
}

/* add(pairs, width, first, second, between, count, thresholds, c, temperature, weight,
 *     g_first, g_second, g_thresholds): the sum of the losses; `weight` times its gradient is added
 * to what is there. Thresholds and their gradients are doubles. */
static PyObject *add(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 13) return PyErr_Format(PyExc_TypeError, "thirteen arguments, got %zd", nargs);
    const Py_ssize_t pairs = PyLong_AsSsize_t(args[0]), width = PyLong_AsSsize_t(args[1]);
    const float *x = PyLong_AsVoidPtr(args[2]), *y = PyLong_AsVoidPtr(args[3]);
    const int64_t *between = PyLong_AsVoidPtr(args[4]);
    const int count = (int)PyLong_AsLong(args[5]);
    const double *thresholds = PyLong_AsVoidPtr(args[6]);
    const double c = PyFloat_AsDouble(args[7]), temperature = PyFloat_AsDouble(args[8]),
                 weight = PyFloat_AsDouble(args[9]);
    float *g_x = PyLong_AsVoidPtr(args[10]), *g_y = PyLong_AsVoidPtr(args[11]);
    double *g_thresholds = PyLong_AsVoidPtr(args[12]);
    if (PyErr_Occurred()) return NULL;
    double total = 0.0, of_thresholds[MOST_LEVELS];
    for (Py_ssize_t i = 0; i < pairs; i++, x += width, y += width, g_x += width, g_y += width) {
        if (between[i] > count) continue; /* a sequence and itself */
        const Pair p = pair_of(x, y, width, c);
        double slope;
        total += judge(log(p.away + SMALLEST), between[i], thresholds, count, temperature, &slope,
                       of_thresholds);
        for (int t = 0; t < count; t++) g_thresholds[t] += weight * of_thresholds[t];
        const double apart = 2.0 * c * weight * slope / (p.away + SMALLEST);
        const double along = apart / (p.room_x * p.room_y);
        const double of_x = apart * p.away / p.room_x, of_y = apart * p.away / p.room_y;
        for (Py_ssize_t k = 0; k < width; k++) {
            const double step = along * ((double)x[k] - y[k]);
            g_x[k] += (float)(step + of_x * x[k]);
            g_y[k] += (float)(of_y * y[k] - step);
        }
    }
    return PyFloat_FromDouble(total);
}

static PyMethodDef methods[] = {
    {"add", (PyCFunction)(void (*)(void))add, METH_FASTCALL, "The loss, and its gradient."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_pairs", "Loss on distances between points.", -1, methods,
    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__pairs(void) { return PyModule_Create(&module); }
