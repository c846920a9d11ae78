/* The data path as Python sees it: flannel_worker._datapath, limited API of CPython 3.11. No packet comes this way. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>

#include "path.h"

typedef struct {
    PyObject_HEAD
    struct path *path;
} Path;

static struct path *open_path(PyObject *self)
{
    struct path *path = ((Path *)self)->path;
    if (path == NULL)
        PyErr_SetString(PyExc_ValueError, "the data path is closed");
    return path;
}

static PyObject *path_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"tun", "udp", "flight", "address", "port", "offload", "verify_source", NULL};
    struct path_options options;
    unsigned address, port;
    int offload, verify;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "iiiIIpp:Path", names, &options.tun, &options.udp,
                                     &options.flight, &address, &port, &offload, &verify))
        return NULL;
    options.address = address;
    options.port = (uint16_t)port;
    options.offload = offload != 0;
    options.verify_source = verify != 0;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *self = allocate(type, 0);
    if (self == NULL)
        return NULL;
    ((Path *)self)->path = path_start(&options);
    if (((Path *)self)->path == NULL) {
        Py_DECREF(self);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return self;
}

static void stop(Path *self)
{
    struct path *path = self->path;
    self->path = NULL;
    if (path == NULL)
        return;
    Py_BEGIN_ALLOW_THREADS
    path_stop(path);
    Py_END_ALLOW_THREADS
}

static void path_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    stop((Path *)self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyObject *path_close(PyObject *self, PyObject *Py_UNUSED(none))
{
    stop((Path *)self);
    Py_RETURN_NONE;
}

static PyObject *path_swap(PyObject *self, PyObject *table)
{
    struct path *path = open_path(self);
    char *rows;
    Py_ssize_t bytes;
    if (path == NULL || PyBytes_AsStringAndSize(table, &rows, &bytes) < 0)
        return NULL;
    if ((size_t)bytes % sizeof(struct peer_row) != 0) {
        PyErr_SetString(PyExc_ValueError, "a table of peers has three 32-bit numbers for each");
        return NULL;
    }
    size_t count = (size_t)bytes / sizeof(struct peer_row);
    for (size_t i = 0; i < count; i++) {
        struct peer_row row;
        memcpy(&row, rows + i * sizeof row, sizeof row);
        if (row.length > 32) {
            PyErr_SetString(PyExc_ValueError, "a prefix length above 32");
            return NULL;
        }
    }
    errno = ENOMEM;
    if (!path_replace(path, (const struct peer_row *)rows, count))
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *numbers(counter *of, Py_ssize_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; tuple != NULL && i < count; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(value_of(&of[i]));
        if (number == NULL || PyTuple_SetItem(tuple, i, number) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *path_counters(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct path *path = open_path(self);
    return path == NULL ? NULL : numbers(path->count, COUNTERS);
}

static PyObject *path_batches(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct path *path = open_path(self);
    if (path == NULL)
        return NULL;
    PyObject *tuple = PyTuple_New(BATCHES);
    for (Py_ssize_t i = 0; tuple != NULL && i < BATCHES; i++) {
        PyObject *buckets = numbers(path->batch[i], BATCH_BUCKETS);
        if (buckets == NULL || PyTuple_SetItem(tuple, i, buckets) < 0)
            Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *path_peers(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct path *path = open_path(self);
    if (path == NULL)
        return NULL;
    Py_ssize_t count = (Py_ssize_t)peers_count(&path->peers);
    PyObject *list = PyList_New(count);
    for (Py_ssize_t i = 0; list != NULL && i < count; i++) {
        struct peer *peer = peers_at(&path->peers, (size_t)i);
        PyObject *row = Py_BuildValue("(IIKKKK)", peer->row.base, peer->row.length, value_of(&peer->sent),
                                      value_of(&peer->sent_bytes), value_of(&peer->received),
                                      value_of(&peer->received_bytes));
        if (row == NULL || PyList_SetItem(list, i, row) < 0)
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *path_features(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct path *path = open_path(self);
    if (path == NULL)
        return NULL;
    return Py_BuildValue("{s:O,s:O,s:O,s:O}", "tcp segmentation", path->coalescer.tcp ? Py_True : Py_False,
                         "udp segmentation", path->coalescer.udp ? Py_True : Py_False, "UDP_SEGMENT",
                         atomic_load(&path->segment) ? Py_True : Py_False, "UDP_GRO", path->gro ? Py_True : Py_False);
}

static PyObject *path_resumed(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct path *path = open_path(self);
    return path == NULL ? NULL : PyBool_FromLong(path->resumed);
}

static PyObject *path_failed(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct path *path = open_path(self);
    return path == NULL ? NULL : PyLong_FromLong(atomic_load(&path->failed));
}

static PyObject *path_event_fd(PyObject *self, PyObject *Py_UNUSED(none))
{
    struct path *path = open_path(self);
    return path == NULL ? NULL : PyLong_FromLong(path->ended);
}

static PyMethodDef path_methods[] = {
    {"swap", path_swap, METH_O, "Replaces the peer table: base, length, address of each peer, as native uint32."},
    {"counters", path_counters, METH_NOARGS, "Values in the order of COUNTERS."},
    {"batches", path_batches, METH_NOARGS, "For sent, received, written: batches by size, in powers of two."},
    {"peers", path_peers, METH_NOARGS, "base, length, packets and bytes sent, packets and bytes received, of each."},
    {"features", path_features, METH_NOARGS, "Which offloads are on."},
    {"resumed", path_resumed, METH_NOARGS, "True when packets flow already, by the table of the worker before."},
    {"failed", path_failed, METH_NOARGS, "The errno that ended the path, 0 while it runs."},
    {"event_fd", path_event_fd, METH_NOARGS, "Readable once the path has ended by itself."},
    {"close", path_close, METH_NOARGS, "Stops the thread. The descriptors that were given stay open."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot path_slots[] = {
    {Py_tp_doc, "One thread between a TUN and a UDP socket; it starts with the first table of peers."},
    {Py_tp_new, path_new},
    {Py_tp_dealloc, path_dealloc},
    {Py_tp_methods, path_methods},
    {0, NULL},
};

static PyType_Spec path_spec = {
    .name = "flannel_worker._datapath.Path",
    .basicsize = sizeof(Path),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = path_slots,
};

static int add_names(PyObject *module)
{
#define AS_PAIR(symbol, name, meaning) {name, meaning},
    static const char *const counters[][2] = {OUT_VERDICTS(AS_PAIR) IN_VERDICTS(AS_PAIR) OTHER_COUNTERS(AS_PAIR)};
    PyObject *tuple = PyTuple_New(COUNTERS);
    for (Py_ssize_t i = 0; tuple != NULL && i < COUNTERS; i++) {
        PyObject *pair = Py_BuildValue("(ss)", counters[i][0], counters[i][1]);
        if (pair == NULL || PyTuple_SetItem(tuple, i, pair) < 0)
            Py_CLEAR(tuple);
    }
    int failed = tuple == NULL ? -1 : PyModule_AddObjectRef(module, "COUNTERS", tuple);
    Py_XDECREF(tuple);
    return failed;
}

static int execute(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&path_spec);
    if (type == NULL)
        return -1;
    int failed = PyModule_AddObjectRef(module, "Path", type);
    Py_DECREF(type);
    if (failed < 0 || PyModule_AddIntConstant(module, "FLIGHT_BYTES", sizeof(struct flight)) < 0)
        return -1;
    return add_names(module);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, execute}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_datapath",
    .m_doc = "The packet code of the udp backend.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__datapath(void)
{
    return PyModuleDef_Init(&definition);
}
