/* flannel_multi._pages, limited API of CPython 3.11. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "sharing.h"

static PyObject *pages_share(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    if (!share())
        return PyErr_SetFromErrno(PyExc_OSError);
    return PyLong_FromUnsignedLongLong(shared.bytes);
}

static PyObject *pages_give_back(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none))
{
    long given = give_back();
    return given < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(given);
}

static PyMethodDef functions[] = {
    {"share", pages_share, METH_NOARGS, NULL},
    {"give_back", pages_give_back, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "flannel_multi._pages",
    .m_size = -1, /* what is shared is the whole process's */
    .m_methods = functions,
};

PyMODINIT_FUNC PyInit__pages(void)
{
    blocks_from_heap(); /* at once: the sooner, the fewer that are left out */
    return PyModule_Create(&definition);
}
