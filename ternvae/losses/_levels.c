/* The terms of the loss on radii, in a pass over the batch and a few numbers per level.
 *
 * The formulas are those of ternvae/losses.py, the only caller, which vouches for every address
 * and size. All sums are in double, in the order of the rows.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define MOST_LEVELS 64
#define LEAST_SHARE 0.5 /* losses.LEAST_LEVEL_SHARE */

/* Offset of a radius from the centre of the shell of its level, in shell widths. */
static double offset_of(float radius, int64_t level, double per_width, int n_digits) {
    return (float)(radius * (float)per_width - (float)(n_digits + 0.5 - (double)level));
}

/* sums(n, radii, levels, per_width, n_digits, margin, out): (n_digits + 1, 4) doubles, the sums of
 * 1, x, x^2 and the reach of x over the rows of each level. */
static PyObject *sums(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 7) return PyErr_Format(PyExc_TypeError, "seven arguments, got %zd", nargs);
    const Py_ssize_t n = PyLong_AsSsize_t(args[0]);
    const float *radii = PyLong_AsVoidPtr(args[1]);
    const int64_t *levels = PyLong_AsVoidPtr(args[2]);
    const double per_width = PyFloat_AsDouble(args[3]), margin = PyFloat_AsDouble(args[5]);
    const int n_digits = (int)PyLong_AsLong(args[4]);
    double *out = PyLong_AsVoidPtr(args[6]);
    if (PyErr_Occurred()) return NULL;
    for (int k = 0; k < 4 * (n_digits + 1); k++) out[k] = 0.0;
    for (Py_ssize_t i = 0; i < n; i++) {
        if (levels[i] < 0 || levels[i] > n_digits) continue; /* of no level */
        const double x = offset_of(radii[i], levels[i], per_width, n_digits);
        const double reach = fabs(x) - (0.5 - margin);
        double *sum = out + 4 * levels[i];
        sum[0] += 1.0;
        sum[1] += x;
        sum[2] += x * x;
        sum[3] += reach > 0.0 || reach != reach ? reach / margin : 0.0;
    }
    Py_RETURN_NONE;
}

/* losses._level_weights: half for the level, half for its share of the sequences. */
static double weight_of(int v, int n_digits) {
    const double share = v < n_digits ? 2.0 / pow(3.0, v + 1) : pow(3.0, -n_digits);
    return 0.5 / (n_digits + 1) + 0.5 * share;
}

static double above_zero(double x) { return x > 0.0 || x != x ? x : 0.0; }

/* terms(sums, n_digits, margin, scale, out): hierarchy, richness, separation; then for each level
 * the factors of 1, 2x and the slope of the reach in the derivative of each: of x^2 for hierarchy,
 * of x and of x^2 for richness, of the reach for separation. A scale of 0: no richness. */
static PyObject *terms(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 5) return PyErr_Format(PyExc_TypeError, "five arguments, got %zd", nargs);
    const double *given = PyLong_AsVoidPtr(args[0]);
    const int n_digits = (int)PyLong_AsLong(args[1]), levels = n_digits + 1;
    const double margin = PyFloat_AsDouble(args[2]);
    const double scale = PyFloat_AsDouble(args[3]) * (levels - 1) / levels;
    double *out = PyLong_AsVoidPtr(args[4]);
    if (PyErr_Occurred()) return NULL;
    double hierarchy = 0.0, separation = 0.0, shares[MOST_LEVELS];
    double weighed = 0.0, plural = 0.0, overall = 0.0, single = 0.0;
    for (int v = 0; v < levels; v++) {
        const double *sum = given + 4 * v, some = sum[0] > 1.0 ? sum[0] : 1.0;
        const double own = weight_of(v, n_digits);
        weighed += sum[0] > 0.0 ? own : 0.0;
        plural += v < levels - 1 && sum[0] > 1.0;
        hierarchy += own * sum[2] / some;
        separation += sum[3] / some;
        shares[v] = (sum[2] / some - sum[1] / some * (sum[1] / some)) * scale;
    }
    const double weight = 1.0 / (plural > 1.0 ? plural : 1.0);
    for (int v = 0; v < levels; v++) {
        const int counts = v < levels - 1 && given[4 * v] > 1.0;
        if (!counts && shares[v] == shares[v]) continue; /* NaN shows, of whatever level */
        overall += shares[v] * weight;
        single += above_zero(1.0 - shares[v] / LEAST_SHARE) * weight;
    }
    out[0] = hierarchy / weighed;
    out[1] = scale > 0.0 ? above_zero(1.0 - overall) + single : 0.0;
    out[2] = separation;
    for (int v = 0; v < levels; v++) {
        const double *sum = given + 4 * v, some = sum[0] > 1.0 ? sum[0] : 1.0;
        double *slope = out + 3 + 4 * v;
        const int counts = scale > 0.0 && v < levels - 1 && sum[0] > 1.0;
        const double short_of = (overall < 1.0) + (shares[v] < LEAST_SHARE) / LEAST_SHARE;
        slope[0] = weight_of(v, n_digits) / (some * weighed);
        slope[2] = counts ? -scale * weight * short_of / some : 0.0;
        slope[1] = -2.0 * slope[2] * sum[1] / some;
        slope[3] = 1.0 / (some * margin);
    }
    Py_RETURN_NONE;
}

/* gradient(n, radii, levels, per_width, n_digits, margin, terms, of hierarchy, of richness,
 *          of separation, out): that of the radii, for those of the terms. */
static PyObject *gradient(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 11) return PyErr_Format(PyExc_TypeError, "eleven arguments, got %zd", nargs);
    const Py_ssize_t n = PyLong_AsSsize_t(args[0]);
    const float *radii = PyLong_AsVoidPtr(args[1]);
    const int64_t *levels = PyLong_AsVoidPtr(args[2]);
    const double per_width = PyFloat_AsDouble(args[3]), margin = PyFloat_AsDouble(args[5]);
    const int n_digits = (int)PyLong_AsLong(args[4]);
    const double *slopes = (const double *)PyLong_AsVoidPtr(args[6]) + 3;
    const double of_hierarchy = PyFloat_AsDouble(args[7]), of_richness = PyFloat_AsDouble(args[8]),
                 of_separation = PyFloat_AsDouble(args[9]);
    float *out = PyLong_AsVoidPtr(args[10]);
    if (PyErr_Occurred()) return NULL;
    for (Py_ssize_t i = 0; i < n; i++) {
        out[i] = 0.0f;
        if (levels[i] < 0 || levels[i] > n_digits) continue;
        const double x = offset_of(radii[i], levels[i], per_width, n_digits);
        const double *slope = slopes + 4 * levels[i];
        const double squared = of_hierarchy * slope[0] + of_richness * slope[2];
        const double reaches = fabs(x) > 0.5 - margin ? copysign(1.0, x) : 0.0;
        out[i] = (float)((of_richness * slope[1] + 2.0 * x * squared +
                          of_separation * slope[3] * reaches) * per_width);
    }
    Py_RETURN_NONE;
}

/* take(n, width, levels, table, out): the row of the table for the level of each row. */
static PyObject *take(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 5) return PyErr_Format(PyExc_TypeError, "five arguments, got %zd", nargs);
    const Py_ssize_t n = PyLong_AsSsize_t(args[0]), width = PyLong_AsSsize_t(args[1]);
    const int64_t *levels = PyLong_AsVoidPtr(args[2]);
    const float *table = PyLong_AsVoidPtr(args[3]);
    float *out = PyLong_AsVoidPtr(args[4]);
    if (PyErr_Occurred()) return NULL;
    for (Py_ssize_t i = 0; i < n; i++, out += width)
        memcpy(out, table + levels[i] * width, (size_t)width * sizeof(float));
    Py_RETURN_NONE;
}

/* give(n, width, levels, rows, table): adds each row to the row of the table for its level. */
static PyObject *give(PyObject *self, PyObject *const *args, Py_ssize_t nargs) {
    if (nargs != 5) return PyErr_Format(PyExc_TypeError, "five arguments, got %zd", nargs);
    const Py_ssize_t n = PyLong_AsSsize_t(args[0]), width = PyLong_AsSsize_t(args[1]);
    const int64_t *levels = PyLong_AsVoidPtr(args[2]);
    const float *rows = PyLong_AsVoidPtr(args[3]);
    float *table = PyLong_AsVoidPtr(args[4]);
    if (PyErr_Occurred()) return NULL;
    for (Py_ssize_t i = 0; i < n; i++, rows += width) {
        float *to = table + levels[i] * width;
        for (Py_ssize_t k = 0; k < width; k++) to[k] += rows[k];
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"sums", (PyCFunction)(void (*)(void))sums, METH_FASTCALL, "Sums over the levels."},
    {"terms", (PyCFunction)(void (*)(void))terms, METH_FASTCALL, "The terms and their slopes."},
    {"gradient", (PyCFunction)(void (*)(void))gradient, METH_FASTCALL, "That of the radii."},
    {"take", (PyCFunction)(void (*)(void))take, METH_FASTCALL, "Rows of a table by level."},
    {"give", (PyCFunction)(void (*)(void))give, METH_FASTCALL, "Sums of rows by level."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_levels", "Terms of the loss on radii.", -1, methods,
    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__levels(void) { return PyModule_Create(&module); }
